"""The pages of the core for the console: what `/admin` answers, the configuration, and what is installed."""

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal

from drift_core import __version__
from drift_core.config import Config, to_toml
from drift_core.metadata.runs import Run
from drift_core.pages import (
    Act,
    Asked,
    Block,
    Copied,
    Done,
    Facts,
    Figure,
    Figures,
    Form,
    Moment,
    Page,
    Size,
    State,
    Table,
    Text,
    Told,
)
from drift_core.plugins import Plugins
from drift_core.protocols.collection import Removal
from drift_core.registry.collecting import Report
from drift_core.runtime import Runtime

SHOWN = 200
"""Removals of a dry run that are listed one by one."""

COUNTED = 10_000
"""Things that wait for the collector, of which no more are counted while somebody looks."""

STATES: Mapping[str, Literal["good", "bad"]] = {
    "Healthy": "good",
    "loaded": "good",
    "done": "good",
    "Unhealthy": "bad",
    "broken": "bad",
    "failed": "bad",
}
"""Words that are good or bad; others are neither."""


def core_pages(config: Config, runtime: Runtime, plugins: Plugins) -> list[Page]:
    """Returns the pages, all of which need the right to everything."""
    collection = _Collection(runtime)
    return [
        Page("/cluster", "Cluster", _nothing, "Cluster", live=_Cluster(config, runtime).live),
        Page(
            "/collection",
            "Garbage collection",
            collection.show,
            "Garbage collection",
            acts={"dry-run": Act(collection.dry_run), "collect": Act(collection.collect)},
            live=collection.live,
        ),
        Page("/signing", "Signing keys", _Keys(runtime).show, "Signing keys"),
        Page("/plugins", "Plugins", _Installed(runtime, plugins).show, "Plugins"),
        Page("/configuration", "Configuration", _Effective(config, plugins).show, "Configuration"),
    ]


async def _nothing(_: Asked) -> Sequence[Block]:
    """Is the rest of a page all of which is live."""
    return ()


class _Cluster:
    """Which nodes share the database, who leads, and what waits to be told."""

    def __init__(self, config: Config, runtime: Runtime) -> None:
        self._config = config
        self._registry = runtime.registry

    async def live(self, _: Asked) -> Sequence[Told]:
        state = await self._registry.cluster(self._config.cluster)
        labels = {node.id: node.node_id for node in state.nodes}
        leader = "nobody now" if state.leader is None else labels.get(state.leader, state.leader)
        nodes = [
            (
                node.node_id,
                node.address,
                node.role,
                word(node.status),
                node.version,
                node.workers,
                Moment(datetime.fromisoformat(node.started_at).timestamp()),
                Moment(time.time() - node.last_seen_seconds),
            )
            for node in state.nodes
        ]
        columns = ("Node", "Address", "Role", "Status", "Version", "Workers", "Started", "Last seen")
        figures = (
            Figure("Nodes", len(nodes)),
            Figure("Leader", leader, "does the work beside requests"),
            Figure("Database", state.database),
        )
        lag = sorted(state.lag.items())
        return (
            Figures(figures),
            Table("Nodes", columns, nodes),
            Table("Events that wait", ("Subscriber", "Not taken yet"), lag, "Nobody subscribes to events."),
        )


class _Collection:
    """How the collector is configured, what waits for it, what it did, and what it would do now."""

    def __init__(self, runtime: Runtime) -> None:
        self._collecting = runtime.registry.collecting

    async def live(self, _: Asked) -> Sequence[Told]:
        status = await self._collecting.status(COUNTED)
        if status.status == "not_configured":
            return (Text("No garbage collector is enabled: set garbage_collector.enabled, and install drift-gc."),)
        number = status.waiting if status.waiting < COUNTED else f"{COUNTED:,} or more"
        waiting = Figures((Figure("Waiting", number, "things that may be removed after their grace"),))
        columns = ("Began", "By", "Dry run", "State", "Blobs", "Manifests", "Freed", "")
        return (waiting, Table("Last runs", columns, [_run(run) for run in status.runs], "It has not run yet."))

    async def show(self, _: Asked) -> Sequence[Block]:
        if self._collecting.collector is None:
            return ()
        dry = Form("See what would be removed now", "Dry run", act="dry-run")
        collect = Form("Remove what nothing reaches, now", "Collect garbage", act="collect", danger=True)
        found = sorted(self._collecting.settings.items())
        return (dry, collect, Facts("Settings", [(name, str(value)) for name, value in found]))

    async def dry_run(self, asked: Asked) -> Done:
        rows: list[Sequence[str | Copied | Size]] = []
        report = Report()
        async for item in self._collecting.run("request", asked.identity, dry_run=True):
            if isinstance(item, Report):
                report = item
            elif len(rows) < SHOWN:
                rows.append(_removal(item))
        found = report.blobs_deleted + report.manifests_deleted
        figures = (
            Figure("Blobs", report.blobs_deleted),
            Figure("Manifests", report.manifests_deleted),
            Figure("Shown below", min(found, SHOWN), f"of {found}"),
        )
        columns = ("Kind", "Repository", "Digest", "Size", "Why")
        table = Table("Would be removed now", columns, rows, "Nothing would be removed now.")
        return Done("A dry run is done: nothing was removed.", found=(Figures(figures), table))

    async def collect(self, asked: Asked) -> Done:
        report = Report()
        async for item in self._collecting.run("request", asked.identity, dry_run=False):
            if isinstance(item, Report):
                report = item
        return Done(f"The collection is done: {report.blobs_deleted} blobs and {report.manifests_deleted} manifests.")


class _Keys:
    """Which keys sign, who is trusted, and which certificates end soon."""

    def __init__(self, runtime: Runtime) -> None:
        self._signing = runtime.signing

    async def show(self, _: Asked) -> Sequence[Block]:
        rows = [
            (
                key.format,
                key.name,
                key.kind,
                key.algorithm,
                None if key.expires_at is None else Moment(key.expires_at),
                None if key.warning is None else State(key.warning, "warning"),
            )
            for key in await self._signing.keys()
        ]
        columns = ("Format", "Name", "Kind", "Algorithm", "Ends", "")
        return (
            Table("Keys and authorities", columns, rows, "Nothing is signed or verified: [signing] is not enabled."),
        )


class _Installed:
    """The plugins: what each offers, what of it is in use, and why one is broken."""

    def __init__(self, runtime: Runtime, plugins: Plugins) -> None:
        self._found = plugins.found
        self._offers = {
            plugin.name: [(offer.family, offer.driver.name) for offer in plugins.offers() if offer.plugin is plugin]
            for plugin in plugins.found
        }
        self._used = {(one.family.name, one.offer.driver.name) for one in runtime.chosen}

    async def show(self, _: Asked) -> Sequence[Block]:
        rows = [
            (
                plugin.name,
                plugin.distribution,
                plugin.version,
                word(plugin.state),
                self._named(plugin.name, used=True),
                self._named(plugin.name, used=False),
                plugin.error,
            )
            for plugin in self._found
        ]
        columns = ("Plugin", "Distribution", "Version", "State", "In use", "Also offers", "Why it is broken")
        broken = sum(plugin.state == "broken" for plugin in self._found)
        figures = (Figure("Installed", len(rows)), Figure("Broken", broken), Figure("Drift", __version__))
        return (Figures(figures), Table("Plugins", columns, rows, "No plugin is installed."))

    def _named(self, plugin: str, *, used: bool) -> str:
        return ", ".join(f"{offer[0]}:{offer[1]}" for offer in self._offers[plugin] if (offer in self._used) is used)


class _Effective:
    """The configuration with its defaults, and without secrets."""

    def __init__(self, config: Config, plugins: Plugins) -> None:
        self._text = to_toml(config.redacted(plugins.tables()))

    async def show(self, _: Asked) -> Sequence[Block]:
        return (
            Text("What the server runs with: the file, the environment and --set together. Secrets are hidden."),
            Text(self._text, code=True),
        )


def word(text: str) -> State:
    """Returns a word of the core's with what it means."""
    return State(text, STATES.get(text, "neutral"))


def _run(run: Run) -> Sequence[Moment | str | State | int | Size]:
    dry = "yes" if run.dry_run else "no"
    counts = (run.blobs, run.manifests, Size(run.bytes_freed))
    return (Moment(run.started_at), run.began_by, dry, word(run.state), *counts, run.message)


def _removal(removal: Removal) -> Sequence[str | Copied | Size]:
    digest = Copied(str(removal.digest), str(removal.digest)[:19])
    return (removal.kind, removal.repository, digest, Size(removal.size), removal.reason)
