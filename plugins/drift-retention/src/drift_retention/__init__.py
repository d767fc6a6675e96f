"""Removes tags of a Drift registry that no rule keeps."""
