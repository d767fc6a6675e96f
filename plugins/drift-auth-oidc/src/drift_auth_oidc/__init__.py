"""Logs people in to a Drift registry by OpenID providers, Azure, Google and GitHub."""
