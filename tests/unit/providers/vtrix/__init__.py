"""Tests of providers.vtrix."""
