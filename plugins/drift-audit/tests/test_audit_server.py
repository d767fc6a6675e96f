"""A real server with a trail: what a client did is there, whoever may not read it does not, and no secret is in it."""

import base64
import json
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from drift_audit.chain import Key

from tests.oci.content import EMPTY_CONFIG, Document, unique_index
from tests.plugins.installation import Installation
from tests.server import DRIFT, Server
from tests.tools import ROOT

PATIENCE = 30.0
PASSWORD = "correct-horse-battery"
TOKEN = "drift_pat_0123456789abcdef"

LOGIN = """
import base64
from contextlib import asynccontextmanager
from drift_core.api import AuditEvent, Driver, Identity, Scope, Struct, Unauthorized, Verdict, hookimpl

class Config(Struct, forbid_unknown_fields=True):
    pass

class Login:
    '''Takes Basic "NAME:correct-horse-battery"; tells the trail of a login, with more than it should.'''
    def __init__(self, services):
        self.services = services
    async def authenticate(self, credentials):
        scheme, _, value = (credentials.authorization or "").partition(" ")
        if scheme != "Basic":
            return None
        name, _, password = base64.b64decode(value).decode().partition(":")
        if password != "correct-horse-battery":
            raise Unauthorized("the password is wrong", username=name)
        identity = Identity(name, "test", frozenset({"ops"}))
        event = AuditEvent(type="Login", identity=identity, parameters={"password": password, "token": value})
        await self.services.audit.note(event)
        return identity
    def challenge(self, scopes):
        return 'Basic realm="drift"'

class Policy:
    async def decide(self, identity, scopes):
        name = identity.name if identity else ""
        def may(scope):
            return name == "root" or (name == "auditor" and scope == Scope("registry", "audit", "read"))
        return [Verdict(may(scope)) for scope in scopes]

@asynccontextmanager
async def open_login(config, services):
    yield Login(services)

@asynccontextmanager
async def open_policy(config, services):
    yield Policy()

@hookimpl
def drift_authn():
    return [Driver("login", Config, open_login)]

@hookimpl
def drift_authz():
    return [Driver("policy", Config, open_policy)]
"""


def push(server: Server, repository: str, tag: str, **options: Any) -> tuple[int, Document]:
    manifest = unique_index()
    headers = {"content-type": manifest.media_type, "user-agent": "pusher/1"}
    url = f"{server.url}/v2/{repository}/manifests/{tag}"
    return httpx.put(url, content=manifest.content, headers=headers, **options).status_code, manifest


def command(server: Server, *arguments: str) -> "subprocess.CompletedProcess[str]":
    words = [str(DRIFT), "audit", *arguments, *server.arguments()]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False)


def database(server: Server) -> sqlite3.Connection:
    return sqlite3.connect(server.folder / "data" / "drift.db", timeout=30, isolation_level=None)


def eventually(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server where root may do everything, auditor read the trail, and everybody else nothing."""
    folder = tmp_path_factory.mktemp("audit")
    installation = Installation(folder / "site")
    installation.add("acme-login", {"login": "acme_login"}, {"acme_login": LOGIN})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(installation.folder))
        settings = (
            'auth.chain=["login"]',
            'auth.policies=["policy"]',
            "audit.enabled=true",
            f"audit.key_file={folder / 'key'}",
            f"audit.file_export.path={folder / 'audit.jsonl'}",
        )
        with Server(folder / "server", *settings) as server:
            yield server


ROOT_LOGIN = {"auth": ("root", PASSWORD)}
AUDITOR = ("auditor", PASSWORD)


def events(server: Server, **parameters: Any) -> list[dict[str, Any]]:
    answer = httpx.get(f"{server.url}/api/audit/events", params=parameters, auth=AUDITOR)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["events"]
    return found


def test_what_a_client_does_is_recorded_with_who_and_from_where(guarded: Server) -> None:
    status, manifest = push(guarded, "team/app", "v1", **ROOT_LOGIN)
    assert status == 201
    url = f"{guarded.url}/v2/team/app/manifests/v1"
    accept = {"accept": "*/*"}
    assert httpx.head(url, headers=accept, **ROOT_LOGIN).status_code == 200  # type: ignore[arg-type]
    assert httpx.get(url, headers=accept, **ROOT_LOGIN).status_code == 200  # type: ignore[arg-type]
    assert httpx.delete(url, **ROOT_LOGIN).status_code == 202  # type: ignore[arg-type]
    found = [event for event in events(guarded, resource_id="team/app") if event["event_type"] != "Login"]
    assert [event["event_type"] for event in found] == ["ImageDeleted", "ImagePulled", "ImagePushed"]
    pushed = found[-1]
    assert pushed["user"] == {"id": "root", "username": "root", "teams": ["ops"]}
    assert pushed["resource"]["digest"] == manifest.digest
    assert pushed["resource"]["tag"] == "v1"
    assert pushed["action"]["method"] == "PUT"
    assert pushed["network"]["client_ip"] == "127.0.0.1"
    assert pushed["network"]["user_agent"] == "pusher/1"
    eventually(lambda: pushed["correlation_id"] in guarded.log.read_text())


def test_refusals_are_recorded(guarded: Server) -> None:
    assert push(guarded, "team/other", "v1", auth=("mallory", PASSWORD))[0] == 403
    assert push(guarded, "team/other", "v1", auth=("root", "guess"))[0] == 401
    (denied,) = events(guarded, event_types="PermissionDenied", user_id="mallory")
    assert (denied["severity"], denied["result"]["success"]) == ("Warning", False)
    assert denied["resource"]["id"] == "team/other"
    failed = events(guarded, event_types="AuthenticationFailed", user_id="root")[0]
    assert failed["user"] == {"username": "root"}
    assert failed["result"]["error_message"] == "the password is wrong"


@pytest.mark.parametrize("path", ["events", "stats", "export"])
@pytest.mark.parametrize(("name", "status"), [("auditor", 200), ("root", 200), ("mallory", 403), (None, 401)])
def test_the_trail_is_read_by_who_has_the_right(guarded: Server, path: str, name: str | None, status: int) -> None:
    auth = None if name is None else (name, PASSWORD)
    assert httpx.get(f"{guarded.url}/api/audit/{path}", auth=auth).status_code == status


def test_pages_have_every_record_once(guarded: Server) -> None:
    for number in range(7):
        push(guarded, "paged/app", f"t{number}", **ROOT_LOGIN)
    asked: dict[str, Any] = {"organization": "paged", "limit": 3}
    pages = [httpx.get(f"{guarded.url}/api/audit/events", params=asked, auth=AUDITOR).json()]
    while (cursor := pages[-1]["next"]) is not None:
        parameters = {**asked, "cursor": cursor}
        pages.append(httpx.get(f"{guarded.url}/api/audit/events", params=parameters, auth=AUDITOR).json())
    tags = [event["resource"]["tag"] for page in pages for event in page["events"]]
    assert tags == [f"t{number}" for number in reversed(range(7))]
    assert [len(page["events"]) for page in pages] == [3, 3, 1]
    assert [event["resource"]["tag"] for event in events(guarded, organization="paged", offset=5)] == ["t1", "t0"]


def test_filters(guarded: Server) -> None:
    push(guarded, "filtered/app", "v1", **ROOT_LOGIN)
    push(guarded, "filtered/app", "v2", auth=("mallory", PASSWORD))
    (pushed,) = events(guarded, organization="filtered", success_only="true")
    assert pushed["event_type"] == "ImagePushed"
    assert events(guarded, organization="filtered", severities="warning")[0]["event_type"] == "PermissionDenied"
    assert len(events(guarded, organization="filtered", event_types="ImagePushed,PermissionDenied")) == 2
    assert len(events(guarded, organization="filtered", resource_type="Image")) == 1
    assert events(guarded, organization="filtered", end_time="2020-01-01T00:00:00Z") == []
    assert events(guarded, organization="filtered", start_time="2100-01-01T00:00:00Z") == []
    both = {"start_time": "2020-01-01T00:00:00Z", "end_time": "2100-01-01T00:00:00+02:00"}
    assert len(events(guarded, organization="filtered", **both)) == 2


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=1001",
        "limit=x",
        "offset=-1",
        "offset=10001",
        "cursor=1",
        "cursor=1-x",
        "start_time=yesterday",
        "start_time=2026-01-01T00:00:00",
        "severities=loud",
        "success_only=maybe",
        "user=root",
        "user_id=a&user_id=b",
        "cursor=%00-1",
    ],
)
def test_a_bad_question_is_refused(guarded: Server, query: str) -> None:
    assert httpx.get(f"{guarded.url}/api/audit/events?{query}", auth=AUDITOR).status_code == 400


def test_a_question_is_no_statement(guarded: Server) -> None:
    assert events(guarded, resource_id="' OR 1=1 --") == []


def test_stats(guarded: Server) -> None:
    push(guarded, "counted/app", "v1", **ROOT_LOGIN)
    push(guarded, "counted/app", "v1", auth=("mallory", PASSWORD))
    url = f"{guarded.url}/api/audit/stats?organization=counted"
    stats = httpx.get(url, auth=AUDITOR).json()
    assert stats == {
        "total_events": 2,
        "events_by_type": {"ImagePushed": 1, "PermissionDenied": 1},
        "events_by_severity": {"Info": 1, "Warning": 1},
        "failed_events": 1,
        "avg_duration_ms": None,
        "top_users": [{"name": "mallory", "count": 1}, {"name": "root", "count": 1}],
        "top_resources": [{"name": "counted/app", "count": 2}],
    }


def test_an_export_is_all_of_it_and_ends(guarded: Server) -> None:
    with httpx.Client(auth=AUDITOR) as client:
        for form in ("jsonlines", "csv"):
            answer = client.get(
                f"{guarded.url}/api/audit/export?format={form}&organization=paged&event_types=ImagePushed"
            )
            assert len(answer.text.splitlines()) == 7 + (form == "csv")
            # The same connection serves the next request.
            assert client.get(f"{guarded.url}/v2/").status_code in {200, 403}
        assert client.get(f"{guarded.url}/api/audit/export?format=xml").status_code == 400


def test_no_secret_is_anywhere(guarded: Server) -> None:
    folder = guarded.folder.parent
    basic = base64.b64encode(f"root:{PASSWORD}".encode()).decode()
    httpx.get(f"{guarded.url}/v2/?token={TOKEN}", headers={"authorization": f"Bearer {TOKEN}"})
    push(guarded, "secret/app", "v1", **ROOT_LOGIN)
    eventually(lambda: "secret/app" in (folder / "audit.jsonl").read_text())
    with database(guarded) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    kept = [*(guarded.folder / "data").glob("drift.db*"), folder / "audit.jsonl", guarded.log]
    assert len(kept) >= 3
    for file in kept:
        content = file.read_bytes()
        for secret in (PASSWORD, TOKEN, basic):
            assert secret.encode() not in content, (file, secret)
    assert b"Login" in (guarded.folder / "data" / "drift.db").read_bytes()


def test_the_commands(guarded: Server) -> None:
    push(guarded, "command/app", "v1", **ROOT_LOGIN)
    listed = command(guarded, "list", "--organization", "command", "--json")
    assert [json.loads(line)["event_type"] for line in listed.stdout.splitlines()] == ["ImagePushed"]
    assert "ImagePushed" in command(guarded, "list", "--type", "ImagePushed").stdout
    assert json.loads(command(guarded, "stats", "--organization", "command", "--json").stdout)["total_events"] == 1
    exported = command(guarded, "export", "--format", "csv", "--organization", "command").stdout
    assert len(exported.splitlines()) == 2
    verified = command(guarded, "verify", "--json")
    assert verified.returncode == 0, verified.stderr
    found = json.loads(verified.stdout)
    assert (found["good"], found["broken"]) == (True, None)
    assert command(guarded, "verify", "--anchor", found["anchor"]).returncode == 0
    met = command(guarded, "verify", "--json", "--anchor", found["anchor"])
    assert json.loads(met.stdout)["anchored"] is True
    assert command(guarded, "verify", "--anchor", "2:" + "0" * 64).returncode == 1
    assert command(guarded, "verify", "--anchor", "x").returncode == 2


def test_tail_shows_what_is_written_meanwhile(guarded: Server) -> None:
    words = [str(DRIFT), "audit", "tail", "--lines", "1", *guarded.arguments()]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        push(guarded, "tailed/app", "v1", **ROOT_LOGIN)
        while "Image:tailed/app:v1" not in process.stdout.readline():
            assert process.poll() is None
        process.terminate()


def test_a_command_is_no_service(guarded: Server) -> None:
    before = len(events(guarded, event_types="ServiceStarted,ServiceStopped"))
    assert before >= 2
    command(guarded, "list")
    subprocess.run([str(DRIFT), "plugins", "routes", *guarded.arguments()], cwd=ROOT, capture_output=True, check=True)
    assert len(events(guarded, event_types="ServiceStarted,ServiceStopped")) == before


def test_an_anchor_that_is_not_met_is_told(tmp_path: Path) -> None:
    with Server(tmp_path / "server", "audit.enabled=true", workers=1) as server:
        for number in range(5):
            push(server, "app", f"t{number}")
    anchor = "2:" + "0" * 64
    assert command(server, "verify", "--from", "3", "--anchor", anchor).returncode == 2
    # Who has no key to find makes the chain begin behind the anchor, as if for its age.
    with database(server) as db:
        ((hash_,),) = db.execute("SELECT hash FROM audit__records WHERE sequence = 3")
        db.execute("DELETE FROM audit__records WHERE sequence <= 3")
        seal = Key(None).seal("first", 3, hash_)
        db.execute("UPDATE audit__ends SET sequence = 3, hash = ?, seal = ? WHERE name = 'first'", (hash_, seal))
    assert command(server, "verify").returncode == 0
    missed = command(server, "verify", "--json", "--anchor", anchor)
    assert (missed.returncode, json.loads(missed.stdout)["anchored"]) == (1, False)
    aged = command(server, "verify", "--anchor", anchor, "--set", "audit.retention_days=1")
    assert (aged.returncode, "was not met" in aged.stderr) == (0, True)


def test_a_command_that_reads_begins_no_trail(tmp_path: Path) -> None:
    key = tmp_path / "key"
    server = Server(tmp_path / "server", "audit.enabled=true", f"audit.key_file={key}", workers=2)
    assert command(server, "list").returncode == 0
    assert "truncated" in command(server, "verify").stdout
    subprocess.run([str(DRIFT), "plugins", "routes", *server.arguments()], cwd=ROOT, capture_output=True, check=True)
    assert not key.exists()
    with server:
        push(server, "app", "v1")
    assert command(server, "verify").returncode == 0
    with database(server) as db:
        db.executescript("DELETE FROM audit__records; DELETE FROM audit__ends")
    for _ in range(2):
        assert command(server, "verify").returncode == 1


def test_verify_says_where_the_chain_is_broken(tmp_path: Path) -> None:
    with Server(tmp_path / "server", "audit.enabled=true", workers=1) as server:
        for number in range(5):
            push(server, "app", f"t{number}")
    with database(server) as db:
        db.execute("DELETE FROM audit__records WHERE sequence = 3")
    done = command(server, "verify")
    assert done.returncode == 1
    assert "broken at record 3: removed" in done.stdout
    assert json.loads(command(server, "verify", "--json").stdout)["broken"]["kind"] == "removed"
    assert command(server, "verify", "--from", "4").returncode == 0


TRIGGER = "CREATE TRIGGER audit_broken BEFORE INSERT ON audit__records BEGIN SELECT RAISE(ABORT, 'broken'); END"


@pytest.mark.parametrize("breaking", [TRIGGER, "ALTER TABLE audit__records RENAME TO audit__gone"])
@pytest.mark.parametrize("required", [True, False])
def test_a_trail_that_fails_refuses_what_it_has_to_record(tmp_path: Path, required: bool, breaking: str) -> None:
    settings = ("audit.enabled=true", f"audit.required={str(required).lower()}")
    with Server(tmp_path / "server", *settings, workers=1) as server:
        assert push(server, "app", "before")[0] == 201
        with database(server) as db:
            db.execute(breaking)
        status, manifest = push(server, "app", "after")
        assert status == (503 if required else 201)
        for reference in ("after", manifest.digest):
            url = f"{server.url}/v2/app/manifests/{reference}"
            # A pull needs its record, too; but a digest that nobody has is not pulled.
            assert httpx.get(url, headers={"accept": "*/*"}).status_code == (404 if required else 200)
        blob = f"{server.url}/v2/app/blobs/uploads/?digest={EMPTY_CONFIG.digest}"
        assert httpx.post(blob, content=EMPTY_CONFIG.content).status_code == (503 if required else 201)
        pulled = httpx.get(f"{server.url}/v2/app/manifests/before", headers={"accept": "*/*"})
        assert pulled.status_code == (503 if required else 200)
        assert server.log.read_text().count("an event cannot be recorded") == 2
