"""Black-box tests of the distribution API against a real server."""
