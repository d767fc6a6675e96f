"""Moves images into a Drift registry, and out of it."""
