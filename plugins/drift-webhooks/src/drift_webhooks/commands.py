"""The commands ``drift webhooks list``, ``aside``, ``retry`` and ``test``."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from drift_core.api import Config, configured, open_driver
from drift_webhooks.message import TRIAL, trial_of
from drift_webhooks.queue import MOST, aside, retry
from drift_webhooks.routes import statuses
from drift_webhooks.sending import NotTaken, Sender
from drift_webhooks.webhooks import Webhooks

T = TypeVar("T")


@click.group()
def webhooks() -> None:
    """Show whom the registry tells what is changed, and whom it could not tell."""


@webhooks.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print what GET /admin/webhooks answers.")
@configured
def list_targets(settings: Config, *, as_json: bool) -> None:
    """Show each target, and how many events wait for it or were put aside."""

    async def show(feature: Webhooks) -> None:
        every = await statuses(feature)
        if as_json:
            click.echo(msgspec.json.encode(every))
            return
        names = ("Target", "URL", "Told of", "Signed")
        table = Table(*(Column(name, overflow="fold") for name in names), "Waiting", "Aside", "Last problem")
        for one in every:
            told, signed = "\n".join(one.actions), "yes" if one.signed else "[yellow]no[/]"
            put = f"[red]{one.aside}[/]" if one.aside else "0"
            table.add_row(escape(one.name), escape(one.url), told, signed, str(one.waiting), put, escape(one.problem))
        Console().print(table)

    _with_webhooks(settings, show)


@webhooks.command(name="aside")
@click.argument("target", required=False)
@click.option("--limit", type=click.IntRange(1, MOST), default=50, show_default=True, help="Most events.")
@configured
def list_aside(settings: Config, *, target: str | None, limit: int) -> None:
    """Show the events of which TARGET, or any, could not be told."""

    async def show(feature: Webhooks) -> None:
        _check(feature, target)
        found = await feature.records.read(partial(aside, target=target, most=limit))
        if not found:
            click.echo("everybody was told")
            return
        table = Table("Target", "Event", "Attempts", "Since", Column("Problem", overflow="fold"))
        for one in found:
            since = datetime.fromtimestamp(one.aside_at, UTC).isoformat(" ", "seconds")
            table.add_row(escape(one.target), str(one.event_id), str(one.attempts), since, escape(one.problem))
        Console().print(table)

    _with_webhooks(settings, show)


@webhooks.command(name="retry")
@click.argument("target", required=False)
@click.option("--event", type=int, help="Only this event.")
@configured
def send_again(settings: Config, *, target: str | None, event: int | None) -> None:
    """Have what was put aside, of TARGET or of all, sent again by the server."""

    async def again(feature: Webhooks) -> None:
        _check(feature, target)
        number = await feature.records.write(partial(retry, target=target, event_id=event, now=time.time()))
        click.echo(f"{number} events are sent again")

    _with_webhooks(settings, again)


@webhooks.command(name="test")
@click.argument("target")
@configured
def try_target(settings: Config, *, target: str) -> None:
    """Send TARGET an event of the type drift.test now, and say whether it was taken."""

    async def send(feature: Webhooks) -> None:
        _check(feature, target)
        sender = Sender(feature.config.targets[target], feature.config.source)
        try:
            await sender.send(TRIAL, trial_of(feature.config.source, time.time()))
        except NotTaken as error:
            message = f"{target} did not take it: {error}"
            raise click.ClickException(message) from error
        finally:
            await sender.close()
        click.echo(f"{target} has taken it")

    _with_webhooks(settings, send)


def _check(feature: Webhooks, target: str | None) -> None:
    if target is not None and target not in feature.config.targets:
        known = ", ".join(feature.config.targets) or "none"
        message = f"there is no target {target!r} in [webhooks.targets]; there are: {known}"
        raise click.ClickException(message)


def _with_webhooks(settings: Config, work: Callable[[Webhooks], Coroutine[Any, Any, T]]) -> T:
    async def run() -> T:
        async with open_driver(settings, "features", "webhooks") as feature:
            return await work(feature)

    return asyncio.run(run())
