"""What is measured: a registry of prometheus_client with the core's metrics, and one for each plugin."""

import time
from collections.abc import Awaitable, Iterable
from typing import Final, TypeVar

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from drift_core import __version__
from drift_core.counting import are_shared, of_all_processes
from drift_core.errors import Unavailable

T = TypeVar("T")

SECONDS: Final = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)


class Waits:
    """How long what Drift needs took, by operation, and how often it was not available."""

    def __init__(self, name: str, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            f"drift_{name}_seconds",
            f"How long operations of the {name} took, with the time that they waited for their turn.",
            ["operation"],
            buckets=SECONDS,
            registry=registry,
        )
        self._failures = Counter(
            f"drift_{name}_failures",
            f"Operations of the {name} that failed since it did not work.",
            ["operation"],
            registry=registry,
        )
        self._histograms: dict[str, Histogram] = {}

    async def of(self, operation: str, work: Awaitable[T]) -> T:
        """Returns what ``work`` does, and raises what it raises. For any number of tasks."""
        began = time.perf_counter()
        try:
            return await work
        except Unavailable:
            self._failures.labels(operation).inc()
            raise
        finally:
            histogram = self._histograms.get(operation)
            if histogram is None:
                histogram = self._histograms[operation] = self._seconds.labels(operation)
                # Known as 0 before the first of them: else nobody sees it begin.
                self._failures.labels(operation)
            histogram.observe(time.perf_counter() - began)


class Lookups:
    """How often one cache had what was looked for, since `Metrics.tell`: on the path of every pull, so just numbers."""

    __slots__ = ("hits", "misses")

    def __init__(self) -> None:
        self.hits = 0
        self.misses = 0


class Metrics:
    """The counters of the core, and in ``everything`` also those of the plugins."""

    def __init__(self) -> None:
        self.everything = _Everything()
        Gauge(
            "drift_info", "Which version runs.", ["version"], registry=self.everything, multiprocess_mode="max"
        ).labels(__version__).set(1)
        self.gate_refusals = self._counter("drift_gate_refusals", "Actions that a gate refused.", "plugin")
        self.gate_failures = self._counter("drift_gate_failures", "Gates that failed, and thereby refused.", "plugin")
        self.gate_seconds = self._histogram("drift_gate_seconds", "How long gates took for an answer.", "plugin")
        self.events_taken = self._counter("drift_events_taken", "Events that a subscriber took.", "subscriber")
        self.event_failures = self._counter(
            "drift_event_failures", "Events that a subscriber did not take and is told again.", "subscriber"
        )
        self.event_seconds = self._histogram(
            "drift_event_seconds", "How long subscribers took for an event.", "subscriber"
        )
        self.events_waiting = self._state(
            "drift_events_waiting", "Events that a subscriber has not taken, up to 10,000.", "subscriber"
        )
        self.nodes = self._state("drift_nodes", "Nodes that share the database, as one that leads sees them.", "status")
        self.storage = Waits("storage", self.everything)
        self.database = Waits("database", self.everything)
        self._lookups = Counter(
            "drift_cache_lookups",
            "Lookups in what worker processes remember of the database.",
            ["cache", "result"],
            registry=self.everything,
        )
        self._caches: dict[str, Lookups] = {}
        self.leader = Gauge(
            "drift_leader",
            "1 in the node that does the background work, else 0.",
            registry=self.everything,
            multiprocess_mode="livesum",
        )
        self.lease_changes = Counter(
            "drift_lease_changes", "Times that this process took over the background work.", registry=self.everything
        )
        self.collections = self._counter("drift_collections", "Runs of the garbage collector.", "result")
        self.collected = self._counter("drift_collected", "Things that the garbage collector removed.", "kind")
        self.collected_bytes = Counter(
            "drift_collected_bytes", "Bytes of blobs that no repository holds any more.", registry=self.everything
        )
        self.purged = Counter(
            "drift_purged", "Things that were removed and cannot be restored any more.", registry=self.everything
        )
        self.judgements = Counter(
            "drift_signature_judgements",
            "Signatures that a verifier has judged; what was remembered is not counted.",
            ["format", "result"],
            registry=self.everything,
        )
        self.unsigned_pulls = self._counter(
            "drift_unsigned_pulls", "Pulls of what is not signed as it has to be: refused, warned or exempt.", "result"
        )
        self.signatures_made = self._counter("drift_signatures_made", "Signatures that this registry made.", "format")
        self.work_failures = self._counter("drift_work_failures", "Times that work of a feature failed.", "plugin")
        self.page_failures = self._counter(
            "drift_page_failures", "Pages of the console that could not be made or shown.", "plugin"
        )
        self.metric_failures = self._counter("drift_metric_failures", "Metrics that could not be read.", "plugin")

    def of(self, plugin: str) -> CollectorRegistry:
        """Returns the registry of a plugin: what is registered there is in ``everything``, too."""
        return _PluginRegistry(self, plugin)

    def lookups(self, cache: str) -> Lookups:
        """Returns where the cache of a name counts."""
        return self._caches.setdefault(cache, Lookups())

    def tell(self) -> None:
        """Makes what caches have counted known to whoever reads the metrics."""
        for cache, lookups in self._caches.items():
            for result, count in (("hit", lookups.hits), ("miss", lookups.misses)):
                if count:
                    self._lookups.labels(cache, result).inc(count)
            lookups.hits = lookups.misses = 0

    def _histogram(self, name: str, documentation: str, label: str) -> Histogram:
        return Histogram(name, documentation, [label], buckets=SECONDS, registry=self.everything)

    def _state(self, name: str, documentation: str, label: str) -> Gauge:
        """Returns a gauge that only the node which leads sets."""
        return Gauge(name, documentation, [label], registry=self.everything, multiprocess_mode="livemostrecent")

    def _counter(self, name: str, documentation: str, label: str) -> Counter:
        return Counter(name, documentation, [label], registry=self.everything)


class _Everything(CollectorRegistry):
    """What is registered, with what other processes of the server have counted in metrics of the same names."""

    def __init__(self) -> None:
        super().__init__(auto_describe=True)
        self._alone: list[Collector] = []
        """What counts in a way of its own, and is that of this process."""

    def register(self, collector: Collector) -> None:
        super().register(collector)
        counts = collector.counts if isinstance(collector, _Guarded) else collector
        if not isinstance(counts, MetricWrapperBase):
            self._alone.append(collector)

    def unregister(self, collector: Collector) -> None:
        super().unregister(collector)
        if collector in self._alone:
            self._alone.remove(collector)

    def collect(self) -> Iterable[Metric]:
        if not are_shared():
            yield from super().collect()
            return
        yield from of_all_processes()
        for collector in tuple(self._alone):
            yield from collector.collect()


class _PluginRegistry(CollectorRegistry):
    """Registers twice, so that a name that another plugin has is refused, and a failure is put down to its plugin."""

    def __init__(self, metrics: Metrics, plugin: str) -> None:
        super().__init__(auto_describe=True)
        self._metrics = metrics
        self._plugin = plugin
        self._guarded: dict[Collector, _Guarded] = {}

    def register(self, collector: Collector) -> None:
        guarded = _Guarded(collector, self._metrics, self._plugin)
        self._metrics.everything.register(guarded)
        self._guarded[collector] = guarded
        super().register(collector)

    def unregister(self, collector: Collector) -> None:
        self._metrics.everything.unregister(self._guarded.pop(collector))
        super().unregister(collector)


class _Guarded(Collector):
    """Fails open: what cannot be read is left out, counted, and logged."""

    def __init__(self, collector: Collector, metrics: Metrics, plugin: str) -> None:
        self.counts = collector
        self._metrics = metrics
        self._plugin = plugin

    def describe(self) -> Iterable[Metric]:
        """Returns the names; raises what the collector raises, so that the plugin cannot be opened."""
        describe = getattr(self.counts, "describe", self.counts.collect)
        return list(describe())

    def collect(self) -> Iterable[Metric]:
        try:
            measured = list(self.counts.collect())
            # What cannot be written down would take the page of everybody with it.
            generate_latest(_Only(measured))
        except Exception as error:  # noqa: BLE001 - whatever a plugin raises, the metrics of others are read
            self._metrics.metric_failures.labels(self._plugin).inc()
            log = structlog.get_logger("drift.metrics", plugin=self._plugin)
            log.warning("metrics cannot be read", error=f"{type(error).__name__}: {error}")
            return []
        return measured


class _Only(CollectorRegistry):
    """A registry of what one collector has returned."""

    def __init__(self, measured: Iterable[Metric]) -> None:
        super().__init__()
        self._measured = measured

    def collect(self) -> Iterable[Metric]:
        return self._measured
