"""Shows a `Tally`: a bar while the command runs, a table at its end, or JSON for programs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import click
import msgspec
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Column, Table

from drift_transfer.tally import Tally

REFRESH_SECONDS = 0.2

SHOWN_FAILURES = 100
"""Failures that people are shown one by one; programs get `KEPT_FAILURES`."""


@asynccontextmanager
async def progress(tally: Tally, *, quiet: bool) -> AsyncIterator[None]:
    """Shows how far the command is, on a terminal. How much there is to do turns out as it goes on."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task("", total=None)

        async def refresh() -> None:
            while True:
                manifests = tally.manifests
                done = f"{tally.repositories} repositories, {manifests.copied + manifests.there} manifests"
                failed = f", [red]{tally.failed} failed[/]" if tally.failed else ""
                bar.update(task, description=done + failed, completed=tally.received, total=tally.planned or None)
                await asyncio.sleep(REFRESH_SECONDS)

        refreshing = asyncio.create_task(refresh())
        try:
            yield
        finally:
            refreshing.cancel()


def show(tally: Tally, *, dry_run: bool, as_json: bool) -> None:
    """Prints what was done, or would be, and what failed and why."""
    if as_json:
        # How far it is matters only meanwhile.
        done = {
            name: value for name, value in msgspec.to_builtins(tally).items() if name not in {"planned", "received"}
        }
        click.echo(msgspec.json.encode(done | {"dry_run": dry_run}))
        return
    for failure in tally.failures[:SHOWN_FAILURES]:
        click.echo(f"failed: {failure}", err=True)
    if tally.failed > SHOWN_FAILURES:
        click.echo(f"failed: {tally.failed - SHOWN_FAILURES} more; --json has them", err=True)
    numbers = [
        Column(name, justify="right") for name in ("To copy" if dry_run else "Copied", "Already there", "Failed")
    ]
    table = Table("", *numbers)
    for name, count in (("Tags", tally.tags), ("Manifests", tally.manifests), ("Blobs", tally.blobs)):
        table.add_row(name, f"{count.copied:,}", f"{count.there:,}", f"{count.failed:,}")
    Console().print(table)
    click.echo(f"{tally.repositories:,} repositories, {decimal(tally.bytes)} {'to copy' if dry_run else 'copied'}")
