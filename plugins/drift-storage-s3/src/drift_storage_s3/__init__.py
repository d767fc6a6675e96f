"""Keeps the blobs of a Drift registry in an object store: S3, or GhostBay."""
