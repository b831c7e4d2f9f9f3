"""The real service in one process, on a virtual clock and a seeded network, crashed anywhere, checked by its history."""
