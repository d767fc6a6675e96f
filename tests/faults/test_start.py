"""A start that cannot succeed ends with exit code 1 and one message that says what to do."""

import shutil
import socket
import sqlite3
import subprocess
from pathlib import Path

import pytest

from tests.faults.conftest import Serve, SmallDisk
from tests.faults.inspection import PATIENCE, alive, eventually, listeners, refused
from tests.server import DRIFT, Server
from tests.tools import ROOT


def database(server: Server) -> Path:
    return server.folder / "data" / "drift.db"


@pytest.mark.parametrize("share", [False, True])
def test_port_in_use(tmp_path: Path, *, share: bool) -> None:
    server = Server(tmp_path)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", server.port))
        other.listen()
        message = refused(server)
    assert server.host in message
    assert "Address already in use" in message


def test_port_in_use_by_another_drift(serve: Serve, tmp_path: Path) -> None:
    first = serve()
    second = Server(tmp_path / "second", f"server.bind_addr={first.host}")
    assert first.host in refused(second)
    assert listeners(first.port) == 2


def test_two_that_start_at_once_do_not_share_the_port(tmp_path: Path) -> None:
    first = Server(tmp_path / "first")
    second = Server(tmp_path / "second", f"server.bind_addr={first.host}")
    started = []
    for server in (first, second):
        command = [str(DRIFT), "serve", *server.arguments()]
        started.append(subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True))
    try:
        eventually(
            lambda: any(process.poll() is not None for process in started) or listeners(first.port) > 2,
            "one of the two giving up, or both sharing the port",
        )
        assert listeners(first.port) <= 2, "the two share a port, and so each gets half of the other's requests"
        lost = next(process for process in started if process.poll() is not None)
        assert lost.returncode == 1
        assert lost.stderr is not None
        assert first.host in lost.stderr.read()
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.communicate(timeout=PATIENCE)


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("not a folder")
    message = refused(Server(tmp_path))
    assert str(tmp_path / "data") in message
    assert (tmp_path / "data").read_text() == "not a folder"


def test_a_file_in_place_of_the_blobs_folder(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "blobs").write_text("not a folder")
    message = refused(Server(tmp_path))
    assert str(tmp_path / "data" / "blobs") in message


@pytest.mark.parametrize("used", [False, True])
def test_a_folder_that_cannot_be_written(small_disk: SmallDisk, serve: Serve, *, used: bool) -> None:
    disk = small_disk("16m")
    settings = (f"storage.path={disk / 'data'}",)
    if used:
        assert serve(*settings).stop(PATIENCE) == 0
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    message = refused(Server(disk.parent / "again", *settings))
    assert str(disk / "data") in message
    assert "read-only" in message.lower() or "readonly" in message.lower()


def test_blobs_that_cannot_be_written(small_disk: SmallDisk, tmp_path: Path) -> None:
    disk = small_disk("16m")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    message = refused(Server(tmp_path / "server", f"storage.filesystem.path={disk / 'blobs'}"))
    assert str(disk / "blobs") in message
    assert "Read-only" in message


def test_a_database_of_a_newer_version(serve: Serve) -> None:
    server = serve()
    assert server.stop(PATIENCE) == 0
    with sqlite3.connect(database(server)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'from_the_future'")
    connection.close()
    before = database(server).read_bytes()
    message = refused(server)
    assert str(database(server)) in message
    assert "newer" in message
    assert "from_the_future" in message
    assert database(server).read_bytes() == before


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    server = Server(tmp_path)
    database(server).parent.mkdir()
    database(server).write_bytes(b"this is not a database" * 1000)
    before = database(server).read_bytes()
    message = refused(server)
    assert str(database(server)) in message
    assert "not a database" in message
    assert database(server).read_bytes() == before


def test_a_database_that_is_damaged(serve: Serve) -> None:
    server = serve()
    assert server.stop(PATIENCE) == 0
    content = bytearray(database(server).read_bytes())
    content[100:8192] = b"\xff" * (8192 - 100)
    database(server).write_bytes(content)
    message = refused(server)
    assert str(database(server)) in message
    assert "malformed" in message


def test_a_folder_in_place_of_the_database(tmp_path: Path) -> None:
    server = Server(tmp_path)
    database(server).mkdir(parents=True)
    assert str(database(server)) in refused(server)


def test_an_open_address_without_auth(tmp_path: Path) -> None:
    server = Server(tmp_path, "server.bind_addr=0.0.0.0:0")
    message = refused(server)
    assert "server.bind_addr" in message
    assert "auth" in message
    assert not (tmp_path / "data").exists()


def test_an_open_address_is_good_when_nobody_shall_log_in(tmp_path: Path) -> None:
    server = Server(tmp_path, "server.bind_addr=0.0.0.0:0", "auth.mode=none")
    command = [str(DRIFT), "config", "check", *server.arguments()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (["storage.type=s3", 'plugins.disabled=["storage-s3"]'], ["s3", "drift-storage-s3"]),
        (["storage.type=floppy"], ["floppy", "filesystem"]),
        (['plugins.disabled=["storage-fs"]'], ["filesystem", "drift-storage-fs"]),
        (["auth.mode=basic", 'plugins.disabled=["auth-basic"]'], ["basic", "drift-auth-basic"]),
        (['plugins.disabled=["http-httptools"]'], ["drift-http-httptools"]),
        (["tls.cert_file=/nowhere.pem", "tls.key_file=/nowhere.key"], ["/nowhere.pem"]),
    ],
)
def test_a_message_names(tmp_path: Path, settings: list[str], expected: list[str]) -> None:
    message = refused(Server(tmp_path, *settings))
    for part in expected:
        assert part in message


def test_a_failed_start_leaves_no_process(tmp_path: Path) -> None:
    server = Server(tmp_path, "tls.cert_file=/nowhere.pem", "tls.key_file=/nowhere.key", workers=3)
    command = [str(DRIFT), "serve", *server.arguments()]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True) as process:
        assert process.wait(PATIENCE) == 1
    group = [path.parent for path in Path("/proc").glob("[0-9]*/stat") if _group(path) == process.pid]
    assert not [path for path in group if alive(int(path.name))]


def _group(path: Path) -> int:
    try:
        return int(path.read_text().rsplit(")", 1)[1].split()[2])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def test_after_the_cause_is_gone_it_starts(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("not a folder")
    server = Server(tmp_path)
    refused(server)
    (tmp_path / "data").unlink()
    try:
        server.start(PATIENCE)
        assert server.stop(PATIENCE) == 0
    finally:
        server.kill()
    shutil.rmtree(tmp_path / "data")
