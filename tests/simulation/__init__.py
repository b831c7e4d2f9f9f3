"""The real service in one process, on a virtual clock and a seeded network, crashed at will and judged by its history."""
