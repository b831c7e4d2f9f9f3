"""Tests of runtime.config."""
