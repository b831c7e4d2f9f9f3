"""Security tests: every attempt is a function that returns the result, or raises when the attack succeeded."""
