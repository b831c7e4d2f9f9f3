"""Freeze every word that is data: stored words, metrics, HTTP paths, fields, settings, commands.

The tests observe the service from outside: a running process, its database, its OpenAPI document, its command line.
They survive moves and renames inside. Internal imports stand in `internals.py` only.
"""
