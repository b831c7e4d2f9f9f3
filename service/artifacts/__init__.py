"""Stored results: archives in directories and object stores, their content, and thumbnails."""
