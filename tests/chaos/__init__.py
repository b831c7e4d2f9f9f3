"""Faults injected into real processes: kills, restarts, cut connections, full and read-only disks, clock jumps."""
