"""Containers that administrators run on the server: off unless configured, bounded, and gone afterwards."""

import asyncio
import secrets
import subprocess
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pytest
from drift_bolt import containers, running
from drift_bolt.bolt import Bolt
from drift_bolt.config import BoltConfig
from drift_bolt.containers import ContainerRequest
from drift_bolt.host import cpus_of, this_host
from drift_bolt.launching import Launch
from drift_bolt.running import Log, Prepared

from drift_core.api import Denied, Records, TooManyRequests
from drift_core.conformance import services
from tests.server import Server
from tests.tools import tool

from .conftest import PASSWORDS, SETTINGS
from .shelf import Shelf
from .test_launching import drift, prepare

UNIFIED = 'umount -l /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup; exec "$@"'
"""A machine with cgroups of version 2 alone."""

SPLIT = """set -e
umount -l /sys/fs/cgroup
mount -t tmpfs none /sys/fs/cgroup
for one in cpu cpuacct cpuset memory devices freezer blkio pids; do
    mkdir /sys/fs/cgroup/$one
    mount -t cgroup -o $one none /sys/fs/cgroup/$one
done
mount --bind "$ISOLATED" /sys/devices/system/cpu/isolated
exec "$@"
"""
"""One with those of version 1 alone, whose kernel was told to isolate the CPUs in the file ISOLATED."""


class Alone(Server):
    """A server within a mount namespace of its own where this machine mixes cgroups, which crun does not know."""

    def command(self) -> list[str]:
        before = [] if this_host().unified_cgroups else ["unshare", "--mount", "sh", "-c", UNIFIED, "sh"]
        return [*before, *super().command()]


@pytest.fixture(scope="module")
def launching(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that runs containers."""
    tool("crun")
    folder = tmp_path_factory.mktemp("launching")
    changes: dict[str, Any] = {"cpu_optimizations": {"boost": True}}
    settings = asyncio.run(prepare(folder, changes))
    more = (*SETTINGS, *settings, "bolt.launching=true", "bolt.launching_seconds=20", "bolt.default_profiles=false")
    with Alone(folder, *more, workers=1) as server:
        yield server


def ask(server: Server, who: str = "root", **body: Any) -> httpx.Response:
    wanted = {"image": "test/busybox", "profile": "inside", "partial": True, "cgroups": False, **body}
    return httpx.post(f"{server.url}/v1/containers", json=wanted, auth=(who, PASSWORDS[who]), timeout=60)


def shell(script: str) -> list[str]:
    return ["/bin/sh", "-c", script]


def test_an_administrator_runs_an_image(launching: Server) -> None:
    answer = ask(launching, arguments=shell("echo out; echo err >&2; exit 3"))
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["exit_code"], found["output"], found["truncated"]) == (3, "out\nerr\n", False)
    assert [one.partition(":")[0] for one in found["not_applied"]] == ["cpu_optimizations.boost"]
    assert 0 < found["seconds"] < 20


def test_only_administrators_do(launching: Server) -> None:
    assert ask(launching, "ann").status_code == 403
    assert httpx.post(f"{launching.url}/v1/containers", json={}).status_code == 401


def test_one_that_takes_too_long_is_ended(launching: Server) -> None:
    mark = str(10**6 + secrets.randbelow(10**6))
    found = ask(launching, arguments=shell(f"echo began; busybox sleep {mark}"), seconds=10).json()
    assert (found["exit_code"], found["output"]) == (None, "began\n")
    running = subprocess.run(["pgrep", "-f", f"sleep {mark}"], capture_output=True, text=True, check=False)
    assert running.stdout == "", "nothing of it runs on"


def test_of_much_that_is_said_the_end_is_kept(launching: Server) -> None:
    lines = "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done"
    found = ask(launching, arguments=shell(lines)).json()
    assert found["truncated"] is True
    assert found["output"].endswith("line 19999\n")
    assert len(found["output"]) == containers.LOG_BYTES


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"image": "test/none"}, 400, "no image test/none"),
        ({"profile": "none"}, 404, "no profile none"),
        ({"partial": False}, 400, "as a whole"),
        ({"seconds": 21}, 400, "launching_seconds"),
        ({"seconds": 0}, 400, "seconds"),
        ({"unknown": 1}, 400, "unknown"),
        ({"image": None}, 400, "image"),
    ],
)
def test_what_cannot_be_run(launching: Server, body: dict[str, Any], status: int, says: str) -> None:
    answer = ask(launching, **body)
    assert answer.status_code == status
    assert says in answer.json()["message"]


def bolt(records: Records, **config: Any) -> Bolt:
    return Bolt(BoltConfig(enabled=True, enable_plugin_sandbox=False, **config), services("bolt", records=records))


WANTED = ContainerRequest(image="x", profile="y")


async def test_it_is_off_unless_configured(records: Records) -> None:
    assert BoltConfig().launching is False
    with pytest.raises(Denied, match="launching is false"):
        await bolt(records).launcher.run(WANTED, None)


async def test_only_so_many_run_at_a_time(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = bolt(records, launching=True).launcher
    never = asyncio.Event()

    async def run(*_: object) -> Any:
        await never.wait()

    monkeypatch.setattr(launcher, "_run", run)
    tasks = [asyncio.create_task(launcher.run(WANTED, None)) for _ in range(containers.AT_ONCE)]
    await asyncio.sleep(0)
    with pytest.raises(TooManyRequests):
        await launcher.run(WANTED, None)
    never.set()
    await asyncio.gather(*tasks)
    await launcher.run(WANTED, None)


@pytest.mark.parametrize("pieces", [[b"abcdef", b"g"], [b"", b"abcd", b"efg"], [b"a" * 100 + b"defg"]])
def test_a_log_keeps_the_end(pieces: Sequence[bytes]) -> None:
    log = Log(4)
    for piece in pieces:
        log.add(piece)
    assert (log.text, log.truncated) == ("defg", True)
    short = Log(4)
    short.add(b"a\xff")
    assert (short.text, short.truncated) == ("a\N{REPLACEMENT CHARACTER}", False)


RUNTIME = """#!/bin/sh
echo began
while [ ! -e "$(dirname "$0")/over" ]; do sleep 0.05; done
"""


@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_container_takes_no_thread_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, cancelled: bool
) -> None:
    """Nor does it keep the loop waiting while its folder is removed."""
    removed: list[bool] = []

    class Folder(TemporaryDirectory[str]):
        def cleanup(self) -> None:
            super().cleanup()
            removed.append(threading.current_thread() is not threading.main_thread())

    async def nothing(*_: object) -> None: ...

    monkeypatch.setattr(running, "TemporaryDirectory", Folder)
    for name in ("_write_layout", "_unpack"):
        monkeypatch.setattr(running, name, nothing)
    runtime, log = tmp_path / "runtime", Log(100)
    runtime.write_text(RUNTIME)
    runtime.chmod(0o755)
    prepared: Any = Prepared(None, "", Launch(specification={}, refused=(), nice=0, affinity=frozenset()), cgroups=True)  # type: ignore[arg-type]
    registry: Any = Shelf()
    with ThreadPoolExecutor(1) as only:
        asyncio.get_running_loop().set_default_executor(only)
        task = asyncio.create_task(running.run(registry, prepared, str(runtime), log=log))
        try:
            async with asyncio.timeout(20):
                while log.text != "began\n":
                    await asyncio.sleep(0.01)
                await asyncio.to_thread(int)
            if cancelled:
                task.cancel()
        finally:
            (tmp_path / "over").touch()
        (ended,) = await asyncio.gather(task, return_exceptions=True)
    assert isinstance(ended, asyncio.CancelledError) if cancelled else ended == 0
    assert removed == [True]


SPLIT_HERE = not this_host().unified_cgroups and Path("/sys/fs/cgroup/cpuset").is_dir()


@pytest.mark.skipif(not SPLIT_HERE, reason="looks at cgroups of version 1, which this machine has not")
async def test_cgroups_bound_a_container(tmp_path: Path) -> None:
    """Looked at from inside: CPUs that no process of it can leave, and its share of them."""
    tool("crun")
    host = this_host()
    isolated = tmp_path / "isolated"
    last = max(host.cpus)
    isolated.write_text(f"{last}\n")
    settings = await prepare(tmp_path, {"cpu_optimizations": {"affinity": "Isolated"}, "priority": 300})
    look = (
        (
            "cat /sys/fs/cgroup/cpuset/cpuset.cpus /sys/fs/cgroup/cpu/cpu.shares; "
            "busybox taskset -p ffffffff $$ >/dev/null 2>&1; grep Cpus_allowed_list /proc/self/status"
        )
        .replace("cat ", "busybox cat ")
        .replace("grep ", "busybox grep ")
    )
    before = ("env", f"ISOLATED={isolated}", "unshare", "--mount", "sh", "-c", SPLIT, "sh")
    done = drift(settings, "run", "test/busybox", "--profile", "inside", "--", *shell(look), before=before)
    assert done.returncode == 0, done.stderr
    cpus, shares, allowed = done.stdout.splitlines()
    assert cpus_of(cpus) == cpus_of(allowed.split()[1]) == {last}
    assert shares == str(3 * 1024)
