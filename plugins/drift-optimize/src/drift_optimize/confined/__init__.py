"""Runs each job on a layer in a process of its own, so that no layer can harm the server."""
