"""Protocols of the adapters that the use cases need."""
