"""Vidu's own API."""
