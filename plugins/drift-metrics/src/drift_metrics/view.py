"""How the figures of a server look in a terminal."""

from collections.abc import Sequence

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from drift_metrics.figures import Figures, Operation

LITTLE_SPACE = 0.1
"""The share of a disk below which what is left is red."""


def view(url: str, found: Figures | None, trouble: str | None = None) -> RenderableType:
    """Returns what is shown: the newest figures, None before there are any, and why they are not newer."""
    parts: list[RenderableType] = []
    if found is None:
        parts.append(Text(f"{url}: the first figures take a moment"))
    else:
        parts += [_head(url, found), _requests(found)]
        operations = _operations("Storage", found.storage), _operations("Database", found.database)
        parts.append(Columns([*operations, _rest(found)], padding=(0, 2)))
    if trouble:
        parts.append(Text(trouble, "bold red"))
    return Group(*parts)


def _head(url: str, found: Figures) -> Table:
    table = Table.grid(padding=(0, 3))
    errors = f"[red]{_rate(found.errors_per_second)} errors[/]" if found.errors_per_second else "no errors"
    table.add_row(
        f"[bold]{escape(url)}[/]",
        f"Drift {escape(found.version)}",
        "leads" if found.leader else "does not lead",
        ", ".join(f"{count} {escape(status.lower())}" for status, count in found.nodes.items()),
    )
    table.add_row(
        f"[bold]{_rate(found.requests_per_second)} requests[/], {errors}",
        f"{_rate(found.pulls_per_second)} pulls, {_rate(found.pushes_per_second)} pushes",
        f"{decimal(int(found.received))}/s in, {decimal(int(found.sent))}/s out",
        f"{found.under_way:.0f} under way",
    )
    return table


def _requests(found: Figures) -> Table:
    right = [Column(name, justify="right") for name in ("Requests", "Errors", "p50", "p99", "In", "Out")]
    table = Table(Column("Endpoint", min_width=12), *right)
    for one in found.requests:
        errors = f"[red]{_rate(one.errors_per_second)}[/]" if one.errors_per_second else ""
        numbers = (_rate(one.per_second), errors, _seconds(one.p50), _seconds(one.p99))
        table.add_row(escape(one.endpoint), *numbers, _bytes(one.received), _bytes(one.sent))
    return table


def _operations(title: str, operations: Sequence[Operation]) -> Table:
    right = [Column(name, justify="right") for name in ("", "p99", "Failures")]
    table = Table(title, *right)
    for one in operations:
        failures = f"[red]{_rate(one.failures_per_second)}[/]" if one.failures_per_second else ""
        table.add_row(escape(one.name), _rate(one.per_second), _seconds(one.p99), failures)
    return table


def _rest(found: Figures) -> Table:
    table = Table("Queues, caches, disk", Column("", justify="right"))
    for name, count in found.queues.items():
        table.add_row(escape(name), f"{count}")
    for name, share in found.caches.items():
        table.add_row(f"hits of {escape(name)}", f"{share:.1%}")
    if found.free_bytes is not None and found.size_bytes:
        style = "red" if found.free_bytes / found.size_bytes < LITTLE_SPACE else "default"
        table.add_row("space left", f"[{style}]{decimal(int(found.free_bytes))}[/]")
    return table


def _rate(per_second: float) -> str:
    return f"{per_second:,.0f}/s" if per_second >= 100 or not per_second else f"{per_second:.3g}/s"  # noqa: PLR2004


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def _bytes(per_second: float) -> str:
    return f"{decimal(int(per_second))}/s" if per_second else ""
