"""Logs people in to a Drift registry by user name and password."""
