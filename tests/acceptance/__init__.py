"""Acceptance tests: the whole service in real processes."""
