"""${summary} for the Drift container registry."""
