"""The models of the providers and their parameters."""
