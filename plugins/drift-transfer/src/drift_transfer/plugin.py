"""Offers the commands ``drift import`` and ``drift export``; imports nothing heavy until one of them is run."""

from collections.abc import Iterable

import click

from drift_core.api import deferred, hookimpl


@hookimpl
def drift_commands() -> Iterable[click.Command]:
    """Offers both."""
    return [
        deferred(
            "import",
            "Copy images from elsewhere into this registry, beside servers that run or without one.",
            "drift_transfer.commands:import_group",
        ),
        deferred(
            "export",
            "Write repositories as OCI image layouts: REPOSITORY into the folder PATH/REPOSITORY. Without one, all.",
            "drift_transfer.commands:export_repositories",
        ),
    ]
