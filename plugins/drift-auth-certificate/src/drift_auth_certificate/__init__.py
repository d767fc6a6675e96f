"""Logs clients in to a Drift registry by their TLS certificates."""
