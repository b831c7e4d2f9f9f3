"""From a callback's bytes to a recorded update."""
