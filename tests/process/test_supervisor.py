"""The supervisor with real processes: replaces, drains, kills, reports, and leaves nothing behind."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from drift_core.supervisor import GIVES_WAY
from tests.server import free_port
from tests.tools import ROOT

DRAINED = {"drained-worker-0", "drained-worker-1", "drained-own-0"}


class Supervised:
    """A supervisor in a process of its own."""

    def __init__(self, folder: Path, worker: str, *settings: str) -> None:
        self.folder = folder
        self.port = free_port()
        overrides = [f"server.bind_addr=127.0.0.1:{self.port}", "server.workers=2", "server.drain_seconds=2", *settings]
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from tests.process.workers import main; main()", worker, *overrides],
            cwd=ROOT,
            env={**os.environ, "DRIFT_TEST_FOLDER": str(folder)},
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def started(self) -> dict[str, int]:
        """Returns the newest process id of each slot."""
        found = sorted(self.folder.glob("started-*"), key=lambda path: path.stat().st_mtime_ns)
        return {f"{name}-{index}": int(pid) for _, name, index, pid in (path.name.split("-") for path in found)}

    def wait_until(self, happened: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 30
        while not happened():
            assert time.monotonic() < deadline
            assert self.process.poll() is None or happened()
            time.sleep(0.02)

    def end(self) -> tuple[int, str]:
        """Waits for the end and returns exit code and standard error."""
        _, said = self.process.communicate(timeout=30)
        return self.process.returncode, said


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator[Callable[..., Supervised]]:
    running: list[Supervised] = []

    def start(worker: str, *settings: str) -> Supervised:
        running.append(Supervised(tmp_path, worker, *settings))
        return running[-1]

    yield start
    for supervised in running:
        if supervised.process.poll() is None:
            os.killpg(supervised.process.pid, signal.SIGKILL)
        if supervised.process.stderr and not supervised.process.stderr.closed:
            supervised.process.communicate()


def test_a_worker_that_is_killed_is_replaced(supervise: Callable[..., Supervised]) -> None:
    supervised = supervise("good")
    supervised.wait_until(lambda: len(supervised.started()) == 3)
    first = supervised.started()
    os.kill(first["worker-1"], signal.SIGKILL)
    supervised.wait_until(lambda: supervised.started()["worker-1"] != first["worker-1"])
    assert supervised.started()["worker-0"] == first["worker-0"]
    supervised.process.send_signal(signal.SIGTERM)
    code, said = supervised.end()
    assert code == 0
    assert '"exit_code": -9' in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_drains_every_worker(
    supervise: Callable[..., Supervised], tmp_path: Path, number: signal.Signals
) -> None:
    supervised = supervise("good")
    supervised.wait_until(lambda: len(supervised.started()) == 3)
    os.killpg(supervised.process.pid, number)
    assert supervised.end()[0] == 0
    assert {path.name for path in tmp_path.glob("drained-*")} == {
        "drained-worker-0",
        "drained-worker-1",
        "drained-own-0",
    }
    assert not any(map(alive, supervised.started().values()))


def test_asking_twice_does_not_end_the_drain(supervise: Callable[..., Supervised], tmp_path: Path) -> None:
    supervised = supervise("good")
    supervised.wait_until(lambda: len(supervised.started()) == 3)
    supervised.process.send_signal(signal.SIGTERM)
    for _ in range(2):
        time.sleep(0.15)
        for pid in supervised.started().values():
            os.kill(pid, signal.SIGTERM)
    assert supervised.end()[0] == 0
    assert {path.name for path in tmp_path.glob("drained-*")} == {
        "drained-worker-0",
        "drained-worker-1",
        "drained-own-0",
    }


def test_a_worker_that_does_not_end_is_killed(supervise: Callable[..., Supervised], tmp_path: Path) -> None:
    supervised = supervise("stubborn", "server.drain_seconds=0")
    supervised.wait_until(lambda: len(supervised.started()) == 3)
    supervised.process.send_signal(signal.SIGTERM)
    code, said = supervised.end()
    assert code == 0
    assert (tmp_path / "ignored").exists()
    assert "did not end in time" in said
    assert not any(map(alive, supervised.started().values()))


def test_a_transport_that_cannot_start_in_its_own_process_stops_the_start(
    supervise: Callable[..., Supervised], tmp_path: Path
) -> None:
    code, said = supervise("half_refusing").end()
    assert code == 1
    assert said.count("failed: the moon is not reachable") == 1
    assert {path.name for path in tmp_path.glob("drained-*")} == {"drained-worker-0", "drained-worker-1"}


def test_a_transport_in_its_own_process_gives_way_to_the_others(supervise: Callable[..., Supervised]) -> None:
    supervised = supervise("good")
    supervised.wait_until(lambda: len(supervised.started()) == 3)
    own = os.getpriority(os.PRIO_PROCESS, 0)
    priorities = {name: os.getpriority(os.PRIO_PROCESS, pid) for name, pid in supervised.started().items()}
    assert sorted(priorities.values()) == [own, own, min(19, own + GIVES_WAY)]
    assert max(priorities, key=lambda name: priorities[name]).startswith("own")


def test_a_failed_start_is_said_once_and_without_a_traceback(supervise: Callable[..., Supervised]) -> None:
    code, said = supervise("refusing").end()
    assert code == 1
    assert said.count("failed: the moon is not reachable") == 1
    assert "Traceback" not in said


def test_without_its_supervisor_no_worker_stays(supervise: Callable[..., Supervised]) -> None:
    supervised = supervise("good")
    supervised.wait_until(lambda: len(supervised.started()) == 3)
    supervised.process.kill()
    supervised.process.wait()
    deadline = time.monotonic() + 20
    while any(map(alive, supervised.started().values())):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("share", [False, True])
def test_an_address_in_use_is_refused_even_if_it_could_be_shared(
    supervise: Callable[..., Supervised], *, share: bool
) -> None:
    with socket.socket() as taken:
        if share:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, said = supervise("good", f"server.bind_addr={address}").end()
    assert code == 1
    assert f"cannot listen on {address}: Address already in use" in said


def test_hangup_does_not_end_it(supervise: Callable[..., Supervised]) -> None:
    supervised = supervise("good")
    supervised.wait_until(lambda: len(supervised.started()) == 3)
    supervised.process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert supervised.process.poll() is None
