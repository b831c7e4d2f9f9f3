"""Pure computation: no HTTP, database, clock, randomness or logging."""
