"""Limits of media files, and readers of their headers."""
