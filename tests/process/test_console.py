"""What the core does for a console: an address of its own, the pages of everybody, and a log line for each request."""

import json
import os
import re
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.inspection import eventually
from tests.plugins.installation import Installation
from tests.server import Server, free_port

MODULE = '''
"""Pages, of which some are bad; and a site of its own."""

from contextlib import asynccontextmanager

from drift_core.api import Denied, Driver, Scope, Struct, hookimpl, pages


class Config(Struct):
    enabled: bool = True


class Off(Struct):
    enabled: bool = False


class Pages:
    name = "tiny"

    async def figures(self):
        return [pages.Figure("Tiny things", 7, "as of today")]

    def pages(self):
        async def good(asked):
            return [pages.Text(f"hello from {asked.host}"), pages.Link("no block", "/")]

        async def bad(asked):
            raise KeyError("a defect")

        async def refused(asked):
            raise Denied("not today")

        async def strange(asked):
            return [pages.Table("t", ["a"], 7)]

        async def remember(asked):
            return pages.Done("made " + asked.form["name"], secret="s3cret")

        async def form(asked):
            return [pages.Form("Make", "Make it", [pages.Field("name", "Name")], act="make")]

        return [
            pages.Page("/tiny", "Tiny", good, "Tiny things"),
            pages.Page("/tiny/bad", "Bad", bad),
            pages.Page("/tiny/refused", "Refused", refused),
            pages.Page("/tiny/strange", "Strange", strange),
            pages.Page("/tiny/{name}/form", "Form", form, acts={"make": pages.Act(remember)}),
            pages.Page("/cluster", "Stolen", good, "Stolen"),
        ]


class Broken:
    name = "broken"

    def pages(self):
        raise RuntimeError("no pages today")

    async def figures(self):
        raise RuntimeError("no figures today")


class Site:
    name = "second"

    def site(self, console):
        raise AssertionError


def opening(kind):
    @asynccontextmanager
    async def opened(config, services):
        yield kind()

    return opened


@hookimpl
def drift_features():
    return [
        Driver("tiny", Config, opening(Pages)),
        Driver("broken", Config, opening(Broken)),
        Driver("second", Off, opening(Site), site=True),
        Driver("claimant", Off, opening(Broken), site=True),
    ]
'''


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    found = Installation(tmp_path_factory.mktemp("plugins"))
    found.add("acme-tiny", {"tiny": "acme_tiny"}, {"acme_tiny": MODULE})
    return found


class Extended(Server):
    """A server with the plugin."""

    plugins: Path

    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(self.plugins)}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, installation: Installation) -> Iterator[Extended]:
    server = Extended(tmp_path_factory.mktemp("server"))
    server.plugins = installation.folder
    with server:
        yield server


def get(server: Server, path: str, port: int | None = None) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port or server.ui_port}{path}", timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_pages_of_plugins_are_shown_beside_those_of_the_core(server: Extended) -> None:
    status, page = get(server, "/tiny")
    assert status == 200
    assert f"hello from 127.0.0.1:{server.port}" in page
    assert "Tiny things" in page
    assert "Stolen" not in page
    assert get(server, "/cluster")[0] == 200
    status, page = get(server, "/tiny/a%2Fb/form")
    assert status == 200
    assert 'action="/tiny/a%2Fb/form"' in page


def test_figures_of_plugins_are_on_the_first_page(server: Extended) -> None:
    page = get(server, "/")[1]
    assert "as of today" in page
    assert "Pulls" in page
    assert "no figures today" in server.log.read_text()


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/tiny/bad", 500, "this page cannot be shown"),
        ("/tiny/refused", 403, "not today"),
        ("/tiny/strange", 500, "this page cannot be shown"),
    ],
)
def test_a_page_that_fails_fails_alone(server: Extended, path: str, status: int, text: str) -> None:
    found, page = get(server, path)
    assert (found, text in page) == (status, True)
    assert "a defect" not in page
    assert get(server, "/tiny")[0] == 200


def test_what_fails_is_counted_and_logged(server: Extended) -> None:
    get(server, "/tiny/bad")
    log = server.log.read_text()
    assert "no pages today" in log
    assert "/cluster is that of core" in log
    metrics = get(server, "/metrics", server.port)[1]
    counted = re.search(r'drift_page_failures_total\{plugin="tiny"\} ([0-9.]+)', metrics)
    assert counted is not None
    assert float(counted[1]) >= 3


def test_every_request_has_its_line_in_the_log(server: Extended) -> None:
    get(server, "/tiny?a=b")

    def requests() -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in server.log.read_text().splitlines() if '"request"' in line]
        return [line for line in lines if line["path"] == "/tiny"]

    eventually(lambda: bool(requests()), "the request in the log")
    line = requests()[0]
    assert (line["method"], line["status"], line["client"]) == ("GET", 200, "127.0.0.1")
    assert 'endpoint="console"' in get(server, "/metrics", server.port)[1]
    listening = next(json.loads(line) for line in server.log.read_text().splitlines() if '"listening"' in line)
    assert listening["console"] == f"127.0.0.1:{server.ui_port}"


def test_each_address_serves_its_own(server: Extended) -> None:
    assert get(server, "/tiny", server.port)[0] == 404
    assert get(server, "/v2/")[0] == 404


def test_a_secret_is_shown_once(server: Extended) -> None:
    page = get(server, "/tiny/x/form")[1]
    assert "s3cret" not in page
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    url = f"http://127.0.0.1:{server.ui_port}/tiny/x/form"
    with opener.open(url, timeout=30) as answer:
        token = re.search(r'name="csrf" value="(\w+)"', answer.read().decode())
    assert token is not None
    sent = f"csrf={token[1]}&act=make&name=token".encode()
    with opener.open(urllib.request.Request(url, sent, method="POST"), timeout=30) as answer:
        page = answer.read().decode()
    assert "s3cret" in page
    assert "made token" in page
    with opener.open(url, timeout=30) as answer:
        assert "s3cret" not in answer.read().decode()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["ui.enabled=true", "second.enabled=true"], "would both be served on server.ui_addr"),
        (["ui.enabled=false", "claimant.enabled=true"], "is no site"),
        (["server.ui_addr=127.0.0.1:5999"], "is that of server.bind_addr"),
        (["server.ui_addr=0.0.0.0:5998"], "can be reached by others"),
    ],
)
def test_mistakes_are_told_at_the_start(
    installation: Installation, tmp_path: Path, settings: list[str], said: str
) -> None:
    every = ["server.bind_addr=127.0.0.1:5999", f"storage.path={tmp_path}", "server.workers=1", *settings]
    if "ui.enabled=false" in settings:
        every[0] = f"server.bind_addr=127.0.0.1:{free_port()}"
        every.append(f"server.ui_addr=127.0.0.1:{free_port()}")
    done = installation.drift("serve", *(part for one in every for part in ("--set", one)))
    assert done.returncode != 0
    assert said in done.stderr + done.stdout


def test_an_address_that_is_taken_is_named(tmp_path: Path) -> None:
    server = Server(tmp_path)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        server.settings.append(f"server.ui_addr=127.0.0.1:{other.getsockname()[1]}")
        with pytest.raises(RuntimeError, match="where the console would be"):
            server.start()


def test_without_a_console_nobody_listens_there(tmp_path: Path) -> None:
    server = Server(tmp_path, "ui.enabled=false", workers=1)
    with server, socket.socket() as client:
        assert client.connect_ex(("127.0.0.1", server.ui_port)) != 0
    assert "none is installed and enabled" in server.log.read_text()
