"""From an event to a handler: API, slots, attempts, dead letters."""
