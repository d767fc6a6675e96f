"""The commands `drift gc`: run the collector, look into the trash, bring something back, empty it."""

import json
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click
import msgspec
import uvloop
from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from drift_core.command import configured
from drift_core.config import Config
from drift_core.logs import configure_logs
from drift_core.model import Digest, Identity

if TYPE_CHECKING:
    from drift_core.metadata.trash import Thrown
    from drift_core.protocols.collection import Removal
    from drift_core.registry.collecting import Report, Status
    from drift_core.registry.registry import Registry
    from drift_core.registry.trash import Restored

OPERATOR = Identity("drift gc", "command")
"""Who does what these commands do, for the audit trail."""

SHOWN = 100
"""Things that a table lists one by one."""

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")


@click.group()
def gc() -> None:
    """Collect garbage, and bring back what was removed."""


@gc.command()
@click.option("--dry-run", is_flag=True, help="Only say what would be removed, and why.")
@JSON
@configured
def run(settings: Config, *, dry_run: bool, as_json: bool) -> None:
    """Remove what nothing reaches any more, beside servers that run or without one."""
    configure_logs(settings.logging)
    removals, report = uvloop.run(_run(settings, dry_run=dry_run, show=not as_json))
    if as_json:
        found = {"dry_run": dry_run, "metrics": report, "removals": removals}
        click.echo(json.dumps(msgspec.to_builtins(found, enc_hook=str), indent=2))
        return
    console = Console()
    console.print(_removals_table(removals))
    if len(removals) > SHOWN:
        console.print(f"and {len(removals) - SHOWN} more")
    sizes = Counter[str]()
    for removal in removals:
        sizes[removal.kind] += removal.size
    word = "would remove" if dry_run else "removed"
    console.print(
        f"{word} {report.manifests_deleted} manifests and {report.blobs_deleted} blobs ({decimal(sizes['blob'])});"
        f" {decimal(report.bytes_freed)} will be free when they cannot be restored any more"
    )


def _removals_table(removals: Sequence["Removal"]) -> Table:
    table = Table("Repository", "Kind", Column("Digest", no_wrap=True), Column("Size", justify="right"), "Why")
    for removal in removals[:SHOWN]:
        size = decimal(removal.size)
        table.add_row(removal.repository, removal.kind, removal.digest[:19], size, escape(removal.reason))
    return table


async def _run(settings: Config, *, dry_run: bool, show: bool) -> tuple[list["Removal"], "Report"]:
    from drift_core.registry.collecting import Report

    removals: list[Removal] = []
    report = Report()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TextColumn("{task.completed:,.0f}"))
    async with _opened(settings) as registry:
        with Progress(
            *columns, TimeElapsedColumn(), console=Console(stderr=True), disable=not show, transient=True
        ) as bar:
            task = bar.add_task("looking" if dry_run else "removed", total=None)
            async for item in registry.collecting.run("command", OPERATOR, dry_run=dry_run):
                if isinstance(item, Report):
                    report = item
                else:
                    removals.append(item)
                    bar.advance(task)
        if not dry_run:
            await registry.trash.purge(registry.write)
    return removals, report


@gc.command()
@JSON
@configured
def status(settings: Config, *, as_json: bool) -> None:
    """Show how the collector is configured, and what its last runs did."""
    found = uvloop.run(_status(settings))
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(found), indent=2))
        return
    right = [Column(name, justify="right") for name in ("Manifests", "Blobs", "Freed")]
    table = Table("Began", "By", "State", *right, "Message")
    for one in found.runs:
        state = f"{one.state}{' (dry run)' if one.dry_run else ''}"
        numbers = (str(one.manifests), str(one.blobs), decimal(one.bytes_freed))
        table.add_row(_moment(one.started_at), one.began_by, state, *numbers, escape(one.message))
    console = Console()
    console.print(table)
    console.print(f"{found.status}; {found.waiting} things may wait for the collector")


async def _status(settings: Config) -> "Status":
    async with _opened(settings) as registry:
        return await registry.collecting.status()


@gc.command()
@click.option("--repository", help="Only of this repository.")
@JSON
@configured
def trash(settings: Config, *, repository: str | None, as_json: bool) -> None:
    """List what was removed and can come back, the newest first."""
    found = uvloop.run(_trash(settings, repository, None, 0.0))
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(found, enc_hook=str), indent=2))
        return
    table = Table("Removed", "Repository", "Kind", Column("What", no_wrap=True), "Why")
    for one in found[:SHOWN]:
        what = one.digest[:19] if one.tag is None else f"{one.tag} -> {one.digest[:19]}"
        table.add_row(_moment(one.removed_at), one.repository or "", one.kind, escape(what), escape(one.reason))
    console = Console()
    console.print(table)
    if len(found) > SHOWN:
        console.print(f"and {len(found) - SHOWN} more")


async def _trash(settings: Config, repository: str | None, digest: Digest | None, since: float) -> list["Thrown"]:
    async with _opened(settings) as registry:
        return [one async for one in registry.trash.listed(repository, digest, since)]


@gc.command()
@click.argument("digest", required=False)
@click.option("--since", help="All that was removed since then: 30m, 2h, 3d, or a date such as 2026-11-29T12:00.")
@click.option("--repository", help="Only in this repository.")
@JSON
@configured
def restore(settings: Config, *, digest: str | None, since: str | None, repository: str | None, as_json: bool) -> None:
    """Bring back what was removed: an image with its layers, its tags and its signatures, by DIGEST or all --since.

    Ends with 1 where something could not come back.
    """
    if (digest is None) == (since is None):
        message = "give either a digest, or --since"
        raise click.UsageError(message)
    configure_logs(settings.logging)
    wanted = None if digest is None else Digest.parse(digest)
    moment = 0.0 if since is None else _since(since)
    done = uvloop.run(_restore(settings, repository, wanted, moment))
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(done, enc_hook=str), indent=2))
    elif done:
        table = Table("Repository", "Kind", Column("What", no_wrap=True), "Outcome")
        for one in done:
            what = one.digest[:19] if one.tag is None else f"{one.tag} -> {one.digest[:19]}"
            outcome = "[green]restored[/]" if one.problem is None else f"[red]{escape(one.problem)}[/]"
            table.add_row(one.repository, one.kind, escape(what), outcome)
        Console().print(table)
    else:
        click.echo("nothing of that is in the trash, or it is there again", err=True)
    raise SystemExit(not done or any(one.problem is not None for one in done))


async def _restore(settings: Config, repository: str | None, digest: Digest | None, since: float) -> list["Restored"]:
    done: list[Restored] = []
    async with _opened(settings) as registry:
        found = [one async for one in registry.trash.listed(repository, digest, since)]
        # A manifest brings its parts; what is left of the rest comes by itself.
        order = {"manifest": 0, "tag": 1, "blob": 2}
        for thrown in sorted(found, key=lambda one: (order[one.kind], -one.removed_at)):
            done += await registry.trash.restore(thrown, OPERATOR)
    return list(dict.fromkeys(done))


@gc.command()
@click.option("--all", "at_once", is_flag=True, help="Also what could be restored, but not what was just removed.")
@configured
def purge(settings: Config, *, at_once: bool) -> None:
    """Remove for ever what cannot be restored any more, and its bytes."""
    configure_logs(settings.logging)
    click.echo(f"purged {uvloop.run(_purge(settings, at_once=at_once))} things")


async def _purge(settings: Config, *, at_once: bool) -> int:
    async with _opened(settings) as registry:
        return await registry.trash.purge(registry.write, at_once=at_once)


@asynccontextmanager
async def _opened(settings: Config) -> AsyncIterator["Registry"]:
    from drift_core.plugins import load_plugins
    from drift_core.runtime import open_for_command

    async with open_for_command(settings, load_plugins(settings)) as runtime:
        yield runtime.registry


def _since(text: str) -> float:
    match = re.fullmatch(r"(\d{1,9})([smhd])", text)
    if match is not None:
        return time.time() - int(match[1]) * SECONDS[match[2]]
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError as error:
        message = f"{text!r} is neither a duration such as 2h nor a date"
        raise click.BadParameter(message, param_hint="--since") from error


def _moment(seconds: float) -> Any:
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
