"""The command `boomerang demo`."""
