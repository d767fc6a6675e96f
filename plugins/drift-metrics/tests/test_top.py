"""`drift top` says what a real server did, to the request, and what is wrong where it cannot."""

import http.server
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner
from drift_metrics import commands
from drift_metrics.figures import figures, quantile
from drift_metrics.reading import Reading

from drift_core.api import StartError
from tests.faults.inspection import eventually
from tests.oci.client import Registry
from tests.oci.content import image, unique_blob
from tests.server import DRIFT, Server, free_port

ADMIN = "admin:good-password-1"
PATIENCE = 60.0


def top(url: str) -> subprocess.CompletedProcess[str]:
    command = [str(DRIFT), "top", "--url", url, "--once", "--interval", "0.1"]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)


def problem(*options: str, environment: dict[str, str] | None = None) -> str:
    """Returns what the command complains of, and nothing where all is well; in this process, which is faster."""
    arguments = ["--once", "--json", "--interval", "0.1", *options]
    done = CliRunner().invoke(commands.top, arguments, env=environment)
    if isinstance(done.exception, StartError):
        return str(done.exception)
    return "" if done.exit_code == 0 else done.output


class Watching:
    """`drift top --json` beside a server, and all that it has said so far."""

    def __init__(self, url: str) -> None:
        command = [str(DRIFT), "top", "--url", url, "--json", "--interval", "0.1"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.said: list[dict[str, object]] = []
        self.complaints: list[str] = []
        self._threads = [threading.Thread(target=self._hear), threading.Thread(target=self._hear_complaints)]
        for thread in self._threads:
            thread.start()

    def _hear(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self.said.append(json.loads(line))

    def _hear_complaints(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            self.complaints.extend(lines)

    def total(self, since: int) -> Counter[str]:
        """Returns what was said in all: numbers per second by the seconds that they are for."""
        found: Counter[str] = Counter()
        for said in self.said[since:]:
            seconds = float(str(said["seconds"]))
            for name in ("pulls_per_second", "pushes_per_second", "errors_per_second"):
                found[name] += round(float(str(said[name])) * seconds)
            requests = said["requests"]
            assert isinstance(requests, list)
            for one in requests:
                if one["endpoint"] not in ("other", "console"):
                    for name in ("per_second", "received", "sent"):
                        found[f"{one['endpoint']} {name}"] += round(one[name] * seconds)
        return +found

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(PATIENCE)
        finally:
            self.process.kill()
            for thread in self._threads:
                thread.join(PATIENCE)


@contextmanager
def watching(url: str) -> Iterator[Watching]:
    watch = Watching(url)
    try:
        yield watch
    finally:
        watch.stop()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("top"), "registry.immutable_tags=[]") as server:
        yield server


def test_what_is_said_in_all_is_what_clients_did(server: Server) -> None:
    layer, config = unique_blob(100_000), unique_blob(64)
    made, path = image(config, layer), "/v2/team/app/manifests/v1"
    with watching(server.url) as watch, Registry(server.url, fresh=True) as registry:
        eventually(lambda: len(watch.said) > 1, "the first figures")
        since = len(watch.said)
        for blob in (layer, config):
            answer = registry.post("/v2/team/app/blobs/uploads/", {"digest": blob.digest}, blob.content)
            assert answer.status_code == 201
        assert registry.put(path, None, made.content, content_type=made.media_type).status_code == 201
        for _ in range(5):
            assert registry.get(path).status_code == 200
        assert registry.get(f"/v2/team/app/blobs/{layer.digest}").status_code == 200
        missing = registry.get("/v2/team/app/manifests/none")
        assert missing.status_code == 404
        wanted = Counter(
            {
                "pulls_per_second": 5,
                "pushes_per_second": 1,
                "uploads per_second": 2,
                "uploads received": layer.size + config.size,
                "manifest per_second": 7,
                "manifest received": made.size,
                "manifest sent": 5 * made.size + len(missing.content),
                "blob per_second": 1,
                "blob sent": layer.size,
            }
        )
        eventually(lambda: watch.total(since) >= wanted, "all that was done")
        assert watch.total(since) == wanted
        assert watch.stop() == 0
    last = watch.said[-1]
    assert (last["leader"], last["nodes"]) == (True, {"Healthy": 1})
    assert isinstance(last["storage"], list)
    assert {one["name"] for one in last["storage"]} >= {"begin", "commit"}
    assert watch.complaints == []


def test_once_is_a_table_for_people(server: Server) -> None:
    done = top(server.url)
    assert (done.returncode, done.stderr) == (0, "")
    for word in ("Endpoint", "manifest", "p99", "Storage", "Database", "space left", "leads", "1 healthy"):
        assert word in done.stdout


def test_a_server_that_is_away_is_asked_again(tmp_path: Path) -> None:
    with Server(tmp_path, workers=1) as server, watching(server.url) as watch:
        eventually(lambda: bool(watch.said), "the first figures")
        server.kill()
        eventually(lambda: bool(watch.complaints), "that it is away")
        assert re.fullmatch(rf"\d\d:\d\d:\d\d: {server.url} does not answer: .+; trying again\n", watch.complaints[0])
        server.start()
        seen = len(watch.said)
        eventually(lambda: len(watch.said) > seen + 1, "figures of the new server")
        requests = [float(str(said["requests_per_second"])) for said in watch.said]
        assert min(requests) >= 0


def test_in_a_terminal_it_stays_until_it_is_interrupted(server: Server) -> None:
    leader, follower = pty.openpty()
    command = [str(DRIFT), "top", "--url", server.url, "--interval", "0.1"]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "140", "LINES": "40"}
    process = subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, env=environment)
    os.close(follower)
    shown = b""
    # Whoever reads a terminal waits as long as somebody may write.
    too_long = threading.Timer(PATIENCE, process.kill)
    too_long.start()
    try:
        while b"space left" not in shown:
            shown += os.read(leader, 65536)
        process.send_signal(signal.SIGINT)
        try:
            while chunk := os.read(leader, 65536):
                shown += chunk
        except OSError:
            pass  # how a terminal says that nobody writes any more
        assert process.wait(PATIENCE) == 0
    finally:
        too_long.cancel()
        process.kill()
        os.close(leader)
    # Another screen is entered, and left again.
    assert shown.count(b"\x1b[?1049h") == shown.count(b"\x1b[?1049l") == 1


def test_it_says_who_refuses_and_takes_credentials_as_other_commands_do(tmp_path: Path) -> None:
    settings = ('auth.chain=["token", "basic"]', f'auth.basic.users=["{ADMIN}"]')
    file = tmp_path / "password"
    file.write_text(f"{ADMIN.split(':')[1]}\n")
    with Server(tmp_path / "server", *settings, workers=1) as server:
        refused = top(server.url)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert refused.stderr == f"Error: {server.url} refuses: log in by --username, or by a token\n"
        as_admin = ("--url", server.url, "--username", "admin")
        assert "refuses" in problem(*as_admin, "--password-env", "WORD", environment={"WORD": "wrong"})
        assert problem(*as_admin, "--password-file", str(file)) == ""
        url = f"{server.url}/auth/token?service=drift&scope=registry:*:*"
        token = httpx.get(url, auth=("admin", "good-password-1")).json()["token"]
        assert problem("--url", server.url, "--token-env", "TOKEN", environment={"TOKEN": token}) == ""
    assert "go together" in problem("--username", "admin")
    assert "from one place" in problem("--token-env", "A", "--token-file", str(file))
    assert "there is no NOBODY in the environment" in problem("--token-env", "NOBODY")


def test_it_says_where_there_are_no_metrics(tmp_path: Path) -> None:
    with Server(tmp_path, "metrics.enabled=false", workers=1) as server:
        said = problem("--url", server.url)
    assert said == (f"{server.url} has no /metrics: is drift-metrics installed there, or metrics.endpoint another one?")
    away = top(server.url)
    assert (away.returncode, away.stdout) == (1, "")
    assert away.stderr.startswith(f"Error: {server.url} does not answer: ")
    assert "is no URL of a server" in problem("--url", "ftp://x")


class Other(http.server.BaseHTTPRequestHandler):
    """A server that is no registry."""

    asked: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers["authorization"]))
        status = 302 if self.path == "/away" else 503 if self.path == "/busy" else 200
        self.send_response(status)
        self.send_header("location", "/elsewhere")
        self.end_headers()
        self.wfile.write({"/html": b"<html>{ }</html>"}.get(self.path, b"go_goroutines 7\n"))

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/metrics", "has metrics, but not those of Drift"),
        ("/html", "is no page of metrics"),
        ("/away", "answers 302"),
        ("/busy", "answers 503"),
    ],
)
def test_another_server_is_no_registry(path: str, said: str) -> None:
    handler = type("Handler", (Other,), {"asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", free_port()), handler) as other:
        thread = threading.Thread(target=other.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{other.server_port}{path}"
        found = problem("--url", url, "--token-env", "TOKEN", environment={"TOKEN": "secret"})
        other.shutdown()
        thread.join()
    assert said in found
    # Nobody is led elsewhere with credentials.
    assert handler.asked == [(path, "Bearer secret")]


@pytest.mark.parametrize(
    ("share", "buckets", "wanted"),
    [
        (0.5, [(0.1, 0), (1, 0), (float("inf"), 0)], None),
        (0.5, [], None),
        (0.5, [(1, 10), (2, 10), (float("inf"), 10)], 0.5),
        (0.5, [(1, 0), (2, 10), (float("inf"), 10)], 1.5),
        (0.99, [(1, 50), (2, 100), (float("inf"), 100)], 1.98),
        (0.99, [(1, 50), (float("inf"), 100)], 1),
    ],
)
def test_quantiles_are_those_of_prometheus(
    share: float, buckets: list[tuple[float, float]], wanted: float | None
) -> None:
    found = quantile(share, buckets)
    assert found == (None if wanted is None else pytest.approx(wanted))


def test_a_counter_that_began_again_has_grown_from_0() -> None:
    line = 'drift_requests_total{{endpoint="manifest",method="GET",status="{0}"}} {1}\n'
    before = Reading(line.format(200, 100) + line.format(500, 7), 10.0)
    now = Reading(line.format(200, 20) + line.format(500, 9), 12.0)
    found = figures(before, now)
    assert (found.seconds, found.pulls_per_second, found.errors_per_second) == (2, 10, 1)
    (manifest,) = found.requests
    assert (manifest.per_second, manifest.errors_per_second, manifest.p99) == (11, 1, None)


def test_other_commands_do_not_pay_for_it() -> None:
    program = (
        "import sys; from drift_metrics.plugin import drift_commands; assert [one.name for one in drift_commands()] "
        "== ['top']; print(*sorted(one for one in sys.modules if one.startswith(('drift_metrics', 'rich.live'))))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [
        "drift_metrics",
        "drift_metrics.config",
        "drift_metrics.plugin",
    ]
