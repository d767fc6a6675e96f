"""Keeps copies of blobs on the disk of a node, before a store that lies elsewhere."""
