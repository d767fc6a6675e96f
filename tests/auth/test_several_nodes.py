"""Two nodes on one PostgreSQL: who logs in at one is known to both; what is taken back at one is refused at both."""

import json
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.faults.inspection import PATIENCE
from tests.oci.content import unique_index
from tests.server import DRIFT, Server
from tests.services.postgresql import Postgresql
from tests.tools import ROOT

KNOWN_SECONDS = 1.0
"""How soon what one node was told has to be obeyed by every other."""

PASSWORD = "correct-horse-battery"
ROOT_USER = ("root", PASSWORD)
CLIENTS = 3

Auth = tuple[str, str] | str
"""A name with a password, or a token."""


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory, postgresql: Postgresql) -> Iterator[Sequence[Server]]:
    """They begin an empty database at once, and share a folder for blobs and the key of the trail."""
    folder = tmp_path_factory.mktemp("nodes")
    settings = (
        f"metadata.url={postgresql.url(postgresql.new_database())}",
        f"storage.path={folder / 'blobs'}",
        "registry.immutable_tags=[]",
        'auth.chain=["token", "basic"]',
        f'auth.basic.users=["root:{PASSWORD}"]',
        "auth.basic.remember_seconds=60",
        "rbac.enabled=true",
        'rbac.admins=["root"]',
        "audit.enabled=true",
        f"audit.key_file={folder / 'audit.key'}",
        f"audit.file_export.path={folder / 'audit.jsonl'}",
    )
    every = [Server(folder / name, *settings, workers=1) for name in ("one", "other")]
    try:
        with ThreadPoolExecutor(len(every)) as starting:
            list(starting.map(lambda node: node.start(PATIENCE), every))
        yield every
    finally:
        for node in every:
            if node.process is not None:
                node.kill()


def ask(node: Server, method: str, path: str, auth: Auth = ROOT_USER, **options: Any) -> httpx.Response:
    if isinstance(auth, str):
        options["headers"] = {**options.get("headers", {}), "authorization": f"Bearer {auth}"}
    else:
        options["auth"] = auth
    return httpx.request(method, f"{node.url}{path}", timeout=PATIENCE, **options)


def done(answer: httpx.Response) -> Any:
    assert answer.is_success, answer.text
    return answer.json() if answer.content else None


def statuses(nodes: Sequence[Server], auth: Auth, path: str = "/v2/") -> list[int]:
    return [ask(node, "GET", path, auth).status_code for node in nodes]


def push(node: Server, auth: Auth, repository: str, tag: str) -> int:
    manifest = unique_index(tag=tag)
    headers = {"content-type": manifest.media_type}
    path = f"/v2/{repository}/manifests/{tag}"
    return ask(node, "PUT", path, auth, content=manifest.content, headers=headers).status_code


def command(node: Server, *words: str, typed: str = "") -> str:
    """Runs a command of the same configuration, which is one more process on the database."""
    run = [str(DRIFT), *words, *node.arguments()]
    ended = subprocess.run(run, cwd=ROOT, input=typed, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def trail(node: Server, kind: str) -> list[dict[str, Any]]:
    """Returns every record of a type, the oldest first."""
    answer = ask(node, "GET", f"/api/audit/export?event_types={kind}")
    assert answer.status_code == 200
    return [json.loads(line) for line in answer.text.splitlines()]


def test_a_user_of_one_is_a_user_of_the_other(nodes: Sequence[Server]) -> None:
    one, other = nodes
    command(one, "user", "add", "ann", "--password-stdin", typed=f"{PASSWORD}\n")
    time.sleep(KNOWN_SECONDS)
    ann = ("ann", PASSWORD)
    assert statuses([*nodes, *nodes], ann) == [200] * 4
    docker = done(ask(one, "GET", "/auth/token?service=drift", ann))["token"]
    given = [docker, done(ask(other, "POST", "/api/tokens", ann, json={"name": "laptop"}))["token"]]
    assert [statuses(nodes, token) for token in given] == [[200, 200]] * 2
    command(other, "user", "disable", "ann")
    time.sleep(KNOWN_SECONDS)
    assert statuses(nodes, ann) == [401, 401]
    assert [statuses(nodes, token) for token in given] == [[401, 401]] * 2
    command(one, "user", "enable", "ann")
    time.sleep(KNOWN_SECONDS)
    assert [statuses(nodes, token) for token in given] == [[200, 200]] * 2
    command(other, "user", "passwd", "ann", "--password-stdin", typed="another long password\n")
    time.sleep(KNOWN_SECONDS)
    assert statuses(nodes, ann) == [401, 401]
    assert statuses(nodes, ("ann", "another long password")) == [200, 200]


def test_a_login_is_good_at_both_until_it_ends_at_one(nodes: Sequence[Server]) -> None:
    one, other = nodes
    body = {"username": "root", "password": PASSWORD}
    login = done(httpx.post(f"{one.url}/v1/auth/login", json=body, timeout=PATIENCE))
    assert statuses(nodes, login["token"]) == [200, 200]
    renewed = done(
        httpx.post(f"{other.url}/v1/auth/refresh", json={"refresh_token": login["refresh_token"]}, timeout=PATIENCE)
    )
    assert statuses(nodes, renewed["token"]) == [200, 200]
    done(ask(one, "POST", "/v1/auth/logout", renewed["token"]))
    time.sleep(KNOWN_SECONDS)
    assert statuses(nodes, renewed["token"]) == [401, 401]
    again = httpx.post(
        f"{other.url}/v1/auth/refresh", json={"refresh_token": renewed["refresh_token"]}, timeout=PATIENCE
    )
    assert again.status_code == 401


def test_a_token_of_docker_is_good_at_both(nodes: Sequence[Server]) -> None:
    one, other = nodes
    scope = "repository:team/app:pull,push"
    token = done(ask(one, "GET", f"/auth/token?service=drift&scope={scope}"))["token"]
    assert [push(node, token, "team/app", f"docker{place}") for place, node in enumerate(nodes)] == [201, 201]
    assert push(other, token, "team/other", "v1") in (401, 403)
    assert ask(one, "GET", "/auth/keys").json() == ask(other, "GET", "/auth/keys").json()


def test_personal_tokens_and_robots(nodes: Sequence[Server]) -> None:
    one, other = nodes
    personal = done(ask(one, "POST", "/api/tokens", json={"name": "laptop"}))
    robot = done(ask(other, "POST", "/api/robots", json={"name": "ci", "scopes": ["repository:team/*:pull"]}))
    for token in (personal["token"], robot["token"]):
        assert statuses([*nodes, *nodes], token) == [200] * 4
    assert statuses(nodes, ("robot$ci", robot["token"])) == [200, 200]
    done(ask(other, "DELETE", f"/api/tokens/{personal['id']}"))
    done(ask(one, "DELETE", "/api/robots/ci"))
    time.sleep(KNOWN_SECONDS)
    for token in (personal["token"], robot["token"]):
        assert statuses(nodes, token) == [401, 401]


@pytest.mark.parametrize("text", ["%00", "a%00b", "%ff", "x" * 2000])
def test_what_no_database_keeps_is_no_fault_of_the_server(nodes: Sequence[Server], text: str) -> None:
    node = nodes[0]
    body = {"name": "odd", "scopes": ["repository:a:pull"], "description": "a\0b"}
    answers = [
        ask(node, "GET", "/v2/", (text, text)),
        ask(node, "DELETE", f"/api/tokens/{text}"),
        ask(node, "DELETE", f"/api/robots/{text}"),
        ask(node, "GET", f"/api/robots?last={text}"),
        ask(node, "GET", f"/auth/token?offline_token=true&client_id={text}"),
        ask(node, "GET", f"/api/audit/events?user_id={text}&resource_id={text}"),
        ask(node, "GET", "/api/audit/events?cursor=99999999999999999999-1"),
        ask(node, "GET", f"/api/users/{text}"),
        ask(node, "GET", f"/api/users?last={text}"),
        ask(node, "POST", "/api/robots", json=body),
        ask(node, "DELETE", "/api/robots/odd"),
    ]
    assert [answer.status_code for answer in answers if answer.status_code >= 500] == []


def test_a_role_that_is_given_and_taken_back(nodes: Sequence[Server]) -> None:
    one, other = nodes
    command(one, "user", "add", "eve", "--password-stdin", typed=f"{PASSWORD}\n")
    done(ask(one, "POST", "/api/organizations", json={"id": "acme"}))
    done(ask(other, "POST", "/api/users", json={"id": "eve"}))
    eve = ("eve", PASSWORD)
    time.sleep(KNOWN_SECONDS)
    assert [push(node, eve, "acme/app", "v1") for node in nodes] == [403, 403]
    done(ask(one, "POST", "/api/organizations/acme/members", json={"user_id": "eve"}))
    done(ask(other, "POST", "/api/users/eve/roles", json={"role": "developer", "scope": "organization:acme"}))
    time.sleep(KNOWN_SECONDS)
    assert [push(node, eve, "acme/app", "v1") for node in nodes] == [201, 201]
    wanted = "/auth/token?service=drift&scope=repository:acme/app:pull,push"
    given = [
        done(ask(one, "POST", "/api/tokens", eve, json={"name": "laptop"}))["token"],
        done(ask(other, "GET", wanted, eve))["token"],
    ]
    # Who is suspended may do nothing, whatever they were given before.
    for active, status in ((False, 403), (True, 201)):
        done(ask(other, "PUT", "/api/users/eve", json={"active": active}))
        time.sleep(KNOWN_SECONDS)
        assert [push(node, token, "acme/app", "v1") for token in given for node in nodes] == [status] * 4
    done(ask(one, "DELETE", "/api/users/eve/roles/developer?scope=organization:acme"))
    time.sleep(KNOWN_SECONDS)
    assert [push(node, eve, "acme/app", "v1") for node in nodes] == [403, 403]


def test_the_records_of_both_are_one_trail_also_when_one_is_killed(nodes: Sequence[Server]) -> None:
    killed, left = nodes
    acknowledged: set[str] = set()
    stop = threading.Event()

    def push_until(node: Server, name: str) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            tag = f"{name}-{number}"
            try:
                if push(node, ROOT_USER, "team/killed", tag) == 201:
                    acknowledged.add(tag)
            except httpx.TransportError:
                return

    with ThreadPoolExecutor(2 * CLIENTS) as pool:
        running = [
            pool.submit(push_until, node, f"{name}{client}")
            for name, node in (("killed", killed), ("left", left))
            for client in range(CLIENTS)
        ]
        _until(lambda: _of(acknowledged, "killed") > 10 and _of(acknowledged, "left") > 10)
        killed.kill()
        before = _of(acknowledged, "left")
        # What the dead one held until PostgreSQL noticed holds up nobody for long.
        _until(lambda: _of(acknowledged, "left") > before + 10)
        stop.set()
        for one in running:
            one.result(PATIENCE)
    pushed = [record["resource"] for record in trail(left, "ImagePushed")]
    recorded = [resource["tag"] for resource in pushed if resource["id"] == "team/killed"]
    assert acknowledged <= set(recorded)
    assert len(recorded) == len(set(recorded))
    killed.start(PATIENCE)
    started = [record["resource"]["id"] for record in trail(killed, "ServiceStarted")]
    assert sorted(started) == sorted([killed.host, killed.host, left.host])
    assert "the chain is whole" in command(left, "audit", "verify")
    file = killed.folder.parent / "audit.jsonl"
    last = json.loads(command(left, "audit", "verify", "--json"))["anchor"].partition(":")[0]
    _until(lambda: bool(file.exists() and _sequences(file.read_text())[-1:] >= [int(last)]))
    sequences = _sequences(file.read_text())
    # At least once: the one who fed the file may have been killed before it said so.
    assert list(dict.fromkeys(sequences)) == list(range(1, max(sequences) + 1))


def _of(tags: set[str], name: str) -> int:
    return sum(tag.startswith(name) for tag in list(tags))


def _until(happened: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _sequences(lines: str) -> list[int]:
    return [json.loads(line)["sequence"] for line in lines.splitlines()]
