"""Rules and data types that only compute: no input or output, clock, randomness or logging."""
