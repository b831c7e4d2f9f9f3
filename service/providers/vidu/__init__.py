"""Adapter of Vidu's own API."""
