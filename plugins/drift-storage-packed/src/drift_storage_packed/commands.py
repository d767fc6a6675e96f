"""The commands ``drift packed status``, ``drift packed run`` and ``drift packed unpack``."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Column, Table

from drift_core.api import Config, StartError, Unavailable, configured, open_driver
from drift_storage_packed.forms import Pass, totals
from drift_storage_packed.packing import Packed
from drift_storage_packed.store import PackedStore

T = TypeVar("T")

COLUMNS = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())


@click.group()
def packed() -> None:
    """Keep what is stored packed, and see what that gains."""


@packed.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@configured
def status(settings: Config, *, as_json: bool) -> None:
    """Show what lies packed, and what was left as it is."""
    found = _with_store(settings, lambda store: store.records.read(totals))
    if as_json:
        click.echo(msgspec.json.encode(found))
        return
    right = [Column(name, justify="right") for name in ("Blobs", "Bytes before", "Bytes packed", "Saved")]
    table = Table("", *right)
    saved = f"{1 - found.packed_size / found.size:.0%}" if found.size else ""
    table.add_row("packed", *map(str, (found.blobs, found.size, found.packed_size, saved)))
    for reason, number in found.skipped.items():
        table.add_row(reason, str(number), "", "", "")
    Console().print(table)


@packed.command()
@click.option("--rate", type=click.FloatRange(0), metavar="MB/S", help="How fast; 0 is no limit.")
@configured
def run(settings: Config, *, rate: float | None) -> None:
    """Look through the store now, beside servers that run, and pack what gains by it.

    Originals stay for keep_original_minutes; the next run, or the server, takes them away.
    """

    async def work(store: PackedStore) -> list[Packed]:
        return await _shown(store.packer.run(Pass.new(), rate), "packing", None)

    found = _with_store(settings, work)
    made = [one for one in found if one.outcome == "packed"]
    before, after = sum(one.size for one in made), sum(one.packed_size for one in made)
    click.echo(f"packed {len(made)} of {len(found)} blobs that were looked at: {before} bytes are now {after}")
    _end_with(found, "damaged", "failed")


@packed.command()
@configured
def unpack(settings: Config) -> None:
    """Bring everything back as it was pushed, so that the layer can be removed; goes on where it was ended.

    Servers that run with storage.packed.pack = true would pack it again: set that to false first.
    """

    async def work(store: PackedStore) -> tuple[list[Packed], int]:
        total = (await store.records.read(totals)).size
        found = await _shown(store.packer.unpack(), "unpacking", total)
        return found, (await store.records.read(totals)).blobs

    found, left = _with_store(settings, work)
    click.echo(f"brought back {sum(one.outcome == 'packed' for one in found)} blobs; {left} are still packed")
    _end_with(found, "damaged", "failed")
    raise SystemExit(bool(left))


async def _shown(outcomes: AsyncIterator[Packed], what: str, total: int | None) -> list[Packed]:
    found: list[Packed] = []
    with Progress(what, *COLUMNS, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=total)
        async for one in outcomes:
            progress.advance(task, one.size)
            found.append(one)
    return found


def _end_with(found: list[Packed], *bad: str) -> None:
    """Names the blobs that went wrong; ends the program where there are some."""
    wrong = [one for one in found if one.outcome in bad]
    for one in wrong:
        click.echo(f"{one.digest}: {one.outcome}", err=True)
    if wrong:
        raise SystemExit(1)


def _with_store(settings: Config, work: Callable[[PackedStore], Coroutine[Any, Any, T]]) -> T:
    async def opened() -> T:
        async with open_driver(settings, "storage", "packed") as store:
            try:
                return await work(store)
            except Unavailable as error:
                raise StartError(error.message) from error

    return asyncio.run(opened())
