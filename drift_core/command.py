"""What commands of the CLI have in common, of the core and of plugins: the configuration, and that they start fast."""

import os
from collections.abc import Callable
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import click

from drift_core import config
from drift_core.config import Config


def configured(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds ``--config`` and ``--set`` to a click command and passes the loaded `Config` first."""

    def load(path: Path | None, settings: tuple[str, ...]) -> Config:
        return config.load(path, os.environ, settings)

    @click.option(
        "--config",
        "-c",
        "path",
        type=click.Path(path_type=Path, dir_okay=False),
        envvar="DRIFT_CONFIG",
        help="The TOML file; without it the defaults and the environment count.",
    )
    @click.option("--set", "settings", multiple=True, metavar="SECTION.KEY=VALUE", help="Overrides one value.")
    def with_config(path: Path | None, settings: tuple[str, ...], **options: Any) -> Any:
        return command(load(path, settings), **options)

    with_config.__name__ = command.__name__
    with_config.__doc__ = command.__doc__
    with_config.__click_params__ = [*getattr(command, "__click_params__", []), *with_config.__click_params__]  # type: ignore[attr-defined]
    return with_config


def deferred(name: str, summary: str, place: str) -> click.Command:
    """Returns a command that is imported once somebody runs it, or asks for its help.

    Whatever is run, `drift` asks every plugin for its commands: those that need much are offered by this. ``summary``
    is the help of the command itself, shown where commands are listed; ``place`` is where the command is, such as
    ``"acme.commands:hello"``. What its import raises is raised when it is run.
    """
    return _Deferred(name, summary, place)


class _Deferred(click.Command):
    def __init__(self, name: str, summary: str, place: str) -> None:
        super().__init__(name, help=summary)
        self._place = place

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Returns the context of the command itself, with which click goes on."""
        command: click.Command = resolve_name(self._place)
        return command.make_context(info_name, args, parent, **extra)
