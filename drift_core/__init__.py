"""Drift: an OCI registry made of a small core and plugins; a plugin imports `drift_core.api` and nothing else."""

from importlib.metadata import version

__version__ = version("drift-core")
