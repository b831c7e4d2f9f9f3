"""Composition root, settings, periodic jobs, start and shutdown."""
