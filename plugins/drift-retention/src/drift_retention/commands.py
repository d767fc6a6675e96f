"""The commands ``drift retention explain`` and ``drift retention run``."""

import asyncio
import getpass
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Column, Table

from drift_core.api import (
    Config,
    Identity,
    LocalRegistry,
    StartError,
    Unavailable,
    configured,
    open_driver,
    open_registry,
)
from drift_retention.dropping import Drop
from drift_retention.judging import Judged
from drift_retention.retention import Retention
from drift_retention.runs import Run

T = TypeVar("T")

SHOWN = 200
"""Tags that a table of a run lists one by one."""

JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object per tag.")


@click.group()
def retention() -> None:
    """Drop tags that no rule keeps, and see why one is kept."""


@retention.command()
@click.argument("wanted", metavar="REPOSITORY[:TAG]")
@JSON
@configured
def explain(settings: Config, *, wanted: str, as_json: bool) -> None:
    """Show for each tag of REPOSITORY, or for TAG, whether it is kept, and what every rule says of it."""
    repository, _, tag = wanted.partition(":")

    async def judge(retention: Retention, registry: LocalRegistry) -> list[Judged]:
        await _check_known(registry, repository)
        return [one for one in await retention.judge(registry, repository) if tag in ("", one.tag)]

    judged = _with_retention(settings, judge)
    if tag and not judged:
        message = f"{repository} has no tag {tag}"
        raise StartError(message)
    if as_json:
        for one in judged:
            _print({"repository": repository, **msgspec.to_builtins(one, enc_hook=str), "reason": one.reason})
        return
    table = Table("Tag", "", Column("Rule", overflow="fold"), Column("Says", overflow="fold"))
    for one in judged:
        verdict = "[green]kept[/]" if one.kept else "[red]dropped[/]"
        for finding in one.findings:
            mark = "[green]keeps[/]" if finding.keeps else ""
            table.add_row(escape(one.tag), verdict, escape(finding.rule), f"{escape(finding.reason)} {mark}".rstrip())
            verdict = ""
        table.add_section()
    Console().print(table)


@retention.command()
@click.option("--dry-run", is_flag=True, help="Only say what would be dropped.")
@click.option("--repository", help="Only this one.")
@JSON
@configured
def run(settings: Config, *, dry_run: bool, repository: str | None, as_json: bool) -> None:
    """Drop the tags that no rule keeps now, beside servers that run; ends with 1 where one could not be dropped.

    The images stay until garbage is collected, and `drift gc restore` brings them back.
    """
    shown = _Drops(dry_run=dry_run, as_json=as_json)

    async def drop(retention: Retention, registry: LocalRegistry) -> Run:
        done = Run(began_at=time.time())
        if repository is not None:
            await _check_known(registry, repository)
        names = [name async for name in registry.repositories()] if repository is None else [repository]
        with _progress(quiet=as_json) as bar:
            for name in bar.track(names, description="judging"):
                async for one in retention.drop(registry, name, done, dry_run=dry_run):
                    shown.add(one)
        if repository is None:
            await retention.finish(done, dry_run=dry_run)
        return done

    done = _with_retention(settings, drop)
    shown.end(done)
    raise SystemExit(bool(done.failed))


class _Drops:
    """Shows what came of tags: for programs at once, for people the first of them in a table."""

    def __init__(self, *, dry_run: bool, as_json: bool) -> None:
        self._dropped = "would be dropped" if dry_run else "dropped"
        self._as_json = as_json
        self._table = Table("Repository", "Tag", "", Column("Reason", overflow="fold"))
        self._more = 0

    def add(self, drop: Drop) -> None:
        if self._as_json:
            _print(msgspec.to_builtins(drop))
        elif self._table.row_count < SHOWN:
            outcome = {"dropped": self._dropped, "refused": "kept"}.get(drop.outcome, drop.outcome)
            self._table.add_row(escape(drop.repository), escape(drop.tag), outcome, escape(drop.reason))
        else:
            self._more += 1

    def end(self, done: Run) -> None:
        if self._as_json:
            return
        if self._table.row_count:
            Console().print(self._table)
        if self._more:
            click.echo(f"and {self._more} more, which --json prints, too")
        click.echo(
            f"{done.tags} tags in {done.repositories} repositories: {done.dropped} {self._dropped}, "
            f"{done.refused} may not be deleted, {done.failed} failed"
        )


def _progress(*, quiet: bool) -> Progress:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal)


async def _check_known(registry: LocalRegistry, repository: str) -> None:
    async for _ in registry.tags(repository):
        return
    async for name in registry.repositories():
        if name == repository:
            return
    message = f"there is no repository {repository}"
    raise StartError(message)


def _with_retention(settings: Config, work: Callable[[Retention, LocalRegistry], Coroutine[Any, Any, T]]) -> T:
    async def opened() -> T:
        identity = Identity(getpass.getuser(), "command")
        async with (
            open_registry(settings, identity) as registry,
            open_driver(settings, "features", "retention") as retention,
        ):
            try:
                return await work(retention, registry)
            except Unavailable as error:
                raise StartError(error.message) from error

    return asyncio.run(opened())


def _print(value: object) -> None:
    click.echo(msgspec.json.encode(value))
