"""Tests of domain.models."""
