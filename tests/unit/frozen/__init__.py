"""Freezes every word that is data: stored words, metrics, addresses, fields, settings, commands.

The tests look at the service from outside: a running process, its database, its documents, its command line. They
survive moves and renames inside. What they must import is in `internals.py`.
"""
