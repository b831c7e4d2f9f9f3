"""The real service in one process, on a virtual clock and a seeded network, with crashes, checked by its history."""
