"""Faults with real processes: kills, restarts, cut connections, full and read-only disks, clocks that jump."""
