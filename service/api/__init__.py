"""The HTTP API: endpoints call use cases and convert their results and errors into responses."""
