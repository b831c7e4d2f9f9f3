"""Tests of providers.vidu."""
