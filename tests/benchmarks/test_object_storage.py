"""Peak memory of pushes to an object store, in short and in full, and short runs of what is measured beside peers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from benchmarks import object_storage, several_nodes
from benchmarks.images import layer, push_image
from benchmarks.load import Measured, Plan, build, send
from benchmarks.object_storage import commands, uploads
from benchmarks.results import OWN, read_results
from benchmarks.run import measure
from benchmarks.servers import running
from benchmarks.workload import Scale, Workload
from tests.services.minio import Minio
from tests.tools import tool


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tool("go")
    return build(tmp_path_factory.mktemp("program"))


@pytest.fixture(scope="module")
def minio() -> Iterator[Minio]:
    with Minio() as started:
        yield started


def of_bound(program: Path, folder: Path, minio: Minio, workload: Workload, *settings: str) -> float:
    """Returns Drift's peak in relation to what bounds it."""
    started = commands(minio, "server.workers=1", *settings)
    (row,) = measure(program, folder, workload, [OWN], Scale(rounds=1), started)
    return row.figures["of bound"][0]


def test_uploads_take_no_more_memory_than_their_budget_and_twice_what_is_idle(
    program: Path, tmp_path: Path, minio: Minio
) -> None:
    # Without a budget each would have one or two parts of 16 MiB in memory: three times what is allowed.
    settings = "storage.s3.buffer_mb=32", "storage.s3.part_size_mb=16"
    assert of_bound(program, tmp_path, minio, uploads(20, 32, 32, workers=1), *settings) <= 1


@pytest.mark.soak
@pytest.mark.parametrize(("budget", "part"), [(10, 5), (64, 8)])
def test_a_hundred_megabytes_thirty_two_times_at_once(
    budget: int, part: int, program: Path, tmp_path: Path, minio: Minio
) -> None:
    settings = f"storage.s3.buffer_mb={budget}", f"storage.s3.part_size_mb={part}"
    assert of_bound(program, tmp_path, minio, uploads(32, 100, budget, workers=1), *settings) <= 1


def test_a_redirected_pull_is_checked_like_any_other(program: Path, tmp_path: Path, minio: Minio) -> None:
    with running(OWN, tmp_path, commands(minio, redirect=True)[OWN]) as server:
        pushed = push_image(server, "bench/app", layer(1)).layer

        def pull(**changes: Any) -> Measured:
            return send(program, server, Plan(2, iterations=8, requests=[replace(pushed, **changes)]))

        # No part of it came from Drift, nor was it sent by another way than the one that is measured.
        assert httpx.get(f"http://{server.address}{pushed.path}").status_code == 307
        assert pull().bytes == 8 * pushed.length
        with pytest.raises(RuntimeError, match="bytes, not 3"):
            pull(length=3)
        with pytest.raises(RuntimeError, match="another digest"):
            pull(digest="sha256:" + 64 * "0")


def test_a_short_run_beside_nobody(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tool("go")
    monkeypatch.setattr("benchmarks.run.PROGRAMS", {"distribution": "no-such-registry"})
    file = tmp_path / "results"
    object_storage.main(["--quick", "--results", str(file), "of 1 MiB", "of a 1 MiB"])
    assert "distribution is missing" in capsys.readouterr().out
    results = read_results(file)
    assert list(results.cases()) == [
        "push of 1 MiB images",
        "pull of a 1 MiB image",
        "pull of a 1 MiB image, redirected",
        "pull of a 1 MiB image, cached",
    ]
    for row in results.rows:
        assert row.figures.keys() == {"throughput", "cpu", "p50", "p99", "peak", "store cpu"}
        assert all(len(rounds) == 1 for rounds in row.figures.values())


def test_a_short_run_of_several_nodes(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    tool("go")
    monkeypatch.setattr("benchmarks.run.PROGRAMS", {"distribution": "no-such-registry"})
    several_nodes.main(["--rounds", "1", "--share", "0.05"])
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [row[:2] for row in rows[1:5]] == [
        ["SQLite", "1"],
        ["PostgreSQL", "1"],
        ["SQLite", "16"],
        ["PostgreSQL", "16"],
    ]
    assert [row[0] for row in rows[6:]] == list(several_nodes.PUSHES)
