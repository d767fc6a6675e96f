"""The dashboard and the alerts: Prometheus reads them, each alert holds when it should, every metric is one of ours."""

import json
import re
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from drift_storage_s3.measures import Measures as ObjectMeasures
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from drift_core import config
from drift_core.http.app import build_app
from drift_core.plugins import load_plugins
from drift_core.runtime import open_for_command
from tests.faults.inspection import eventually
from tests.oci.client import Registry
from tests.oci.content import image, unique_blob
from tests.server import Server
from tests.tools import ROOT, tool

EXAMPLES = ROOT / "examples/monitoring"
ALERTS, DASHBOARD = EXAMPLES / "alerts.yml", EXAMPLES / "dashboard.json"
CASES = Path(__file__).parent / "alerts_test.yml"
PAGE = ROOT / "docs/how-to/metrics.md"
NAME = re.compile(r"\bdrift_[a-z0-9_]+")
PARTS = ("_total", "_bucket", "_sum", "_count")
ALL = (
    'auth.chain=["token", "basic"]',
    'auth.basic.users=["admin:good-password-1"]',
    "rbac.enabled=true",
    "audit.enabled=true",
    "bolt.enabled=true",
    "optimization.enabled=true",
    "quota.enabled=true",
    "retention.enabled=true",
    "scrub.enabled=true",
    "webhooks.enabled=true",
    'storage.layers=["packed"]',
)


def promtool(*arguments: str, content: str | None = None) -> str:
    done = subprocess.run([tool("promtool"), *arguments], input=content, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rules() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]
    ]
    return found


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


def queries() -> list[str]:
    """Returns what the dashboard asks, with what Grafana puts in the place of its variables."""
    asked = [target["expr"] for panel in panels() for target in panel.get("targets", ())]
    values = {"$__rate_interval": "5m", "$instance": ".*", "$job": "drift"}
    return [re.sub(r"\$\w+", lambda match: values[match[0]], one) for one in asked]


def base(name: str) -> str:
    return next((name.removesuffix(part) for part in PARTS if name.endswith(part)), name)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The kind of every metric that a server with every plugin has."""
    folder = tmp_path_factory.mktemp("known")
    settings = config.load(None, {}, [*ALL, f"storage.path={folder}"])
    async with open_for_command(settings, load_plugins(settings)) as runtime:
        with warnings.catch_warnings():
            # Plugins also serve with a Litestar that does not know what the newest wants instead.
            warnings.simplefilter("ignore", DeprecationWarning)
            build_app(settings, runtime)
        found = [*runtime.metrics.everything.collect()]
    other = CollectorRegistry()
    ObjectMeasures("s3", other)
    return {metric.name: metric.type for metric in (*found, *other.collect())}


def test_prometheus_reads_the_configuration_and_the_rules() -> None:
    said = promtool("check", "config", str(EXAMPLES / "prometheus.yml"))
    assert f"{len(rules())} rules found" in said
    promtool("check", "rules", "--lint=all", "--lint-fatal", str(ALERTS))


def test_every_alert_holds_when_it_should() -> None:
    promtool("test", "rules", str(CASES))
    wanted: dict[str, set[bool]] = {}
    for case in yaml.safe_load(CASES.read_text())["tests"]:
        for one in case["alert_rule_test"]:
            wanted.setdefault(one["alertname"], set()).add("exp_alerts" in one)
    assert wanted == {rule["alert"]: {True, False} for rule in rules()}


def test_every_alert_says_what_to_do() -> None:
    told = re.findall(r"^### (\w+)\n\n(.+)", PAGE.read_text(), re.MULTILINE)
    assert [name for name, _ in told] == [rule["alert"] for rule in rules()]
    for rule in rules():
        assert rule["annotations"]["runbook"] == f"docs/how-to/metrics.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in {"critical", "warning"}


def test_every_query_of_the_dashboard_is_one(tmp_path: Path) -> None:
    recorded = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries())]
    assert len(recorded) > 50
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": recorded}]}))
    promtool("check", "rules", str(file))


def test_the_dashboard_is_whole() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    identifiers = [panel["id"] for panel in panels()]
    assert len({*identifiers}) == len(identifiers)
    taken = set()
    for panel in panels():
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    variables = {one["name"] for one in dashboard["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(panels()))) - {"__rate_interval"}
    assert used == variables == {"datasource", "job", "instance"}


async def test_every_metric_is_one_of_the_server(known: dict[str, str]) -> None:
    expressions = {f"alert {rule['alert']}": rule["expr"] for rule in rules()}
    expressions |= {query: query for query in queries()}
    unknown = {
        (where, name)
        for where, expression in expressions.items()
        for name in NAME.findall(expression)
        if base(name) not in known
    }
    assert unknown == set()


async def test_counters_are_rated_and_gauges_are_not(known: dict[str, str]) -> None:
    """What only grows says nothing by itself, and what goes up and down has no rate."""
    wrong = []
    for query in [*queries(), *(rule["expr"] for rule in rules())]:
        rated = set(re.findall(r"(?:rate|increase)\(\s*(drift_[a-z0-9_]+)", query))
        names = NAME.findall(query)
        wrong += [(one, query) for one in names if (known[base(one)] in ("counter", "histogram")) != (one in rated)]
    assert wrong == []


def test_the_signals_are_all_there() -> None:
    rows = [panel["title"] for panel in panels() if panel["type"] == "row"]
    assert rows == ["Now", "Requests", "Storage", "Database and caches", "Plugins", "Queues", "Collection"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = ("quota.enabled=true", 'quota.repositories={"full/*" = "10 B"}', "registry.immutable_tags=[]")
    with Server(tmp_path_factory.mktemp("monitored"), *settings) as server:
        yield server


def samples(server: Server) -> dict[tuple[str, ...], float]:
    answer = httpx.get(f"{server.url}/metrics").raise_for_status()
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def push(server: Server, repository: str, tag: str) -> None:
    with Registry(server.url, fresh=True) as registry:
        layer, config = unique_blob(1000), unique_blob(10)
        for blob in (layer, config):
            path = f"/v2/{repository}/blobs/uploads/"
            assert registry.post(path, {"digest": blob.digest}, blob.content).status_code == 201
        made = image(config, layer)
        path = f"/v2/{repository}/manifests/{tag}"
        assert registry.put(path, None, made.content, content_type=made.media_type).status_code == 201
        for _ in range(3):
            assert registry.get(path).status_code == 200
        assert registry.get(f"/v2/{repository}/blobs/{layer.digest}", range="bytes=1-5").status_code == 206


def test_what_a_server_says_is_what_prometheus_wants(server: Server) -> None:
    push(server, "team/app", "v1")
    wanted = {
        ("drift_storage_seconds_count", "begin"),
        ("drift_storage_seconds_count", "commit"),
        ("drift_storage_seconds_count", "read"),
        ("drift_storage_failures_total", "commit"),
        ("drift_database_seconds_count", "read"),
        ("drift_database_seconds_count", "write"),
        ("drift_database_failures_total", "write"),
        ("drift_cache_lookups_total", "manifests", "hit"),
        ("drift_cache_lookups_total", "manifests", "miss"),
        ("drift_gate_seconds_count", "quota"),
        ("drift_gate_failures_total", "quota"),
        ("drift_nodes", "Healthy"),
        ("drift_nodes", "Unhealthy"),
        ("drift_leader",),
        ("drift_filesystem_free_bytes",),
        ("drift_filesystem_size_bytes",),
    }
    missing = wanted

    def complete() -> bool:
        nonlocal missing
        # Only one that nobody committed before, and that the same worker gets, finds what it remembers.
        assert httpx.get(f"{server.url}/v2/team/app/manifests/v1").status_code == 200
        missing = wanted - samples(server).keys()
        return not missing

    try:
        eventually(complete, "every signal")
    finally:
        assert missing == set()
    found = samples(server)
    assert (found["drift_nodes", "Healthy"], found["drift_nodes", "Unhealthy"], found["drift_leader",]) == (1, 0, 1)
    assert found["drift_storage_seconds_count", "begin"] == found["drift_storage_seconds_count", "commit"] == 2
    assert found["drift_cache_lookups_total", "manifests", "hit"] >= 1
    assert found["drift_gate_seconds_count", "quota"] >= 2
    assert 0 < found["drift_filesystem_free_bytes",] < found["drift_filesystem_size_bytes",]
    page = httpx.get(f"{server.url}/metrics").text
    assert promtool("check", "metrics", content=page) == ""
