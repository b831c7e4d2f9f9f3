"""Upgrades: databases of earlier releases, and their processes that run in parallel to the current release."""
