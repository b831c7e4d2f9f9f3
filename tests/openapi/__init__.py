"""Tests of the real service against its OpenAPI document."""
