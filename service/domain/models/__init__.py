"""The models of the provider: one class of parameters for each, and their validation."""
