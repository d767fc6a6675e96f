"""Drives real clients against one running registry: each pulls, byte for byte, what another pushed."""
