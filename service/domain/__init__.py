"""What only computes: no HTTP, database, clock, randomness or logging."""
