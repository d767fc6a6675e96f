"""Puts a token where docker, and every client that reads docker's configuration, finds it."""

import json
import os
from base64 import b64encode
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import click

USERNAME = "drift"
"""Stands before the token; Drift takes any, docker's files allow no colon in it."""


def docker_config_file() -> Path:
    """Returns docker's configuration file."""
    return Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"


def check(file: Path, registry: str) -> dict[str, Any]:
    """Returns what the file has, into which a login to ``registry``, as ``host:port``, can be written.

    Raises:
        ClickException: the file is no configuration of docker's, or says that a program keeps the passwords.
    """
    document = _read(file)
    helper = _table(document, "credHelpers").get(registry) or document.get("credsStore")
    if helper:
        raise click.ClickException(
            f"docker keeps its passwords with docker-credential-{helper}; log in by: "
            f"drift login --print URL | docker login -u {USERNAME} --password-stdin {registry}"
        )
    return document


def store(file: Path, registry: str, token: str) -> None:
    """Writes a login beside those that are there, readable by its owner alone. Raises like `check`."""
    document = check(file, registry)
    login = b64encode(f"{USERNAME}:{token}".encode()).decode()
    document["auths"] = {**_table(document, "auths"), registry: {"auth": login}}
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with NamedTemporaryFile("w", dir=file.parent, prefix=".config-", delete=False) as temporary:
            try:
                json.dump(document, temporary, indent="\t")
                temporary.flush()
                os.fsync(temporary.fileno())
                Path(temporary.name).replace(file)
            except BaseException:
                Path(temporary.name).unlink()
                raise
    except OSError as error:
        raise click.ClickException(f"{file} cannot be written: {error.strerror}") from error


def _read(file: Path) -> dict[str, Any]:
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise click.ClickException(f"{file} cannot be read: {type(error).__name__}") from error
    if not isinstance(document, dict):
        raise click.ClickException(f"{file} is no configuration of docker's")
    return {str(key): value for key, value in document.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


def _table(document: dict[str, Any], key: str) -> dict[str, Any]:
    value = document.get(key)
    return value if isinstance(value, dict) else {}  # pyright: ignore[reportUnknownVariableType]
