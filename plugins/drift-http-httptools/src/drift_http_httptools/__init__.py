"""HTTP/1.1 for Drift in the worker's own event loop, by httptools."""
