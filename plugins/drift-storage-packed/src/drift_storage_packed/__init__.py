"""Keeps what a Drift registry stores packed, and serves it as it was pushed."""
