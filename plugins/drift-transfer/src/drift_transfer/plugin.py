"""Offers the commands ``drift import`` and ``drift export``; imports nothing heavy until one of them is run."""

from collections.abc import Iterable

import click

from drift_core.api import hookimpl


@hookimpl
def drift_commands() -> Iterable[click.Command]:
    """Offers both."""
    from drift_transfer.commands import export_repositories, import_group

    return [import_group, export_repositories]
