"""The console of a Drift registry: pages for browsers, made on the server."""
