"""The commands ``drift optimize run | status | report | base``."""

import asyncio
import getpass
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Column, Table

from drift_core.api import (
    Config,
    Identity,
    LocalRegistry,
    RegistryError,
    StartError,
    configured,
    open_driver,
    open_registry,
)
from drift_optimize.jobs import Job, find, latest, take_one
from drift_optimize.lineage import Standing
from drift_optimize.optimization import Optimization
from drift_optimize.optimizing import Progress as Done
from drift_optimize.report import report_of
from drift_optimize.results import stats

T = TypeVar("T")

JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
SHOWN_JOBS = 20
REFRESH_SECONDS = 0.2


@click.group()
def optimize() -> None:
    """Make better forms of images beside those that were pushed."""


@optimize.command()
@click.argument("wanted", metavar="REPOSITORY[:TAG|@DIGEST]")
@JSON
@configured
def run(settings: Config, *, wanted: str, as_json: bool) -> None:
    """Work on an image, or on every tag of a repository, beside servers that run; ends with 1 where one failed."""
    repository, reference = _named(wanted)

    async def work(feature: Optimization, _: LocalRegistry) -> list[Job]:
        ended: list[Job] = []
        await feature.resume()
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        bars = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True, disable=as_json)
        with bars:
            for number in await feature.ask_for(repository, reference):
                job = await feature.records.write(partial(take_one, job=number))
                done = Done()
                # A server may have been sooner to take it.
                doing = asyncio.create_task(feature.ended(number) if job is None else feature.optimize(job, done))
                bar = bars.add_task(f"job {number}" if job is None else escape(job.tag or job.digest), total=None)
                while not doing.done():
                    await asyncio.wait([doing], timeout=REFRESH_SECONDS)
                    bars.update(bar, completed=done.done, total=done.total or None)
                await doing
                found = await feature.records.read(partial(find, job=number))
                ended += [] if found is None else [found]
        return ended

    ended = _with_optimization(settings, work)
    _show(ended, as_json=as_json)
    raise SystemExit(any(job.state == "failed" for job in ended))


@optimize.command()
@JSON
@configured
def status(settings: Config, *, as_json: bool) -> None:
    """Show the newest jobs, and what all of them have saved."""

    async def read(feature: Optimization, _: LocalRegistry) -> tuple[list[Job], Any]:
        page = partial(latest, state=None, before=None, limit=SHOWN_JOBS)
        return list(await feature.records.read(page)), await feature.records.read(stats)

    found, sums = _with_optimization(settings, read)
    if as_json:
        click.echo(msgspec.json.encode({"jobs": found, "stats": sums}))
        return
    _show(found, as_json=False)
    click.echo(
        f"{sums.optimized_layers} of {sums.total_layers} layers have another form, which is "
        f"{sums.total_savings} bytes smaller ({sums.compression_ratio:.3f} of the size)"
    )


@optimize.command()
@click.argument("wanted", metavar="REPOSITORY:TAG|@DIGEST")
@JSON
@configured
def base(settings: Config, *, wanted: str, as_json: bool) -> None:
    """Show on which known image an image stands; ends with 1 where a tag that it was built from has moved on."""
    repository, reference = _named(wanted)
    if reference is None:
        message = f"{wanted} names no tag and no digest"
        raise StartError(message)

    async def read(feature: Optimization, _: LocalRegistry) -> list[Standing]:
        return await feature.standing(repository, reference)

    found = _with_optimization(settings, read)
    if as_json:
        click.echo(msgspec.json.encode(found, enc_hook=str))
    for one in () if as_json else found:
        names = ", ".join(image.reference for image in one.base.images) if one.base else "nothing that is known"
        click.echo(f"{one.platform}: stands on {names}")
        for moved in one.outdated:
            click.echo(f"  {moved.reference} was {moved.was}, and names {moved.now.digest} by now")
    raise SystemExit(any(one.outdated for one in found))


@optimize.command()
@JSON
@configured
def report(settings: Config, *, as_json: bool) -> None:
    """Show what is stored twice: layers that unpack to the same, by repository and in all."""

    async def read(_: Optimization, registry: LocalRegistry) -> Any:
        return await report_of(registry)

    found = _with_optimization(settings, read)
    if as_json:
        click.echo(msgspec.json.encode(found))
        return
    right = [Column(name, justify="right") for name in ("Layers", "Bytes", "Twice", "Bytes")]
    table = Table(Column("Repository", overflow="fold"), *right)
    for one in (*found.repositories, found.all):
        numbers = (one.layers, one.bytes, one.duplicate_layers, one.duplicate_bytes)
        table.add_row(escape(one.name), *map(str, numbers))
    Console().print(table)


def _named(wanted: str) -> tuple[str, str | None]:
    """Takes the name of an image apart: the repository, and the tag or digest, None for neither."""
    mark = "@" if "@" in wanted else ":"
    repository, _, reference = wanted.partition(mark)
    return repository, reference or None


def _show(found: list[Job], *, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.encode(found))
        return
    right = Column("Saved", justify="right")
    table = Table(Column("Image", overflow="fold"), "", right, Column("Reason", overflow="fold"))
    for job in found:
        name = f"{job.repository}:{job.tag.replace(' ', ',')}" if job.tag else f"{job.repository}@{job.digest}"
        table.add_row(escape(name), job.state, str(job.saved), escape(job.message))
    if table.row_count:
        Console().print(table)


def _with_optimization(settings: Config, work: Callable[[Optimization, LocalRegistry], Coroutine[Any, Any, T]]) -> T:
    async def opened() -> T:
        identity = Identity(getpass.getuser(), "command")
        async with (
            open_registry(settings, identity) as registry,
            open_driver(settings, "features", "optimization") as feature,
        ):
            feature.use(registry)
            try:
                return await work(feature, registry)
            except RegistryError as error:
                raise StartError(error.message) from error

    return asyncio.run(opened())
