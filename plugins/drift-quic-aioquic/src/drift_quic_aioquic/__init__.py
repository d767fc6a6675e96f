"""Serves the registry over QUIC: HTTP/3 for the whole API, and the message set of drift-registry."""
