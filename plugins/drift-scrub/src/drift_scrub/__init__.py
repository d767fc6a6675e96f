"""Reads what a Drift registry has stored again, and finds what is damaged."""
