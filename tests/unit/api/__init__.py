"""The HTTP API over one fake application: the response to each request."""
