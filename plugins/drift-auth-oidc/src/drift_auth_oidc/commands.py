"""The commands: `drift login` for people, and `drift oidc` for who runs the server."""

import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import click

from drift_core.api import Config, configured, open_driver


@click.command()
@click.argument("registry_url")
@click.option("--provider", help="The login provider, where the server has several.")
@click.option("--print", "only_print", is_flag=True, help="Print the token instead of storing it for docker.")
def login(registry_url: str, *, provider: str | None, only_print: bool) -> None:
    """Log in to a registry in a browser, on this machine or another; docker, crane and others then use the token."""
    # Every other command is imported with this one, and needs none of it.
    from drift_auth_oidc.device_login import base_of, log_in  # noqa: PLC0415
    from drift_auth_oidc.docker_config import check, docker_config_file, store  # noqa: PLC0415

    base = base_of(registry_url)
    file, registry = docker_config_file(), urlsplit(base).netloc
    if not only_print:
        check(file, registry)
    token = log_in(base, provider)
    if only_print:
        click.echo(token["access_token"])
        return
    store(file, registry, token["access_token"])
    click.echo(f"logged in as {token['name']}; the token is in {file}", err=True)


@click.group()
def oidc() -> None:
    """See and end sessions and tokens of people who logged in by a provider."""


@oidc.command("list")
@click.option("--name", help="Only those of this name, such as oidc:ann.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
@configured
def list_grants(settings: Config, *, name: str | None, as_json: bool) -> None:
    """List what is still good."""
    import uvloop  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from sqlalchemy import true  # noqa: PLC0415

    from drift_auth_oidc.grants import described, named  # noqa: PLC0415

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
    import uvloop  # noqa: PLC0415
    from sqlalchemy import or_  # noqa: PLC0415

    from drift_auth_oidc.grants import named, of_id  # noqa: PLC0415

    async def ended() -> int:
        async with open_driver(settings, "authn", "oidc") as opened:
            wanted = or_(named(name_or_id), of_id(name_or_id))
            return len(await opened.grants.revoke(wanted, "revoked by the operator"))

    count = uvloop.run(ended())
    if not count:
        raise click.ClickException(f"nothing was given to {name_or_id}")
    click.echo(f"ended {count}")
