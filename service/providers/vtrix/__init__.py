"""Vtrix's gateway."""
