"""A state machine over the real stores, compared with a small model."""
