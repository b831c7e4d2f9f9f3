"""Handlers that come with the service, one file each. They import `from service import ...` and nothing deeper."""
