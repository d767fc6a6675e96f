"""The commands ``drift scrub run`` and ``drift scrub status``."""

import asyncio
import getpass
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

import click
import msgspec
from msgspec import Struct
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Column, Table

from drift_core.api import (
    Config,
    Identity,
    LocalRegistry,
    Quarantined,
    StartError,
    Unavailable,
    configured,
    open_driver,
    open_registry,
)
from drift_scrub.passes import Pass, finish, load
from drift_scrub.scrub import Scrub
from drift_scrub.walking import Checked

T = TypeVar("T")


class Status(Struct, frozen=True):
    """What ``drift scrub status --json`` prints; ``current`` is None between two passes, ``last`` before the first."""

    current: Pass | None
    last: Pass | None
    quarantined: list[Quarantined]


@click.group()
def scrub() -> None:
    """Read what is stored again, and find what is damaged."""


@scrub.command()
@click.option("--rate", type=click.FloatRange(0), metavar="MB/S", help="How fast; 0 is no limit.")
@configured
def run(settings: Config, *, rate: float | None) -> None:
    """Read every stored blob now, beside servers that run; ends with 1 where one is damaged or cannot be read.

    What is damaged is put in quarantine: to clients it is unknown until somebody pushes it again.
    """

    async def walk(scrub: Scrub, registry: LocalRegistry) -> tuple[Pass, list[Checked]]:
        pass_, bad = Pass.new(), list[Checked]()
        columns = ("reading", BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            total = sum([blob.size async for blob in registry.stored_blobs()])
            task = progress.add_task("reading", total=total)
            speed = scrub.config.rate_mb_per_second if rate is None else rate
            async for checked in scrub.check(registry, pass_, speed):
                progress.advance(task, checked.size)
                if checked.outcome in ("damaged", "unreadable"):
                    bad.append(checked)
        await scrub.records.write(partial(finish, pass_=pass_))
        return pass_, bad

    pass_, bad = _with_scrub(settings, walk)
    if bad:
        table = Table(Column("Blob", overflow="fold"), "", Column("Reason", overflow="fold"))
        for checked in bad:
            table.add_row(str(checked.digest), checked.outcome, escape(checked.reason))
        Console().print(table)
    click.echo(
        f"read {pass_.checked} blobs, {pass_.bytes_read} bytes; "
        f"{pass_.damaged} damaged and in quarantine, {pass_.unreadable} could not be read"
    )
    raise SystemExit(bool(bad))


@scrub.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@configured
def status(settings: Config, *, as_json: bool) -> None:
    """Show how far the reading has come, and what is in quarantine."""

    async def read(scrub: Scrub, registry: LocalRegistry) -> Status:
        current = await scrub.records.read(partial(load, name="current"))
        last = await scrub.records.read(partial(load, name="last"))
        return Status(current, last, [one async for one in registry.quarantined()])

    found = _with_scrub(settings, read)
    if as_json:
        click.echo(msgspec.json.encode(found, enc_hook=str))
        return
    console = Console()
    right = [Column(name, justify="right") for name in ("Blobs", "Bytes", "Damaged", "Unreadable")]
    table = Table("Pass", "Began", "As of", *right)
    for name, pass_ in (("current", found.current), ("last complete", found.last)):
        if pass_ is not None:
            numbers = (pass_.checked, pass_.bytes_read, pass_.damaged, pass_.unreadable)
            table.add_row(name, _time(pass_.began_at), _time(pass_.updated_at), *map(str, numbers))
    if table.row_count:
        console.print(table)
    else:
        click.echo("nothing was read yet")
    if not found.quarantined:
        click.echo("nothing is in quarantine")
        return
    table = Table(Column("In quarantine", overflow="fold"), "Since", Column("Reason", overflow="fold"))
    for one in found.quarantined:
        table.add_row(str(one.digest), _time(one.since), escape(one.reason))
    console.print(table)


def _with_scrub(settings: Config, work: Callable[[Scrub, LocalRegistry], Coroutine[Any, Any, T]]) -> T:
    async def opened() -> T:
        identity = Identity(getpass.getuser(), "command")
        async with (
            open_registry(settings, identity) as registry,
            open_driver(settings, "features", "scrub") as scrub,
        ):
            try:
                return await work(scrub, registry)
            except Unavailable as error:
                raise StartError(error.message) from error

    return asyncio.run(opened())


def _time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%SZ}"
