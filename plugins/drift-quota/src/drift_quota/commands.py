"""The commands ``drift quota show`` and ``drift quota recount``."""

import asyncio
import getpass
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.progress_bar import ProgressBar
from rich.table import Column, Table

from drift_core.api import Config, Identity, configured, open_driver, open_registry
from drift_quota.quota import Quota
from drift_quota.report import MOST, Holder, report
from drift_quota.sizes import readable

T = TypeVar("T")

WARNING = 0.8
"""The share of a quota from which on its bar is no longer green."""


@click.group()
def quota() -> None:
    """Show how many bytes repositories and organizations hold and may hold, and count them again."""


@quota.command()
@click.option("--limit", type=click.IntRange(1, MOST), default=50, show_default=True, help="Rows of each kind.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, as GET /api/quota answers it.")
@configured
def show(settings: Config, *, limit: int, as_json: bool) -> None:
    """Show the organizations and repositories that hold the most."""

    async def read(quota: Quota) -> Any:
        most = MOST if as_json else limit
        return await quota.records.read(partial(report, limits=quota.limits, most=most))

    found = _with_quota(settings, read)
    if as_json:
        click.echo(msgspec.json.encode(found))
        return
    console = Console()
    for title, holders in (("Organization", found.organizations), ("Repository", found.repositories)):
        if holders:
            console.print(_table(title, holders))
    if not found.repositories:
        click.echo("no repository holds anything")
    if not found.complete:
        click.echo("not every repository is counted yet: these figures may be too low", err=True)


@quota.command()
@click.argument("repository", required=False)
@configured
def recount(settings: Config, *, repository: str | None) -> None:
    """Count what REPOSITORY holds, or else every repository, beside servers that run.

    It is needed where the database was changed by other hands: what changes while the plugin is not enabled is counted
    at the next start.
    """

    async def one(quota: Quota, name: str) -> None:
        counted = await quota.counting.count(name)
        click.echo(f"{name} holds {counted.held} bytes" + _difference(counted.before, counted.held))

    async def every(quota: Quota) -> None:
        number = corrected = 0
        async with open_registry(settings, Identity(getpass.getuser(), "command")) as registry:
            with Progress(console=Console(stderr=True), transient=True) as progress:
                task = progress.add_task("counting", total=None)
                async for _, counted in quota.counting.count_all(registry):
                    number += 1
                    corrected += counted.before not in (None, counted.held)
                    progress.update(task, completed=number, description=f"counting: {number} repositories")
        click.echo(f"counted {number} repositories; {corrected} held another size than was known")

    _with_quota(settings, every if repository is None else partial(one, name=repository))


def _with_quota(settings: Config, work: Callable[[Quota], Coroutine[Any, Any, T]]) -> T:
    async def run() -> T:
        async with open_driver(settings, "features", "quota") as quota:
            return await work(quota)

    return asyncio.run(run())


def _difference(before: int | None, held: int) -> str:
    if before is None:
        return "; it was not counted before"
    return "" if before == held else f"; it was thought to hold {before}"


def _table(title: str, holders: Sequence[Holder]) -> Table:
    right = [Column(name, justify="right", no_wrap=True) for name in ("Used", "Limit", "Share")]
    table = Table(Column(title, overflow="fold"), *right, Column("", width=20))
    for holder in holders:
        limit = "none" if holder.limit is None else readable(holder.limit)
        if holder.share is None:
            share, bar = "", ""
        else:
            colour = "red" if holder.share >= 1 else "yellow" if holder.share >= WARNING else "green"
            share = f"{holder.share:.0%}"
            bar = ProgressBar(1.0, min(1.0, holder.share), width=20, complete_style=colour, finished_style=colour)
        table.add_row(escape(holder.name), readable(holder.used), limit, share, bar)
    return table
