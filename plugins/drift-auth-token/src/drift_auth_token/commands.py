"""``drift token`` and ``drift robot``: make, list and revoke tokens, beside a server that runs or without one."""

import asyncio
import getpass
import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from drift_auth_token.config import parse_scope
from drift_auth_token.grants import Grant, NameTaken, TooMany, begin, begin_robot, ends_in
from drift_auth_token.service import TokenService
from drift_core.api import Config, Identity, configured, open_driver

T = TypeVar("T")

_scopes = click.option(
    "--scope",
    "scopes",
    multiple=True,
    metavar="KIND:NAME:ACTION",
    help="What it is for, such as repository:team/*:pull.",
)
_days = click.option("--days", type=click.FloatRange(0, min_open=True), help="When it expires; else as configured.")
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
_roles = click.option("--role", "roles", multiple=True, help="A role of the owner, for policies; may be repeated.")
_groups = click.option("--group", "groups", multiple=True, help="A group of the owner; may be repeated.")


@click.group()
def token() -> None:
    """Personal access tokens, and the keys that sign tokens."""


@token.command("create")
@click.argument("owner")
@click.option("--name", default="", help="What the token is for.")
@_scopes
@_roles
@_groups
@_days
@_json
@configured
def create_token(
    settings: Config,
    *,
    owner: str,
    name: str,
    scopes: Sequence[str],
    roles: Sequence[str],
    groups: Sequence[str],
    days: float | None,
    as_json: bool,
) -> None:
    """Make a token for OWNER and print it: this once, nothing can show it again. Without a scope it is for all."""
    if not owner or ":" in owner or owner.startswith("robot$"):
        raise click.BadParameter("is not the name of a user")
    limit = frozenset(map(_scope, scopes)) if scopes else None
    identity = Identity(owner, "token", frozenset(groups), frozenset(roles), limit)

    async def make(service: TokenService) -> tuple[Grant, str]:
        expires = ends_in(days, service.config.max_token_days)
        grant = begin("pat", identity, title=name, expires=expires, created_by=getpass.getuser())
        return grant, await service.grant(grant, None, getpass.getuser())

    try:
        grant, made = _run(settings, make)
    except TooMany:
        raise click.ClickException(f"{owner} has too many tokens: revoke some") from None
    _show_new(grant, made, as_json=as_json)


@token.command("list")
@click.option("--owner", help="Only those of one user.")
@_json
@configured
def list_tokens(settings: Config, *, owner: str | None, as_json: bool) -> None:
    """List the tokens; their secrets are nowhere."""
    _show(_run(settings, lambda service: service.grants.listed("pat", owner)), as_json=as_json)


@token.command("revoke")
@click.argument("identifier", metavar="ID", required=False)
@click.option("--owner", help="Instead of one token: everything that this user has, logins included.")
@configured
def revoke_token(settings: Config, *, identifier: str | None, owner: str | None) -> None:
    """Revoke the token ID: it is refused by every worker within a second."""
    if (identifier is None) == (owner is None):
        raise click.UsageError("name either a token or --owner")

    async def revoke(service: TokenService) -> int:
        if owner is not None:
            return await service.grants.revoke_all(owner, getpass.getuser())
        grant = await service.grants.find(str(identifier))
        if grant is None:
            return 0
        await service.grants.revoke(grant, None, username=getpass.getuser())
        return 1

    count = _run(settings, revoke)
    if not count and identifier is not None:
        raise click.ClickException(f"there is no token {identifier}")
    click.echo(f"revoked {count}")


@token.command("rotate-keys")
@click.option("--forget", is_flag=True, help="Refuse at once what older keys have signed: for a key that leaked.")
@configured
def rotate_keys(settings: Config, *, forget: bool) -> None:
    """Make a new key that signs; older ones verify until their tokens have expired."""

    async def rotate(service: TokenService) -> bool:
        if service.config.algorithm == "HS256":
            return False
        await service.keys.rotate(forget=forget)
        return True

    if not _run(settings, rotate):
        raise click.ClickException("tokens are signed by jwt_secret: change that")
    click.echo("a new key signs from now on")


@click.group()
def robot() -> None:
    """Robot accounts: tokens of nobody, for machines."""


@robot.command("create")
@click.argument("name")
@click.option("--description", default="")
@_scopes
@_roles
@_groups
@_days
@_json
@configured
def create_robot(
    settings: Config,
    *,
    name: str,
    description: str,
    scopes: Sequence[str],
    roles: Sequence[str],
    groups: Sequence[str],
    days: float | None,
    as_json: bool,
) -> None:
    """Make the robot NAME and print its token: this once. It logs in as robot$NAME."""
    limit = frozenset(map(_scope, scopes))
    user = getpass.getuser()

    async def make(service: TokenService) -> tuple[Grant, str]:
        identity = Identity(name, "token", frozenset(groups), frozenset(roles), limit)
        expires = ends_in(days, service.config.max_token_days)
        grant = begin_robot(identity, title=description, expires=expires, created_by=user)
        return grant, await service.grant(grant, None, user)

    try:
        grant, made = _run(settings, make)
    except NameTaken:
        raise click.ClickException(f"there is a robot {name}") from None
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    _show_new(grant, made, as_json=as_json)


@robot.command("list")
@_json
@configured
def list_robots(settings: Config, *, as_json: bool) -> None:
    """List the robots."""
    _show(_run(settings, lambda service: service.grants.listed("robot")), as_json=as_json)


@robot.command("revoke")
@click.argument("name")
@configured
def revoke_robot(settings: Config, *, name: str) -> None:
    """Remove the robot NAME: it is refused by every worker within a second."""
    if not _run(settings, lambda service: service.grants.revoke_all(f"robot${name}", getpass.getuser())):
        raise click.ClickException(f"there is no robot {name}")
    click.echo("revoked")


def _run(settings: Config, work: Callable[[TokenService], Awaitable[T]]) -> T:
    async def run() -> T:
        async with open_driver(settings, "authn", "token") as opened:
            return await work(opened.service)

    return asyncio.run(run())


def _scope(text: str) -> Any:
    try:
        return parse_scope(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _show_new(grant: Grant, made: str, *, as_json: bool) -> None:
    click.echo(json.dumps(grant.shown() | {"token": made}, indent=2) if as_json else made)


def _show(grants: Sequence[Grant], *, as_json: bool) -> None:
    rows = [grant.shown() for grant in grants]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    # What other commands take is in one piece, however narrow the terminal is.
    whole = [Column(title, no_wrap=True) for title in ("Id", "User")]
    table = Table(*whole, "Name", "Scopes", "Expires", "Last used")
    for row in rows:
        scopes = "everything" if row["scopes"] is None else "\n".join(row["scopes"])
        times = [_time(row[key]) for key in ("expires_at", "last_used_at")]
        table.add_row(row["id"], escape(row["username"]), escape(row["name"]), escape(scopes), *times)
    Console().print(table)


def _time(at: float | None) -> str:
    return "never" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")
