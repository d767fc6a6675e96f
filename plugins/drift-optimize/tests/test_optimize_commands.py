"""What an operator types and asks: the commands beside a server that runs, and the routes and who may use them."""

import gzip
import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import zstandard

from drift_core.api import StartError
from tests.faults.inspection import PATIENCE, eventually
from tests.plugins.installation import Installation
from tests.plugins.test_guard import LOGIN, POLICY
from tests.server import DRIFT, Server
from tests.tools import ROOT

from .beside import drift_optimize, ran
from .corpus import Tar
from .pushing import OCI_GZIP, OCI_ZSTD, Blob, digest_of, put_image, text
from .registry import Optimized

HAND, NOTHING = "hand/app", digest_of(b"nothing")


def blob(seed: int, form: str = "gzip") -> Blob:
    tar = Tar().file(f"opt/{seed}", text(seed, 60_000)).end()
    packed = gzip.compress(tar, 0, mtime=0) if form == "gzip" else zstandard.compress(tar)
    return Blob(OCI_GZIP if form == "gzip" else OCI_ZSTD, packed, digest_of(tar))


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Optimized]:
    """A server that makes forms only of what somebody asks for."""
    settings = ("server.workers=1", "optimization.background_optimization=false", 'optimization.forms=["zstd"]')
    with Optimized(tmp_path_factory.mktemp("commands"), *settings) as registry:
        for number, tag in enumerate(("v1", "v2")):
            put_image(registry, HAND, tag, [blob(number)])
        broken = Blob(OCI_GZIP, blob(9).content[:-9], blob(9).diff_id)
        put_image(registry, "hand/broken", "v1", [broken])
        yield registry


def drift(registry: Optimized, line: str, *settings: str) -> "subprocess.CompletedProcess[str]":
    words = [str(DRIFT), *line.split(" "), *registry.server.arguments()]
    words += [part for setting in settings for part in ("--set", setting)]
    wide = os.environ | {"COLUMNS": "300"}
    return subprocess.run(words, cwd=ROOT, env=wide, capture_output=True, text=True, timeout=PATIENCE, check=False)


def test_nothing_happens_by_itself(registry: Optimized) -> None:
    assert registry.jobs() == []
    assert registry.client.get("/admin/optimize/status").json()["policy"]["optimization_schedule"] == "on request"


def test_run_by_the_program(registry: Optimized) -> None:
    """All that tags name; progress is for people, and not on the standard output."""
    done = drift(registry, f"optimize run {HAND}")
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    assert all(f"{HAND}:{tag} " in done.stdout and "optimized" in done.stdout for tag in ("v1", "v2"))
    for tag in ("v1", "v2"):
        assert len(registry.referrers(HAND, registry.digest(HAND, tag))) == 1


def test_run_by_tag_and_by_digest(registry: Optimized) -> None:
    digest = registry.digest(HAND, "v1")
    assert ran(registry, f"{HAND}:v1")["tag"] == "v1"
    job = ran(registry, f"{HAND}@{digest}")
    assert (job["digest"], job["tag"], job["state"]) == (digest, None, "optimized")


def test_run_ends_with_1_where_one_failed(registry: Optimized) -> None:
    job = ran(registry, "hand/broken", code=1)
    assert (job["state"], job["message"]) == ("failed", "the layer's gzip ends too early")
    shown = drift_optimize(registry, "run", "hand/broken:v1")
    assert shown.exit_code == 1
    assert "the layer's gzip ends too early" in shown.stdout


@pytest.mark.parametrize(
    "wanted", ["hand/nothing", f"{HAND}:v3", f"{HAND}@{NOTHING}", f"{HAND}@sha256:short", "hand/nothing:v1", "A B:v1"]
)
def test_what_is_not_there(registry: Optimized, wanted: str) -> None:
    before = registry.jobs()
    done = drift_optimize(registry, "run", wanted)
    assert isinstance(done.exception, StartError)
    assert (done.exit_code, registry.jobs()) == (1, before)


def test_what_is_not_there_is_told_without_a_traceback(registry: Optimized) -> None:
    done = drift(registry, "optimize run hand/nothing:v1")
    assert (done.returncode, done.stdout, "Traceback" in done.stderr) == (1, "", False)
    assert "Error: " in done.stderr


def test_status(registry: Optimized) -> None:
    ran(registry, f"{HAND}:v1")
    found = json.loads(drift_optimize(registry, "status", "--json").stdout)
    assert found["stats"] == registry.client.get("/admin/optimize/stats").json()
    assert found["jobs"] == registry.jobs()
    said = drift_optimize(registry, "status").stdout
    sums = found["stats"]
    assert f"{HAND}:v1" in said
    assert f"{sums['optimized_layers']} of {sums['total_layers']} layers have another form" in said
    assert f"{sums['total_savings']} bytes smaller" in said


def test_a_command_needs_the_plugin_to_be_on(registry: Optimized) -> None:
    done = drift(registry, "optimize status", "optimization.enabled=false")
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert "optimization" in done.stderr


def report(registry: Optimized) -> dict[str, dict[str, Any]]:
    found = json.loads(drift_optimize(registry, "report", "--json").stdout)
    assert (
        sorted(found["repositories"], key=lambda row: (-row["duplicate_bytes"], row["name"])) == found["repositories"]
    )
    return {row["name"]: row for row in (*found["repositories"], found["all"])}


def test_report(registry: Optimized) -> None:
    """The largest of those that unpack to the same is needed, the others are not: in one repository, or across two."""
    before = report(registry)["all repositories"]
    one, other = blob(101), blob(101, "zstd")
    put_image(registry, "twice/a", "v1", [one, blob(102)])
    put_image(registry, "twice/a", "v2", [one, blob(103)])
    put_image(registry, "twice/b", "v1", [other])
    put_image(registry, "twice/c", "both", [one, other])
    found = report(registry)
    size, rest = len(one.content), len(other.content)
    own = size + len(blob(102).content) + len(blob(103).content)
    assert rest < size
    assert found["twice/a"] == counted("twice/a", 3, own, 0, 0)
    assert found["twice/b"] == counted("twice/b", 1, rest, 0, 0)
    assert found["twice/c"] == counted("twice/c", 2, size + rest, 1, rest)
    added = {key: value - before[key] for key, value in found["all repositories"].items() if key != "name"}
    assert {"name": "", **added} == counted("", 4, own + rest, 1, rest)
    said = drift_optimize(registry, "report").stdout
    assert all(name in said for name in ("twice/a", "twice/b", "twice/c", "all repositories", str(rest)))


def counted(name: str, layers: int, size: int, twice: int, twice_size: int) -> dict[str, Any]:
    return {"name": name, "layers": layers, "bytes": size, "duplicate_layers": twice, "duplicate_bytes": twice_size}


def test_asked_by_the_api(registry: Optimized) -> None:
    put_image(registry, "api/app", "v1", [blob(20)])
    digest = put_image(registry, "api/app", "v2", [blob(21)])
    answer = registry.client.post("/admin/optimize", json={"repository": "api/app"})
    assert (answer.status_code, answer.headers["cache-control"]) == (202, "no-store")
    assert len(answer.json()["jobs"]) == 2
    job = registry.ended("api/app", digest)
    assert job["state"] == "optimized"
    assert registry.client.get(f"/admin/optimize/jobs/{job['id']}").json() == job
    assert job["bytes_done"] <= job["bytes_total"]
    assert len(registry.referrers("api/app", digest)) == 1
    for reference in ("v2", digest):
        answer = registry.client.post("/admin/optimize", json={"repository": "api/app", "reference": reference})
        assert answer.json() == {"jobs": [job["id"]]}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "", "no json", 400, None),
        ("POST", "", "{}", 400, None),
        ("POST", "", '{"repository": 5}', 400, None),
        ("POST", "", '{"repository": "a", "force": true}', 400, None),
        ("POST", "", '{"repository": "no/such"}', 404, "MANIFEST_UNKNOWN"),
        ("POST", "", f'{{"repository": "{HAND}", "reference": "none"}}', 404, "MANIFEST_UNKNOWN"),
        ("POST", "", f'{{"repository": "{HAND}", "reference": "{NOTHING}"}}', 404, "MANIFEST_UNKNOWN"),
        ("POST", "", f'{{"repository": "{HAND}", "reference": "sha256:x"}}', 400, "DIGEST_INVALID"),
        ("GET", "/status?limit=0", None, 400, None),
        ("GET", "/status?limit=501", None, 400, None),
        ("GET", "/status?state=tired", None, 400, None),
        ("GET", "/status?before=x", None, 400, None),
        ("GET", "/jobs/999999", None, 404, None),
        ("GET", "/jobs/one", None, 404, None),
        ("DELETE", "/jobs/999999", None, 404, None),
    ],
)
def test_what_makes_no_sense(
    registry: Optimized, method: str, path: str, body: str | None, status: int, code: str | None
) -> None:
    headers = {"content-type": "application/json"}
    answer = registry.client.request(method, f"/admin/optimize{path}", content=body, headers=headers)
    assert answer.status_code == status, answer.text
    (error,) = answer.json()["errors"]
    assert set(error) >= {"code", "message"}
    assert code is None or error["code"] == code


def test_pages_of_jobs(registry: Optimized) -> None:
    for number in range(5):
        put_image(registry, "pages/app", f"v{number}", [blob(30 + number)])
    registry.client.post("/admin/optimize", json={"repository": "pages/app"}).raise_for_status()
    eventually(lambda: not registry.jobs(state="pending"), "nothing that waits")
    eventually(lambda: not registry.jobs(state="optimizing"), "nothing that is worked on")
    every = registry.jobs()
    pages: list[dict[str, Any]] = []
    while page := registry.jobs(limit="2", **({"before": str(pages[-1]["id"])} if pages else {})):
        assert len(page) <= 2
        assert page[0] not in pages
        pages += page
    assert pages == every
    assert [job["id"] for job in every] == sorted((job["id"] for job in every), reverse=True)
    failed = registry.jobs(state="failed")
    assert {job["repository"] for job in failed} == {job["repository"] for job in every if job["state"] == "failed"}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server at which somebody has to log in."""
    folder = tmp_path_factory.mktemp("guarded")
    installation = Installation(folder / "site")
    for name, source in {"login": LOGIN, "policy": POLICY}.items():
        installation.add(f"acme-{name}", {name: f"acme_{name}"}, {f"acme_{name}": source})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(installation.folder))
        settings = ('auth.chain=["key"]', 'auth.policies=["writers"]', "optimization.enabled=true")
        with Server(folder / "server", *settings, workers=1) as server:
            yield server.url


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", ""),
        ("GET", "/status"),
        ("GET", "/stats"),
        ("GET", "/bases?repository=a&reference=b"),
        ("GET", "/jobs/1"),
        ("DELETE", "/jobs/1"),
    ],
)
def test_only_who_may_do_everything(guarded: str, method: str, path: str) -> None:
    def ask(key: str | None) -> int:
        headers = {} if key is None else {"authorization": f"Key {key}"}
        body = {"repository": "a"} if method == "POST" else None
        return httpx.request(method, f"{guarded}/admin/optimize{path}", headers=headers, json=body).status_code

    assert (ask(None), ask("guest"), ask("writer")) == (401, 403, 403)
    assert ask("root") in (200, 404)
