"""Breaks things for real: kills, full disks, cut connections, damaged files; and checks what is left."""
