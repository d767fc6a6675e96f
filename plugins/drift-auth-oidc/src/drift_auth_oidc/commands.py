"""The commands ``drift oidc list`` and ``drift oidc revoke``, for who runs the server."""

import json
from datetime import UTC, datetime
from typing import Any

import click
import uvloop
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from sqlalchemy import or_, true

from drift_auth_oidc.grants import described, named, of_id
from drift_core.api import Config, configured, open_driver


@click.group()
def oidc() -> None:
    """See and end sessions and tokens of people who logged in by a provider."""


@oidc.command("list")
@click.option("--name", help="Only those of this name, such as oidc:ann.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
@configured
def list_grants(settings: Config, *, name: str | None, as_json: bool) -> None:
    """List what is still good."""

    async def found() -> list[dict[str, Any]]:
        async with open_driver(settings, "authn", "oidc") as opened:
            wanted = true() if name is None else named(name)
            return [described(grant) for grant in await opened.grants.listed(wanted)]

    grants = uvloop.run(found())
    if as_json:
        click.echo(json.dumps(grants, indent=2))
        return
    table = Table("Id", "Kind", "Name", "Last used", "Expires", "Label")
    for grant in grants:
        times = (datetime.fromtimestamp(grant[key], UTC).strftime("%Y-%m-%d %H:%M") for key in ("last_seen", "expires"))
        table.add_row(grant["id"], grant["kind"], escape(grant["name"]), *times, escape(grant["label"]))
    Console().print(table if grants else "nobody is logged in")


@oidc.command("revoke")
@click.argument("name_or_id")
@configured
def revoke(settings: Config, *, name_or_id: str) -> None:
    """End everything of a name, such as oidc:ann, or one thing by its id; running servers notice at once."""

    async def ended() -> int:
        async with open_driver(settings, "authn", "oidc") as opened:
            wanted = or_(named(name_or_id), of_id(name_or_id))
            return len(await opened.grants.revoke(wanted, "revoked by the operator"))

    count = uvloop.run(ended())
    if not count:
        raise click.ClickException(f"nothing was given to {name_or_id}")
    click.echo(f"ended {count}")
