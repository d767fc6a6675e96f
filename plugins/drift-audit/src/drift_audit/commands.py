"""The commands ``drift audit list``, ``tail``, ``stats``, ``export`` and ``verify``."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from datetime import UTC
from typing import IO, Any, TypeVar, cast

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Column, Table
from sqlalchemy import Connection, select

from drift_audit.auditor import AuditTrail
from drift_audit.chain import end_of
from drift_audit.export import csv_header, csv_line, json_line
from drift_audit.record import decoded
from drift_audit.search import Filter, Stats, every, page, stats
from drift_audit.tables import records
from drift_audit.verification import Anchor, Verification
from drift_core.api import Config, configured, open_driver

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

LOOK_SECONDS = 0.5


def filtered(command: F) -> F:
    """Adds the options of a `Filter`, which the command gets as ``wanted``."""

    def made(settings: Config, **options: Any) -> Any:
        own = {name: options.pop(name) for name in Filter.__struct_fields__}
        for name in ("start_time", "end_time"):
            if own[name] is not None:
                own[name] = own[name].replace(tzinfo=UTC)
        return command(settings, wanted=Filter(**own), **options)

    time = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ"])
    options = (
        click.option("--start-time", type=time, help="UTC; without it seven days ago."),
        click.option("--end-time", type=time, help="UTC; without it now."),
        click.option("--type", "event_types", multiple=True, metavar="TYPE", help="Such as ImagePushed."),
        click.option("--severity", "severities", multiple=True, help="Such as warning."),
        click.option("--user", "user_id", help="The name of somebody, known or claimed."),
        click.option("--organization", help="The first part of a repository's name."),
        click.option("--resource-type", help="Such as Image."),
        click.option("--resource", "resource_id", help="Such as team/app."),
        click.option("--success-only", is_flag=True, help="Leave out what failed or was refused."),
    )
    made.__name__, made.__doc__ = command.__name__, command.__doc__
    for option in reversed(options):
        made = option(made)
    return cast("F", made)


@click.group()
def audit() -> None:
    """Read the audit trail, and verify that nothing of it was removed or changed."""


@audit.command("list")
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per record.")
@configured
@filtered
def list_records(settings: Config, *, wanted: Filter, limit: int, as_json: bool) -> None:
    """List records, the newest first."""

    async def read(trail: AuditTrail) -> list[bytes]:
        conditions = _conditions(wanted)
        return (await trail.records.read(lambda db: page(db, conditions, limit))).contents

    contents = _with_trail(settings, read)
    if as_json:
        for content in contents:
            click.echo(content)
    else:
        _show(contents)


@audit.command()
@click.option(
    "--lines", type=click.IntRange(0, 1000), default=10, show_default=True, help="Older records to begin with."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per record.")
@configured
def tail(settings: Config, *, lines: int, as_json: bool) -> None:
    """Show records as they are written, until interrupted."""
    position = 0

    def behind(db: Connection) -> list[tuple[int, bytes]]:
        query = select(records.c.sequence, records.c.content).where(records.c.sequence > position)
        return [(row[0], row[1]) for row in db.execute(query.order_by(records.c.sequence).limit(1000))]

    def last(db: Connection) -> int:
        end = end_of(db, "last")
        return 0 if end is None else end.sequence

    async def follow(trail: AuditTrail) -> None:
        nonlocal position
        position = await trail.records.read(last) - lines
        while True:
            rows = await trail.records.read(behind)
            for sequence, content in rows:
                position = sequence
                click.echo(content if as_json else _line(content))
            if not rows:
                await asyncio.sleep(LOOK_SECONDS)

    _with_trail(settings, follow)


@audit.command("stats")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@configured
@filtered
def show_stats(settings: Config, *, wanted: Filter, as_json: bool) -> None:
    """Count records by type, severity, user and resource."""

    async def read(trail: AuditTrail) -> Stats:
        conditions = _conditions(wanted)
        return await trail.records.read(lambda db: stats(db, conditions))

    found = _with_trail(settings, read)
    if as_json:
        click.echo(msgspec.json.encode(found))
        return

    table = Table("", "What", Column("Events", justify="right"))
    table.add_row("all", "", str(found.total_events))
    table.add_row("failed", "", str(found.failed_events))
    parts = {"type": found.events_by_type, "severity": found.events_by_severity}
    parts["user"] = {one.name: one.count for one in found.top_users}
    parts["resource"] = {one.name: one.count for one in found.top_resources}
    for part, counts in parts.items():
        for name, count in counts.items():
            table.add_row(part, escape(name), str(count))
    Console().print(table)


@audit.command()
@click.option("--format", "form", type=click.Choice(["jsonlines", "csv"]), default="jsonlines", show_default=True)
@click.option("--output", "-o", type=click.File("wb", lazy=False), default="-", help="A file; - is stdout.")
@configured
@filtered
def export(settings: Config, *, wanted: Filter, form: str, output: IO[bytes]) -> None:
    """Write records, the oldest first, as JSON lines or CSV."""

    async def write(trail: AuditTrail) -> None:
        output.write(csv_header() if form == "csv" else b"")
        async for content in every(trail.records, _conditions(wanted)):
            output.write(csv_line(content) if form == "csv" else json_line(content))

    _with_trail(settings, write)


@audit.command()
@click.option("--from", "start", type=click.IntRange(1), help="Begin at this sequence and trust what is before it.")
@click.option("--anchor", metavar="SEQUENCE:HASH", help="A place, printed by an earlier run, that must still be there.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@configured
def verify(settings: Config, *, start: int | None, anchor: str | None, as_json: bool) -> None:
    """Verify the chain; ends with 1 and names the first record that was removed, changed, reordered or truncated."""
    expected = None if anchor is None else _anchor(anchor)
    if expected is not None and start is not None and expected.sequence < start:
        raise click.UsageError("--anchor is before --from, and would not be looked at")

    async def run(trail: AuditTrail) -> tuple[Verification, bool]:
        verification = Verification(trail.records, trail.key, start, expected)
        with Progress(console=Console(stderr=True), disable=as_json, transient=True) as progress:
            task = progress.add_task("verifying", total=None)
            async for left in verification.run():
                done = verification.reached.sequence
                progress.update(task, completed=done, total=done + left)
        return verification, trail.config.retention_days is not None

    done, removes = _with_trail(settings, run)
    missed = expected is not None and not done.anchored
    reached = f"{done.reached.sequence}:{done.reached.hash.hex()}"
    if as_json:
        broken = (
            None if done.found is None else {name: getattr(done.found, name) for name in ("sequence", "kind", "detail")}
        )
        click.echo(
            json.dumps({"good": done.found is None, "anchor": reached, "anchored": done.anchored, "broken": broken})
        )
    elif done.found is not None:
        click.echo(f"the chain is broken at record {done.found.sequence}: {done.found.kind}; {done.found.detail}")
    else:
        click.echo(f"the chain is whole; its end is {reached}")
        if missed:
            click.echo("the anchor was not met: its record was removed as if for its age", err=True)
    raise SystemExit(done.found is not None or (missed and not removes))


def _with_trail(settings: Config, work: Callable[[AuditTrail], Coroutine[Any, Any, T]]) -> T:
    async def run() -> T:
        async with open_driver(settings, "features", "audit") as trail:
            return await work(trail)

    return asyncio.run(run())


def _conditions(wanted: Filter) -> Any:
    try:
        return wanted.conditions()
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _anchor(text: str) -> Anchor:
    sequence, _, hash_ = text.partition(":")
    try:
        return Anchor(int(sequence), bytes.fromhex(hash_))
    except ValueError as error:
        raise click.UsageError("an anchor is SEQUENCE:HASH, as an earlier run printed it") from error


def _line(content: bytes) -> str:
    record = decoded(content)
    done = record.event_type if record.result.success else f"{record.event_type}!"
    what = f"{record.resource.type_}:{record.resource.id}" + (f":{record.resource.tag}" if record.resource.tag else "")
    who = record.user.username or "anonymous"
    why = record.result.error_message or ""
    return f"{record.timestamp:%Y-%m-%dT%H:%M:%SZ} {record.sequence} {done} {who} {what} {why}".rstrip()


def _show(contents: list[bytes]) -> None:
    whole = [Column(name, no_wrap=True) for name in ("Record", "Time", "Event")]
    table = Table(*whole, "Severity", "User", "Resource", "Client", "Reason")
    for record in map(decoded, contents):
        resource = record.resource.id + (f":{record.resource.tag}" if record.resource.tag else "")
        cells = (
            str(record.sequence),
            f"{record.timestamp:%Y-%m-%d %H:%M:%S}",
            record.event_type,
            record.severity,
            record.user.username or "",
            resource,
            record.network.client_ip or "",
            record.result.error_message or "",
        )
        table.add_row(*(escape(cell) for cell in cells))
    Console().print(table)
