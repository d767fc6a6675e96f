"""Removes from a Drift registry what nothing reaches any more, while it serves."""
