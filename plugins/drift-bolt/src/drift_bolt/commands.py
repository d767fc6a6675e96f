"""The commands ``drift bolt list | show | run``."""

import asyncio
import getpass
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from drift_bolt import running
from drift_bolt.bolt import Bolt
from drift_bolt.catalog import Kind
from drift_bolt.finding import MOST_PER_PAGE, Page, listing
from drift_bolt.model import ProfileUpload
from drift_bolt.profile_toml import to_toml
from drift_bolt.views import summary
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

T = TypeVar("T")

PLUGINS = click.option("--plugins", is_flag=True, help="Of plugins, instead of profiles.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def bolt() -> None:
    """Show profiles and plugins of Bolt, and run images with a profile."""


@bolt.command("list")
@PLUGINS
@click.option("--page", type=click.IntRange(1), default=1, show_default=True)
@JSON
@configured
def show_all(settings: Config, *, plugins: bool, page: int, as_json: bool) -> None:
    """List profiles, or plugins, by name."""

    async def read(feature: Bolt, registry: LocalRegistry) -> tuple[Page, set[str]]:
        wanted: Kind = "plugin" if plugins else "profile"
        found = await feature.records.read(partial(listing, kind=wanted, page=page, per_page=MOST_PER_PAGE))
        return found, await feature.all_verified(registry, found.entries) if plugins else set()

    found, good = _with_bolt(settings, read)
    if as_json:
        click.echo(msgspec.json.encode([summary(entry, verified=entry.name in good) for entry in found.entries]))
        return
    table = Table("Name", "Version", "Author", "Downloads", "Rating", "Description")
    for entry in found.entries:
        rating = f"{entry.rating:.1f}" if entry.rating_count else ""
        texts = (entry.name, entry.version, entry.author, str(entry.downloads), rating, entry.description)
        table.add_row(*map(escape, texts))
    Console().print(table)


@bolt.command()
@click.argument("name")
@click.option("--version", help="One that is not the latest.")
@configured
def show(settings: Config, *, name: str, version: str | None) -> None:
    """Print a profile as the TOML that Bolt reads."""

    async def read(feature: Bolt, _: LocalRegistry) -> bytes:
        _entry, found, _files = await feature.version("profile", name, version)
        return to_toml(msgspec.json.decode(found.document, type=ProfileUpload).profile)

    click.echo(_with_bolt(settings, read), nl=False)


@bolt.command()
@click.argument("image", metavar="IMAGE")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.option("--profile", "name", required=True, help="A profile of this registry.")
@click.option("--version", help="One of its versions that is not the latest.")
@click.option("--dry-run", is_flag=True, help="Print the configuration of the runtime, and run nothing.")
@click.option("--partial", "partly", is_flag=True, help="Run without what cannot be applied, instead of not at all.")
@click.option("--host-network", is_flag=True, help="With the network of this machine; without it there is none.")
@click.option("--no-cgroups", is_flag=True, help="Without cgroups, where they may not be used.")
@click.option(
    "--runtime", type=click.Choice(["crun", "runc"]), help="The first that is installed, unless one is named."
)
@configured
def run(
    settings: Config,
    *,
    image: str,
    arguments: tuple[str, ...],
    name: str,
    version: str | None,
    dry_run: bool,
    partly: bool,
    host_network: bool,
    no_cgroups: bool,
    runtime: str | None,
) -> None:
    """Run IMAGE (REPOSITORY[:TAG|@DIGEST] of this registry) with a profile; ends with what it ends with.

    What stands behind IMAGE takes the place of its own arguments.
    """

    async def work(feature: Bolt, registry: LocalRegistry) -> int:
        order = running.Order(
            image=image,
            profile=name,
            version=version,
            arguments=arguments,
            host_network=host_network,
            cgroups=not no_cgroups,
        )
        prepared = await running.prepare(feature, registry, order)
        made = prepared.launch
        for one in made.refused:
            click.echo(f"not applied: {one}", err=True)
        if dry_run:
            click.echo(msgspec.json.format(msgspec.json.encode(made.specification)))
        if made.refused and not partly:
            message = f"{len(made.refused)} settings of {name} cannot be applied; --partial goes on without them"
            raise StartError(message)
        if dry_run:
            return 0
        return await running.run(registry, prepared, running.runtime_of(runtime))

    raise SystemExit(_with_bolt(settings, work))


def _with_bolt(settings: Config, work: Callable[[Bolt, LocalRegistry], Awaitable[T]]) -> T:
    async def opened() -> T:
        identity = Identity(getpass.getuser(), "command")
        async with (
            open_registry(settings, identity) as registry,
            open_driver(settings, "features", "bolt") as feature,
        ):
            feature.use(registry)
            try:
                return await work(feature, registry)
            except RegistryError as error:
                raise StartError(error.message) from error

    return asyncio.run(opened())
