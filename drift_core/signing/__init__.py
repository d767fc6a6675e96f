"""Signatures: made by key, found, judged, remembered, and asked for before a pull."""
