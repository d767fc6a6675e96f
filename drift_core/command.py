"""What every command of the CLI takes, of the core and of plugins: the configuration."""

import os
from collections.abc import Callable
from pathlib import Path
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
