"""Signatures in a registry: made, found, judged, remembered, and asked for before a pull."""
