"""Serves the profiles and plugins of Bolt, which are OCI artifacts of the registry."""
