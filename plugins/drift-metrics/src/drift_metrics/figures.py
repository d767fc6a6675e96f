"""What somebody wants to know of a server who looks at it for a moment, from two readings of its metrics."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from msgspec import Struct

from drift_metrics.reading import Reading, Sample

ENDPOINTS: Final = (
    "manifest",
    "blob",
    "uploads",
    "upload",
    "tags",
    "referrers",
    "catalog",
    "base",
    "extensions",
    "console",
    "other",
)
"""The kinds of requests, in the order in which they are shown; any other comes last."""

SERVER_ERROR: Final = 500

QUEUES: Final = {
    "drift_events_waiting": ("events", "subscriber"),
    "drift_webhooks_waiting_events": ("webhook", "target"),
    "drift_webhooks_aside_events": ("webhook, put aside", "target"),
    "drift_audit_sink_lag": ("audit sink", "sink"),
    "drift_optimize_waiting_jobs": ("images to optimize", ""),
}
"""Gauges of what waits: what it is called, and the label that says for whom."""


class Requests(Struct, frozen=True, kw_only=True):
    """Requests of one kind: how many in a second, those of them that ended with 5xx, and bytes in a second.

    ``p50`` and ``p99`` are seconds within which half, and 99 of 100, were answered; None where there were none.
    """

    endpoint: str
    per_second: float
    errors_per_second: float
    p50: float | None
    p99: float | None
    received: float
    sent: float


class Operation(Struct, frozen=True, kw_only=True):
    """What the server asked of its storage, or its database; ``p99`` in seconds."""

    name: str
    per_second: float
    failures_per_second: float
    p99: float | None


class Figures(Struct, frozen=True, kw_only=True):
    """A server within ``seconds``; gauges are as of their end.

    ``nodes`` are those that share the database, by status, and are known to the one that leads alone. ``caches`` is the
    share of lookups that were hits. ``free_bytes`` and ``size_bytes`` are None where blobs are not in files.
    """

    version: str
    seconds: float
    requests: Sequence[Requests]
    requests_per_second: float
    errors_per_second: float
    pulls_per_second: float
    pushes_per_second: float
    received: float
    sent: float
    under_way: float
    leader: bool
    nodes: Mapping[str, int]
    queues: Mapping[str, int]
    storage: Sequence[Operation]
    database: Sequence[Operation]
    caches: Mapping[str, float]
    free_bytes: float | None
    size_bytes: float | None


def figures(before: Reading, now: Reading) -> Figures:
    """Returns what happened between two readings of one server. The second is the later one."""
    seconds = max(now.at - before.at, 1e-3)
    requests = [*now.since(before, "drift_requests_total")]
    by_endpoint = [_requests(before, now, seconds, endpoint, requests) for endpoint in _endpoints(requests)]
    free, size = (_one(now, f"drift_filesystem_{name}_bytes") for name in ("free", "size"))
    return Figures(
        version=next((sample.labels["version"] for sample in now.samples("drift_info")), ""),
        seconds=seconds,
        requests=by_endpoint,
        requests_per_second=_sum(requests) / seconds,
        errors_per_second=_sum(requests, _failed) / seconds,
        pulls_per_second=_sum(requests, _is("manifest", "GET", "200")) / seconds,
        pushes_per_second=_sum(requests, _is("manifest", "PUT", "201")) / seconds,
        received=sum(one.received for one in by_endpoint),
        sent=sum(one.sent for one in by_endpoint),
        under_way=_one(now, "drift_requests_under_way") or 0,
        leader=bool(_one(now, "drift_leader")),
        nodes={one.labels["status"]: int(one.value) for one in now.samples("drift_nodes") if one.value},
        queues=_queues(now),
        storage=_operations(before, now, seconds, "drift_storage"),
        database=_operations(before, now, seconds, "drift_database"),
        caches=_caches(now.since(before, "drift_cache_lookups_total")),
        free_bytes=free,
        size_bytes=size,
    )


def quantile(share: float, buckets: Iterable[tuple[float, float]]) -> float | None:
    """Returns within how much ``share`` of all observations lie, as `histogram_quantile` of PromQL does.

    ``buckets`` are pairs of an upper bound and how many lie below it; None where there are none.
    """
    bounds = sorted(buckets)
    if not bounds or bounds[-1][1] <= 0:
        return None
    rank = share * bounds[-1][1]
    lower, below = 0.0, 0.0
    for upper, count in bounds:
        if count >= rank:
            if math.isinf(upper):
                return lower
            return lower + (upper - lower) * (rank - below) / (count - below) if count > below else upper
        lower, below = upper, count
    return lower


def _requests(before: Reading, now: Reading, seconds: float, endpoint: str, every: Sequence[Sample]) -> Requests:
    own = [sample for sample in every if sample.labels["endpoint"] == endpoint]

    def total(name: str) -> float:
        return _sum(now.since(before, name), lambda sample: sample.labels["endpoint"] == endpoint)

    buckets = _buckets(now.since(before, "drift_request_seconds_bucket"), "endpoint", endpoint)
    return Requests(
        endpoint=endpoint,
        per_second=_sum(own) / seconds,
        errors_per_second=_sum(own, _failed) / seconds,
        p50=quantile(0.5, buckets),
        p99=quantile(0.99, buckets),
        received=total("drift_received_bytes_total") / seconds,
        sent=total("drift_sent_bytes_total") / seconds,
    )


def _endpoints(requests: Iterable[Sample]) -> list[str]:
    found = {sample.labels["endpoint"] for sample in requests}
    return sorted(found, key=lambda one: (ENDPOINTS.index(one) if one in ENDPOINTS else len(ENDPOINTS), one))


def _operations(before: Reading, now: Reading, seconds: float, prefix: str) -> list[Operation]:
    failures = {one.labels["operation"]: one.value for one in now.since(before, f"{prefix}_failures_total")}
    buckets = [*now.since(before, f"{prefix}_seconds_bucket")]
    return [
        Operation(
            name=one.labels["operation"],
            per_second=one.value / seconds,
            failures_per_second=failures.get(one.labels["operation"], 0.0) / seconds,
            p99=quantile(0.99, _buckets(buckets, "operation", one.labels["operation"])),
        )
        for one in sorted(now.since(before, f"{prefix}_seconds_count"), key=lambda one: one.labels["operation"])
    ]


def _caches(lookups: Iterable[Sample]) -> dict[str, float]:
    counts: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for one in lookups:
        counts[one.labels["cache"]][one.labels["result"]] = one.value
    return {
        cache: found.get("hit", 0.0) / sum(found.values())
        for cache, found in sorted(counts.items())
        if any(found.values())
    }


def _queues(now: Reading) -> dict[str, int]:
    found: dict[str, int] = {}
    for metric, (name, label) in QUEUES.items():
        for one in now.samples(metric):
            found[f"{name}: {one.labels[label]}" if label else name] = int(one.value)
    return found


def _buckets(samples: Iterable[Sample], label: str, value: str) -> list[tuple[float, float]]:
    return [(float(one.labels["le"]), one.value) for one in samples if one.labels[label] == value]


def _one(reading: Reading, name: str) -> float | None:
    found = [sample.value for sample in reading.samples(name)]
    return sum(found) if found else None


def _sum(samples: Iterable[Sample], wanted: Callable[[Sample], bool] = lambda _: True) -> float:
    return sum(sample.value for sample in samples if wanted(sample))


def _failed(sample: Sample) -> bool:
    status = sample.labels["status"]
    return status.isdecimal() and int(status) >= SERVER_ERROR


def _is(endpoint: str, method: str, status: str) -> Callable[[Sample], bool]:
    wanted = {"endpoint": endpoint, "method": method, "status": status}
    return lambda sample: sample.labels == wanted
