"""One part of the service at a time."""
