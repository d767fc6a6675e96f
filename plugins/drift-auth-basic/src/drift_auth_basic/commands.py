"""`drift user`: the users in the database."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeVar

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from drift_auth_basic.authenticator import BasicAuthenticator
from drift_auth_basic.names import MOST_PASSWORD, check_name, check_password
from drift_auth_basic.users import User
from drift_core.api import Config, configured, open_driver

T = TypeVar("T")

SHORTEST = 8
"""Fewest characters of a password that is chosen here (NIST SP 800-63B section 5.1.1.1)."""

by_stdin = click.option("--password-stdin", "by_stdin", is_flag=True, help="Read the password from standard input.")


@click.group()
def user() -> None:
    """Manage the users in the database, who log in with a password."""


@user.command("add")
@click.argument("name")
@by_stdin
@configured
def add_user(settings: Config, *, name: str, by_stdin: bool) -> None:
    """Make a user."""
    _check(name)
    password = _password(by_stdin=by_stdin)

    async def add(basic: BasicAuthenticator) -> bool:
        # One with this name in a file would count, and this one never log in.
        return await basic.directory.find(name) is None and await basic.users.add(name, password)

    if not _run(settings, add):
        message = f"there is a user {name} already"
        raise click.ClickException(message)


@user.command("passwd")
@click.argument("name")
@by_stdin
@configured
def change_password(settings: Config, *, name: str, by_stdin: bool) -> None:
    """Change a user's password; the old one is refused within a second."""
    _check(name)
    password = _password(by_stdin=by_stdin)
    _require(name, _run(settings, lambda basic: basic.users.set_password(name, password)))


@user.command("disable")
@click.argument("name")
@configured
def disable_user(settings: Config, *, name: str) -> None:
    """Refuse a user's password and tokens, within a second, until the user is enabled again."""
    _require(name, _run(settings, lambda basic: basic.users.set_disabled(name, disabled=True)))


@user.command("enable")
@click.argument("name")
@configured
def enable_user(settings: Config, *, name: str) -> None:
    """Take a user's password and tokens again."""
    _require(name, _run(settings, lambda basic: basic.users.set_disabled(name, disabled=False)))


@user.command("remove")
@click.argument("name")
@configured
def remove_user(settings: Config, *, name: str) -> None:
    """Forget a user, whose tokens are refused from then on; what the user pushed stays."""
    _require(name, _run(settings, lambda basic: basic.users.remove(name)))


@user.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs, with times in seconds since the epoch.")
@configured
def list_users(settings: Config, *, as_json: bool) -> None:
    """List the users in the database."""
    users = _run(settings, lambda basic: basic.users.every())
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(users), indent=2))
    else:
        _print(users)


def _print(users: list[User]) -> None:
    table = Table("Name", "State", "Created", "Last login")
    for one in users:
        state = "disabled" if one.disabled else "enabled"
        table.add_row(escape(one.name), state, _date(one.created_at), _date(one.last_login_at))
    Console().print(table)


def _date(seconds: float | None) -> str:
    return "never" if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}Z"


def _run(settings: Config, work: Callable[[BasicAuthenticator], Awaitable[T]]) -> T:
    async def run() -> T:
        async with open_driver(settings, "authn", "basic") as basic:
            return await work(basic)

    return asyncio.run(run())


def _require(name: str, found: bool) -> None:
    if not found:
        message = f"there is no user {name} in the database"
        raise click.ClickException(message)


def _check(name: str) -> None:
    try:
        check_name(name)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="NAME") from error


def _password(*, by_stdin: bool) -> str:
    """Returns what the operator types twice without an echo, or all of standard input but for a last line's end."""
    try:
        if by_stdin:
            password = sys.stdin.buffer.read(MOST_PASSWORD + 3).decode().removesuffix("\n").removesuffix("\r")
        else:
            password = str(click.prompt("Password", hide_input=True, confirmation_prompt=True))
        check_password(password)
    except UnicodeDecodeError as error:
        raise click.ClickException("the password is not UTF-8") from error
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    if len(password) < SHORTEST:
        message = f"a password has at least {SHORTEST} characters"
        raise click.ClickException(message)
    return password
