"""Finds the packages of this plugin's extras, without which it does most of its work."""

from importlib import import_module
from typing import Any


def optional(module: str) -> Any:
    """Returns a module, or None where the distribution that has it is not installed."""
    try:
        return import_module(module)
    except ImportError:
        return None
