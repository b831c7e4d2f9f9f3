"""The service under attack: every attempt is a function that says what happened, or raises when it got through."""
