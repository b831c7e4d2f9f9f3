"""A state machine over the real stores, and a small model of what they must hold."""
