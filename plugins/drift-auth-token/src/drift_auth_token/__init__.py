"""Issues and takes tokens for a Drift registry: the Docker token protocol, robots, personal access tokens."""
