"""The dashboard: pages for people over the use cases of the API."""
