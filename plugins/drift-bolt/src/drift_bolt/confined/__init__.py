"""Looks into libraries of anybody in a process of its own, so that none can harm the server."""
