"""Adapter of the Vtrix gateway."""
