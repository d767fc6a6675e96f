"""The `drift` command: serve, plugins, config, cluster, fsck, gc, sign, verify, and the commands that plugins add.

What only one command needs is imported in that command, so that the others answer at once.
"""

import json
import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click
import msgspec
import structlog
import uvloop
from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn, TransferSpeedColumn
from rich.table import Column, Table

from drift_core import __version__, config
from drift_core.choosing import Chosen, choose, policies_of, site_of, slots_of
from drift_core.collection_commands import gc
from drift_core.command import configured
from drift_core.config import Config
from drift_core.errors import ConfigError, RegistryError, StartError
from drift_core.logs import configure_logs
from drift_core.model import ACTIONS, Action
from drift_core.plugins import FAMILIES, load_plugins
from drift_core.scaffold import SUMMARIES, write_plugin
from drift_core.signing_commands import sign, verify

if TYPE_CHECKING:
    from drift_core.conformance.bench import Speed
    from drift_core.metadata.cluster import ClusterState
    from drift_core.registry.fsck import Finding
    from drift_core.registry.migration import Migrated

OUTCOME_STYLES = {"pass": "green", "fail": "red", "xfail": "yellow", "skip": "yellow"}
STATUS_STYLES = {"Healthy": "green", "Degraded": "yellow", "Unhealthy": "red", "Leaving": "yellow"}
STATE_STYLES = {"loaded": "green", "disabled": "yellow", "broken": "red"}


class _StartErrorAsMessage(click.Group):
    """Shows what the operator can do instead of a traceback, and finds the commands of plugins."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        try:
            return super().main(*arguments, **options)
        except (StartError, RegistryError) as error:
            click.echo(f"Error: {error}", err=True)
            raise SystemExit(1) from error

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        return super().get_command(context, name) or _plugin_commands().get(name)

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted({*super().list_commands(context), *_plugin_commands()})


def _plugin_commands() -> dict[str, click.Command]:
    """Returns what plugins add; options of a command are not read yet, so the environment alone configures this."""
    return load_plugins(config.load(_environment_file(), os.environ, ())).commands


def _environment_file() -> Path | None:
    named = os.environ.get("DRIFT_CONFIG")
    return Path(named) if named else None


@click.group(cls=_StartErrorAsMessage, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="drift")
def main() -> None:
    """Drift, an OCI container registry made of a small core and plugins."""


@main.command()
@configured
def serve(settings: Config) -> None:
    """Serve the registry until SIGTERM or SIGINT, then drain."""
    from drift_core.runtime import prepare
    from drift_core.supervisor import supervise
    from drift_core.worker import serve as serve_worker

    configure_logs(settings.logging)
    plugins = load_plugins(settings)
    for plugin in plugins.found:
        if plugin.state == "broken":
            structlog.get_logger("drift.plugins").warning("a plugin is broken", name=plugin.name, error=plugin.error)
    prepare(settings, plugins)
    every = choose(settings, plugins)
    site = site_of(every) is not None
    raise SystemExit(supervise(settings, slots_of(settings, every), serve_worker, site=site))


@main.group()
def plugins() -> None:
    """Look at the installed plugins."""


@plugins.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
@configured
def list_plugins(settings: Config, *, as_json: bool) -> None:
    """List installed plugins: what each offers, its state, and why it is broken."""
    loaded = load_plugins(settings)
    offers = {
        id(plugin): [f"{offer.family}:{offer.driver.name}" for offer in loaded.offers() if offer.plugin is plugin]
        for plugin in loaded.found
    }
    if as_json:
        fields = ("name", "distribution", "version", "state", "error")
        rows = [
            {field: getattr(plugin, field) for field in fields} | {"offers": offers[id(plugin)]}
            for plugin in loaded.found
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    table = Table("Plugin", "Distribution", "Version", "Offers", "State")
    for plugin in loaded.found:
        state = f"[{STATE_STYLES[plugin.state]}]{plugin.state}[/]"
        reason = f": {escape(plugin.error)}" if plugin.error else ""
        table.add_row(plugin.name, plugin.distribution, plugin.version, "\n".join(offers[id(plugin)]), state + reason)
    Console().print(table)


@plugins.command("new")
@click.argument("name")
@click.option("--family", type=click.Choice(sorted(SUMMARIES)), default="storage", show_default=True)
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False), default=Path(), help="Where to put it.")
def new_plugin(name: str, family: str, folder: Path) -> None:
    """Write a plugin distribution called NAME that builds, installs and passes its suite as it stands."""
    written = write_plugin(name, family, folder)
    click.echo(f"wrote {written}; next: cd {written} && pip install --editable '.[test]' && pytest")


@plugins.command("explain")
@click.argument("action", type=click.Choice(ACTIONS))
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
@configured
def explain(settings: Config, *, action: Action, as_json: bool) -> None:
    """Show which plugins are asked before an ACTION, in which order, and who is told after it."""
    configure_logs(settings.logging)
    steps = uvloop.run(_steps(settings, action))
    if as_json:
        click.echo(json.dumps(steps, indent=2))
        return
    table = Table("", "Step", "Plugin", "Driver", "If it fails")
    for number, step in enumerate(steps, 1):
        table.add_row(str(number), step["step"], step["plugin"], step["driver"], step["failure"])
    Console().print(table if steps else "no plugin is asked or told: everybody may do it")


@plugins.command("routes")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
@configured
def list_routes(settings: Config, *, as_json: bool) -> None:
    """List the endpoints that plugins add, and what each needs: a scope, or nothing where it is public."""
    from drift_core.http.app import PUBLIC, Endpoint, endpoints
    from drift_core.runtime import open_features

    async def find() -> list[Endpoint]:
        async with open_features(settings, load_plugins(settings)) as features:
            return endpoints([feature for _, feature in features])

    configure_logs(settings.logging)
    found = [*(Endpoint(path, ("GET",), "public") for path in sorted(PUBLIC)), *uvloop.run(find())]
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(found), indent=2))
        return
    table = Table("Path", "Methods", "Needs")
    for endpoint in found:
        table.add_row(escape(endpoint.path), " ".join(endpoint.methods), endpoint.needs)
    Console().print(table)


async def _steps(settings: Config, action: Action) -> list[dict[str, str]]:
    from drift_core.runtime import SIGNING, gates_of, open_features, subscribers_of
    from drift_core.signing.gate import SignatureGate
    from drift_core.signing.signing import Signing

    def step(kind: str, chosen: Chosen, failure: str) -> dict[str, str]:
        offer = chosen.offer
        return {"step": kind, "plugin": offer.plugin.name, "driver": offer.driver.name, "failure": failure}

    loaded = load_plugins(settings)
    steps = []
    for family in FAMILIES:
        if family.name in {"authn", "authz"}:
            steps += [step(family.name, chosen, "refused") for chosen in choose(settings, loaded, [family])]
    async with open_features(settings, loaded) as features:
        gates = [(chosen, gate) for chosen, feature in features for gate in gates_of(chosen, feature)]
        steps += [step("gate", chosen, "refused") for chosen, named in gates if action in named.actions]
        told = [(chosen, one) for chosen, feature in features for one in subscribers_of(chosen, feature)]
        steps += [step("subscriber", chosen, "told again") for chosen, one in told if action in one.actions]
    # The core's own, which no plugin offers.
    judged = choose(settings, loaded, [family for family in FAMILIES if family.name == "verification"])
    signing = {"plugin": SIGNING, "driver": ", ".join(chosen.offer.driver.name for chosen in judged)}
    if action in SignatureGate.gated and policies_of(settings).ask:
        steps.append({"step": "gate", **signing, "failure": "refused"})
    if action in Signing.subscribed and judged:
        steps.append({"step": "subscriber", **signing, "failure": "told again"})
    return steps


@main.group("config")
def config_group() -> None:
    """Check and show the configuration."""


@config_group.command("check")
@configured
def check_config(settings: Config) -> None:
    """Check every key and value, and that every plugin that is needed is installed."""
    loaded = load_plugins(settings)
    for path, distribution in settings.unclaimed(loaded.tables()):
        click.echo(f"note: [{path}] is not read: {distribution}, which reads it, is not installed", err=True)
    for path, reason in settings.unused():
        click.echo(f"note: {path} means nothing here: {reason}", err=True)
    choose(settings, loaded)
    click.echo("the configuration is good")


@config_group.command("show")
@configured
def show_config(settings: Config) -> None:
    """Print the effective configuration as TOML, without its secrets."""
    click.echo(config.to_toml(settings.redacted(load_plugins(settings).tables())), nl=False)


@config_group.command("schema")
@configured
def show_schema(settings: Config) -> None:
    """Print the JSON Schema of the configuration, with the tables of the installed plugins."""
    click.echo(json.dumps(config.schema(load_plugins(settings).tables()), indent=2))


@main.command()
@click.argument("driver", metavar="FAMILY:NAME")
@click.option("--json", "file", type=click.File("w", lazy=True), help="Write the outcomes to this file; - is stdout.")
@click.option("--rule", "only", multiple=True, metavar="ID", help="Run only this rule; may be repeated.")
@click.option("--allow-content", is_flag=True, help="Run on a store that has blobs; nobody may push to it meanwhile.")
@click.option("--bench", "measured", is_flag=True, help="Measure the store, too, beside one in memory.")
@configured
def conformance(
    settings: Config, *, driver: str, file: IO[str] | None, only: tuple[str, ...], allow_content: bool, measured: bool
) -> None:
    """Run the rules of plugins and of a family on a driver that the configuration chooses; ends with 1 if one fails."""
    missing = [name for name in ("pytest", "anyio", "hypothesis") if find_spec(name) is None]
    if missing:
        message = f"{missing[0]} is not installed; pip install 'drift-core[conformance]'"
        raise StartError(message)
    from drift_core.conformance.installed import bench_store, run_kit

    configure_logs(settings.logging)
    family, _, name = driver.partition(":")
    if measured and family != "storage":
        message = f"--bench measures stores, not {driver}"
        raise click.UsageError(message)
    results = run_kit(settings, family, name, only=only, allow_content=allow_content)
    speeds = bench_store(settings, name) if measured else []
    table = Table(Column("Rule", no_wrap=True), "Level", "Outcome", Column("Seconds", justify="right"), "Why")
    for result in results:
        why = result.why.partition("\n")[0]
        outcome = f"[{OUTCOME_STYLES[result.outcome]}]{result.outcome}[/]"
        table.add_row(result.rule, result.level, outcome, f"{result.seconds:.2f}", escape(why))
    console = Console(stderr=file is not None and file.name == "-")
    console.print(table)
    if speeds:
        console.print(_speeds_table(speeds))
    if file is not None:
        found = {"rules": results, "speeds": speeds}
        about = {"family": family, "driver": name, "drift": __version__}
        json.dump(about | msgspec.to_builtins(found), file, indent=2)
        file.write("\n")
    raise SystemExit(any(result.outcome == "fail" for result in results))


def _speeds_table(speeds: Sequence["Speed"]) -> Table:
    right = [Column(name, justify="right") for name in ("Driver", "In memory", "Ratio")]
    table = Table("Measure", "Unit", *right)
    for speed in speeds:
        numbers = (f"{speed.driver:,.0f}", f"{speed.reference:,.0f}", f"{speed.driver / speed.reference:.2g}")
        table.add_row(speed.what, speed.unit, *numbers)
    return table


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
@configured
def cluster(settings: Config, *, as_json: bool) -> None:
    """Show the nodes that share the database, which of them leads, and which events wait to be told."""
    state = uvloop.run(_cluster(settings))
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(state), indent=2))
        return
    wide = [Column(name, overflow="fold") for name in ("Node", "Address")]
    nodes = Table(*wide, "Version", "Role", "Status", "Seen")
    for node in state.nodes:
        named = (escape(node.node_id), escape(node.address or "unknown"), escape(node.version))
        status = f"[{STATUS_STYLES[node.status]}]{node.status}[/]"
        nodes.add_row(*named, node.role, status, f"{node.last_seen_seconds:.0f} s ago")
    console = Console()
    console.print(nodes)
    if state.leader is None:
        console.print("nobody leads at this moment")
    for subscriber, count in state.lag.items():
        console.print(f"{count} events wait for {subscriber}", markup=False)


async def _cluster(settings: Config) -> "ClusterState":
    from drift_core.metadata.cluster import cluster_state
    from drift_core.metadata.database import open_database
    from drift_core.runtime import settings_of

    timeout = settings.cluster.health_check_timeout_seconds
    async with open_database(settings.database_url(), settings_of(settings)) as database:
        return await database.read(lambda db: cluster_state(db, timeout))


@main.command()
@click.option("--repair", is_flag=True, help="Mend what can be mended; run it while nobody pushes.")
@click.option("--quick", is_flag=True, help="Compare sizes only, without reading the bytes of every blob.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per finding.")
@configured
def fsck(settings: Config, *, repair: bool, quick: bool, as_json: bool) -> None:
    """Verify that bytes and records agree; ends with 1 where something is left to do.

    A missing or damaged blob is forgotten by --repair, so that clients are told and push it again.
    """
    from drift_core.metadata.migrations import migrate

    configure_logs(settings.logging)
    migrate(settings.database_url())
    findings = uvloop.run(_fsck(settings, repair=repair, read_bytes=not quick, show=not as_json))
    if as_json:
        for finding in findings:
            click.echo(json.dumps({name: getattr(finding, name) for name in finding.__struct_fields__}))
    elif findings:
        table = Table("Finding", "What", "Detail", "Mended")
        for finding in findings:
            table.add_row(finding.kind, finding.subject, escape(finding.detail), "yes" if finding.mended else "no")
        Console().print(table)
    else:
        click.echo("bytes and records agree")
    raise SystemExit(any(not finding.mended for finding in findings))


main.add_command(gc)
main.add_command(sign)
main.add_command(verify)


@main.group()
def storage() -> None:
    """Move the blobs to another store."""


@storage.command("migrate")
@click.option("--jobs", type=click.IntRange(1, 64), default=4, show_default=True, help="Blobs copied at a time.")
@click.option("--dry-run", is_flag=True, help="Only say how much there is to copy.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for programs.")
@configured
def migrate_storage(settings: Config, *, jobs: int, dry_run: bool, as_json: bool) -> None:
    """Copy every blob from the store of storage.previous to that of storage.type, while servers use both.

    Every blob is verified as it arrives; what is there is not copied again. Ends with 1 where one could not be copied.
    """
    from drift_core.runtime import prepare

    if settings.storage.previous is None:
        raise ConfigError("storage.previous", "is not set; it names the driver that the blobs come from")
    configure_logs(settings.logging)
    prepare(settings, load_plugins(settings))
    done = uvloop.run(_migrate_storage(settings, jobs, dry_run=dry_run, show=not as_json))
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(done)))
    else:
        for one in done.failures:
            click.echo(f"{one.digest} could not be copied: {one.error}")
        click.echo(f"copied {done.copied} blobs, {decimal(done.size)}; left: {done.left}, {decimal(done.left_size)}")
        if not done.left:
            click.echo("the new store has everything: remove storage.previous and start the servers again")
    raise SystemExit(done.failed > 0)


async def _migrate_storage(settings: Config, jobs: int, *, dry_run: bool, show: bool) -> "Migrated":
    from drift_core.registry.migration import Migrated, Migration, Missing
    from drift_core.runtime import open_places

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    migrated = Migrated()
    async with open_places(settings, load_plugins(settings)) as (new, previous):
        migration = Migration(new, previous, jobs)
        with Progress(*columns, console=Console(stderr=True), disable=not show, transient=True) as progress:
            task = progress.add_task("copying", total=None)
            async for item in migration.run():
                migrated.add(item)
                if isinstance(item, Missing):
                    progress.reset(task, total=item.size)
                    if dry_run:
                        break
                else:
                    progress.advance(task, item.size)
    return migrated


async def _fsck(settings: Config, *, repair: bool, read_bytes: bool, show: bool) -> list["Finding"]:
    from drift_core.metadata.database import open_database
    from drift_core.registry.fsck import Check, Finding
    from drift_core.runtime import open_store

    findings = []
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TextColumn("{task.completed:,.0f}"))
    async with (
        open_database(settings.database_url()) as database,
        open_store(settings, load_plugins(settings)) as store,
    ):
        with Progress(*columns, console=Console(stderr=True), disable=not show, transient=True) as progress:
            sparse = settings.registry.sparse_manifests
            check = Check(database, store, repair=repair, read_bytes=read_bytes, sparse_manifests=sparse)
            tasks = {}
            async for item in check.run():
                if isinstance(item, Finding):
                    findings.append(item)
                else:
                    if item.step not in tasks:
                        tasks[item.step] = progress.add_task(item.step, total=None)
                    progress.update(tasks[item.step], completed=item.done)
    return findings
