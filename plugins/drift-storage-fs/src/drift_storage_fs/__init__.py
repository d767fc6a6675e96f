"""Keeps the blobs of a Drift registry as plain files."""
