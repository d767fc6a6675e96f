"""Limits how many bytes the repositories and organizations of a Drift registry hold."""
