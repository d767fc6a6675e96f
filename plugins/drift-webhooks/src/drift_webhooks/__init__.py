"""Tells other programs over HTTP what is pushed to a Drift registry, and deleted."""
