"""Plugins: uploads by Bolt's client, what is refused of libraries, and what the confined process may do."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import httpx
import pytest
from drift_bolt.confined import looking
from drift_bolt.confined.looking import Looker
from drift_bolt.problems import Invalid

from benchmarks.process_tree import Peak, memory
from drift_core.api import StartError
from tests.server import Server
from tests.tools import tool

from . import samples
from .client import PLUGIN_TYPE, BoltError, DriftClient
from .conftest import PASSWORDS
from .test_bolt_client import refusal

AARCH64 = 183


def test_a_plugin_comes_back(server: Server, ann: DriftClient, stranger: DriftClient) -> None:
    manifest = samples.plugin("example", dependencies=["other"])
    answer = ann.upload_plugin(manifest, samples.about(), samples.library())
    assert answer.json() == {"message": "published example 0.1.0", "plugin": "example", "version": "0.1.0"}
    assert ann.download_plugin("example") == samples.library()
    detail = ann.get_plugin("example")
    assert {name: getattr(detail.manifest, name) for name in manifest} == manifest
    assert (detail.binary_manifest.platform, detail.binary_manifest.architecture) == ("linux", "x86_64")
    assert detail.binary_manifest.size == len(samples.library())
    assert (detail.metadata.author, detail.metadata.verified) == ("ann", False)
    url = detail.binary_manifest.download_url
    assert url.startswith(server.url)
    assert httpx.get(url, auth=("ann", PASSWORDS["ann"])).content == samples.library()
    (listed,) = [one for one in ann.list_plugins().plugins if one.name == "example"]
    assert (listed.plugin_type, listed.version) == ("GpuOptimization", "0.1.0")
    assert [one.name for one in stranger.search_plugins(query="EXAMPLE OF").results] == ["example"]
    assert ann.get_metrics().total_plugins == 1
    assert ann.ask("GET", "/v1/metrics/plugins").json()["by_type"] == {"GpuOptimization": 1}
    answer = httpx.get(f"{server.url}/v1/plugins/example/download", auth=("ann", PASSWORDS["ann"]))
    assert answer.headers["content-length"] == str(len(samples.library()))
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''example.bin"


def test_a_version_gets_further_platforms_and_oras_pulls_each(server: Server, ann: DriftClient, tmp_path: Path) -> None:
    other = samples.for_machine(AARCH64)
    for library in (samples.library(), other):
        ann.upload_plugin(samples.plugin("platforms"), samples.about(), library)
    for library in (samples.library(), other):
        with pytest.raises(BoltError) as error:
            ann.upload_plugin(samples.plugin("platforms"), samples.about(), library)
        assert refusal(error) == (409, "RESOURCE_ALREADY_EXISTS")
    assert ann.download_plugin("platforms", "?platform=linux-aarch64") == other
    login = ("--plain-http", "--username", "ann", "--password", PASSWORDS["ann"])
    for machine, library in (("amd64", samples.library()), ("arm64", other)):
        folder = tmp_path / machine
        place = ("--platform", f"linux/{machine}", "--output", str(folder))
        command = [tool("oras"), "pull", *login, *place, f"{server.host}/bolt/plugins/platforms:0.1.0"]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        assert (folder / "libexample.so").read_bytes() == library
    ann.upload_plugin(samples.plugin("platforms", "0.2.0-rc1"), samples.about(), other)
    assert ann.get_plugin("platforms").binary_manifest.architecture == "aarch64"


@pytest.mark.parametrize(
    ("library", "reason"),
    [
        (b"", "neither"),
        (b"#!/bin/sh\necho hello\n", "neither"),
        (samples.library("int create_plugins(void) { return 1; }\n"), "create_plugin"),
        (samples.library("extern int create_plugin(void); int f(void) { return create_plugin(); }\n"), "create_plugin"),
        (
            samples.library("static int create_plugin(void) { return 1; } int f(void) { return create_plugin(); }\n"),
            "cre",
        ),
        (samples.library("int create_plugin = 1;\n"), "create_plugin"),
        (samples.library()[:64], "damaged"),
        (samples.library()[:1000], ""),
        (samples.for_machine(8), "machine"),
        (b"MZ" + bytes(200), "PE"),
        (b"MZ", "cut short"),
    ],
    ids=lambda value: value if isinstance(value, str) else "library",
)
def test_libraries_that_bolt_cannot_load(ann: DriftClient, library: bytes, reason: str) -> None:
    with pytest.raises(BoltError) as error:
        ann.upload_plugin(samples.plugin("refused"), samples.about(), library)
    assert refusal(error) == (400, "INVALID_REQUEST")
    assert error.value.body is not None
    assert reason in error.value.body.message
    assert ann.search_plugins(query="refused").total == 0


def test_a_library_for_another_platform_than_is_said(ann: DriftClient) -> None:
    with pytest.raises(BoltError) as error:
        ann.upload_plugin(samples.plugin("elsewhere"), samples.about("windows-x86_64"), samples.library())
    assert refusal(error) == (400, "INVALID_REQUEST")
    assert error.value.body is not None
    assert error.value.body.details["platform"] == "linux-x86_64"


def test_mistakes_in_an_upload_are_told_with_their_place(ann: DriftClient) -> None:
    head = json.dumps({"manifest": samples.plugin("x"), "metadata": samples.about()})[:-1]
    for array, place in (("[1, 256]", 4), ("[-1]", 1), ("[5.0]", 1), ("[1, [2]]", 4), ("[1, 2", 5)):
        body = f'{head}, "binary_data": {array}'
        where = len(body) - len(array) + place
        with pytest.raises(BoltError) as error:
            ann.ask("POST", "/v1/plugins/upload", content=body.encode() + (b"}" if array[-1] == "]" else b""))
        assert refusal(error) == (400, "INVALID_REQUEST")
        assert error.value.body is not None
        assert error.value.body.details["offset"] == where


def test_a_library_that_is_too_large(tmp_path: Path) -> None:
    with Server(tmp_path, "bolt.enabled=true", "bolt.max_plugin_size_mb=1", workers=1) as server:
        body = {"manifest": samples.plugin("big"), "metadata": samples.about(), "binary_data": [1] * (1 << 20)}
        kind = {"content-type": PLUGIN_TYPE}
        answer = httpx.post(f"{server.url}/v1/plugins/upload", json=body, headers=kind)
        assert (answer.status_code, answer.json()["error"]) == (400, "INVALID_REQUEST"), "it is no library"
        body["binary_data"] = [1] * ((1 << 20) + 1)
        answer = httpx.post(f"{server.url}/v1/plugins/upload", json=body, headers=kind)
        assert (answer.status_code, answer.json()["error"]) == (413, "UPLOAD_FAILED")


@pytest.mark.soak
def test_a_hundred_megabytes_take_little_memory(tmp_path: Path) -> None:
    """As a body of 357 MB: the server takes less than three times the library, all of its processes together."""
    size = 100 << 20
    head = json.dumps({"manifest": samples.plugin("huge"), "metadata": samples.about("windows-x86_64")})[:-1]
    begin = pe(0x8664)
    piece = b",".join(b"%d" % (number * 7 % 256) for number in range(1 << 16))

    def body() -> Iterator[bytes]:
        yield f'{head},"binary_data":[{",".join(map(str, begin))}'.encode()
        for _ in range(size >> 16):
            yield b"," + piece
        yield b"]}"

    with Server(tmp_path, "bolt.enabled=true", workers=1) as server:
        assert server.process is not None
        httpx.post(f"{server.url}/v1/plugins/search", json={}).raise_for_status()
        before = memory(server.process.pid)
        with Peak(server.process.pid) as peak:
            httpx.post(f"{server.url}/v1/plugins/upload", content=body(), timeout=600).raise_for_status()
        assert peak.bytes <= 3 * size
        assert peak.bytes - before < 64 << 20, "it does not grow with the library"
        length = 0
        with httpx.stream("GET", f"{server.url}/v1/plugins/huge/download", timeout=600) as answer:
            for chunk in answer.iter_raw():
                length += len(chunk)
        assert length == len(begin) + size


def pe(machine: int) -> bytes:
    return b"MZ" + bytes(58) + (64).to_bytes(4, "little") + b"PE\0\0" + machine.to_bytes(2, "little") + bytes(20)


@pytest.mark.parametrize("sandbox", [True, False])
@pytest.mark.parametrize(
    ("content", "platform", "exports"),
    [
        (samples.library(), "linux-x86_64", True),
        (samples.library("int other(void) { return 1; }\n"), "linux-x86_64", False),
        (pe(0x8664), "windows-x86_64", None),
        (b"\xcf\xfa\xed\xfe\x0c\0\0\1" + bytes(24), "macos-aarch64", None),
    ],
    ids=lambda value: "library" if isinstance(value, bytes) else str(value),
)
async def test_what_a_library_is(sandbox: bool, content: bytes, platform: str, exports: bool | None) -> None:
    with TemporaryFile() as file:
        file.write(content)
        found = await Looker(sandbox=sandbox).look(file)
    assert (found.platform, found.exports) == (platform, exports)


ESCAPE = """
import json, os, socket, sys
sys.path[:] = sys.argv[1].split(":")
found = []
for what, attempt in {
    "file": lambda: open(sys.argv[2]).read(),
    "write": lambda: open("/usr/written", "w"),
    "kill": lambda: os.kill(int(sys.argv[3]), 0),
    "network": lambda: socket.create_connection(("127.0.0.1", int(sys.argv[4])), 1),
}.items():
    try:
        attempt()
        found.append(what)
    except OSError:
        pass
print(json.dumps(found))
"""


def test_the_sandbox_keeps_a_process_in(server: Server, tmp_path: Path) -> None:
    """What the process could do that reads libraries, if a library took it over."""
    secret = tmp_path / "secret"
    secret.write_text("x")
    assert server.process is not None
    looker: Any = Looker(sandbox=True)
    program = [sys.executable, "-I", "-S", "-B", "-c", ESCAPE, ":".join(looking._paths())]
    arguments = [str(secret), str(server.process.pid), str(server.port)]

    def escaped(before: tuple[str, ...]) -> list[str]:
        command = [*before, *program, *arguments]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
        found: list[str] = json.loads(done.stdout)
        return found

    assert escaped(looker._before) == []
    assert {"file", "kill", "network"} <= set(escaped(())), "these ways out are there without it"


LIMITED = """
import sys
sys.path[:] = sys.argv[1].split(":")
from drift_bolt.confined.child import confine
confine(256 << 20, 1)
try:
    bytearray(1 << 30)
except MemoryError:
    print("memory", flush=True)
try:
    open(sys.argv[2], "wb", 0).write(b"x")
except OSError:
    print("file", flush=True)
while True:
    pass
"""


def test_limits_end_a_process_that_takes_too_much(tmp_path: Path) -> None:
    command = [sys.executable, "-I", "-S", "-c", LIMITED, ":".join(looking._paths()), str(tmp_path / "written")]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (done.stdout.split(), done.returncode) == (["memory", "file"], -signal.SIGKILL)


async def test_a_look_that_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "SECONDS", 0.0)
    with TemporaryFile() as file:
        file.write(samples.library())
        with pytest.raises(Invalid, match="longer"):
            await Looker(sandbox=True).look(file)


async def test_a_process_that_leaves_another_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has left the group holds the pipes open, and is not waited for."""
    monkeypatch.setattr(looking, "SECONDS", 2.0)
    monkeypatch.setattr(looking, "SECONDS_TO_END", 0.1)
    monkeypatch.setattr(looking, "_START", "import os, time\nif not os.fork():\n    os.setsid()\n    time.sleep(20)")
    with TemporaryFile() as file, pytest.raises(Invalid, match="longer"):
        await asyncio.wait_for(Looker(sandbox=False).look(file), 10)


def test_without_bubblewrap_nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(StartError, match="bubblewrap"):
        Looker(sandbox=True)
    Looker(sandbox=False)


async def test_a_process_that_says_too_much_is_not_heard_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one would that a library has taken over: its answer must not fill the server's memory."""
    monkeypatch.setattr(looking, "_START", "import os\nwhile True: os.write(1, b'x' * 65536)")
    with TemporaryFile() as file, pytest.raises(Invalid, match="says too much"):
        await Looker(sandbox=False).look(file)


async def test_looks_wait_for_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    looker = Looker(sandbox=False)
    going, most = 0, 0

    async def look(_: object) -> None:
        nonlocal going, most
        going += 1
        most = max(most, going)
        await asyncio.sleep(0.01)
        going -= 1

    monkeypatch.setattr(looker, "_look", look)
    with TemporaryFile() as file:
        await asyncio.gather(*(looker.look(file) for _ in range(3 * looking.AT_ONCE)))
    assert most == looking.AT_ONCE
