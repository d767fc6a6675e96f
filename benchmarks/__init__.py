"""Measurements, by hand and beside peers: what they say is in the README."""
