"""The real service in one process, on a virtual clock and a seeded network, crashed at will, judged by its history."""
