"""The commands `drift sign` and `drift verify`, beside servers that run or without one."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click
import msgspec
import uvloop
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from drift_core.command import configured
from drift_core.config import Config
from drift_core.logs import configure_logs
from drift_core.model import Identity

if TYPE_CHECKING:
    from drift_core.signing.signing import Made, Signing, Verified

OPERATOR = Identity("drift sign", "command")
"""Who signs by this command, for the audit trail."""

JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
IMAGE = click.argument("image", metavar="REPOSITORY[@DIGEST|:TAG]")


@click.command()
@IMAGE
@click.option("--key", "key_id", metavar="ID", help="One of signing.signing_keys; else signing.default_key_id.")
@click.option("--format", "formats", multiple=True, metavar="NAME", help="Only in this format; may be repeated.")
@click.option("--annotation", "annotations", multiple=True, metavar="NAME=VALUE", help="Sign this, too.")
@JSON
@configured
def sign(
    settings: Config,
    *,
    image: str,
    key_id: str | None,
    formats: tuple[str, ...],
    annotations: tuple[str, ...],
    as_json: bool,
) -> None:
    """Sign a manifest of this registry, where the clients of each format look for it."""
    configure_logs(settings.logging)
    repository, reference = _parts(image)
    said = dict(_pair(annotation) for annotation in annotations)
    made = uvloop.run(_sign(settings, repository, reference, key_id, formats, said))
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(made, enc_hook=str), indent=2))
        return
    table = Table("Format", Column("Artifact", no_wrap=True), "Tag", "")
    for one in made:
        table.add_row(
            one.format, one.digest[:19], (one.tag or "")[:24], "was there already" if one.already else "pushed"
        )
    Console().print(table)


async def _sign(
    settings: Config,
    repository: str,
    reference: str,
    key_id: str | None,
    formats: Sequence[str],
    annotations: dict[str, str],
) -> list["Made"]:
    async with _opened(settings) as signing:
        return await signing.sign(repository, reference, key_id, formats, annotations, OPERATOR)


@click.command()
@IMAGE
@JSON
@configured
def verify(settings: Config, *, image: str, as_json: bool) -> None:
    """Judge the signatures of a manifest by the policy of its repository; ends with 1 where they are not enough."""
    configure_logs(settings.logging)
    found = uvloop.run(_verify(settings, *_parts(image)))
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(found, enc_hook=str), indent=2))
        raise SystemExit(not found.verified)
    table = Table("Signature", "Format", "Key or identity", "Algorithm", "Signed", "Verdict", "Reason")
    for one in found.signatures:
        table.add_row(
            one.artifact[:19],
            one.format,
            escape(one.key_id or one.signer or ""),
            one.algorithm or "",
            "" if one.signed_at is None else _moment(one.signed_at),
            "[green]counts[/]" if one.trusted else "[yellow]valid[/]" if one.valid else "[red]refused[/]",
            escape("; ".join((*one.errors, *one.warnings))),
        )
    console = Console()
    console.print(table)
    verdict = "[green]enough[/]" if found.verified else f"[red]not enough[/]: {escape(found.reason)}"
    needed = "required" if found.required else "not required"
    console.print(f"{escape(found.repository)}@{found.digest[:19]}: {verdict} ({needed} for a pull)")
    raise SystemExit(not found.verified)


async def _verify(settings: Config, repository: str, reference: str) -> "Verified":
    async with _opened(settings) as signing:
        return await signing.verify(repository, reference)


@asynccontextmanager
async def _opened(settings: Config) -> AsyncIterator["Signing"]:
    from drift_core.plugins import load_plugins
    from drift_core.runtime import open_for_command

    async with open_for_command(settings, load_plugins(settings)) as runtime:
        yield runtime.signing


def _parts(image: str) -> tuple[str, str]:
    """Returns the repository, and the digest or tag, which is ``latest`` where there is none."""
    from drift_core.registry.rules import check_name

    repository, found, reference = image.partition("@")
    if not found:
        repository, _, reference = image.partition(":")
    return check_name(repository), reference or "latest"


def _pair(annotation: str) -> tuple[str, str]:
    name, found, value = annotation.partition("=")
    if not found or not name:
        message = f"{annotation!r} is not NAME=VALUE"
        raise click.BadParameter(message, param_hint="--annotation")
    return name, value


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M")
