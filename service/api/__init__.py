"""The HTTP edge: requests become calls of the use-cases, and what they return or raise becomes answers."""
