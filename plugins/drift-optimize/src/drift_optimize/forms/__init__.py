"""Reads layers, and writes the same tar in other forms; only in a process of its own, see `drift_optimize.confined`.

Nothing here imports the core: the process must start fast and stay small.
"""
