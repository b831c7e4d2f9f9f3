"""Limits of media files and what their headers say."""
