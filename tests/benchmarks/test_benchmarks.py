"""The benchmarks themselves: a short run beside nobody, an answer that is wrong, and the report of made-up figures."""

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from benchmarks import logins, run
from benchmarks.load import Plan, Push, Request, build, send
from benchmarks.report import found, write_report
from benchmarks.results import Results, Row, add_rows, read_results
from benchmarks.seeding import expect_listed
from benchmarks.servers import PROGRAMS, Running, running
from benchmarks.workload import FULL, ITSELF, QUICK, Bar, Case, Figures, Lacking, Scale, Stage, Workload
from benchmarks.workloads import workloads
from tests.tools import tool


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tool("go")
    return build(tmp_path_factory.mktemp("program"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running("drift", tmp_path_factory.mktemp("server")) as started:
        yield started


def test_a_quick_run_keeps_every_case_and_names_the_peers_that_are_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tool("go")
    monkeypatch.setattr("benchmarks.run.PROGRAMS", dict.fromkeys(PROGRAMS, "no-such-registry"))
    file = tmp_path / "results"
    run.main(["--quick", "--results", str(file), "manifests", "many tags"])
    printed = capsys.readouterr().out
    assert "distribution is missing" in printed
    assert "zot is missing" in printed
    results = read_results(file)
    assert list(results.cases()) == [
        "manifest GET",
        "manifest HEAD",
        "manifest GET, 8 connections",
        "tags page of 100",
        f"tags page of {QUICK.tags}",
        "push into an empty repository",
        f"push into a repository of {QUICK.tags} tags",
    ]
    for row in results.rows:
        assert row.server == "drift"
        assert {*row.figures} == {"throughput", "cpu", "p50", "p99", "peak"}
        for measure, rounds in row.figures.items():
            assert len(rounds) == QUICK.rounds
            # A round as short as these may take less than one tick of CPU time.
            assert all(figure > 0 or measure == "cpu" for figure in rounds), (row.case, measure)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (Request("/v2/", length=3), "2 bytes, not 3"),
        (Request("/v2/", status=201), "status 200, not 201"),
        (Request("/v2/", length=2, digest="sha256:" + 64 * "0"), "another digest"),
    ],
    ids=["length", "status", "digest"],
)
def test_a_wrong_answer_ends_a_run(program: Path, server: Running, wrong: Request, told: str) -> None:
    right = Request("/v2/", length=2)
    assert send(program, server, Plan(2, iterations=8, requests=[right])).iterations == 8
    with pytest.raises(RuntimeError, match=told):
        send(program, server, Plan(2, iterations=8, requests=[wrong]))


def test_one_iteration_in_four_of_a_mix_pushes(program: Path, server: Running) -> None:
    push = Push("bench/mix", "v%d", 1000)
    plan = Plan(2, iterations=12, requests=[Request("/v2/", length=2)], sequence=True, push=push, share=4)
    assert send(program, server, plan).iterations == 12
    expect_listed(server, "/v2/bench/mix/tags/list?n=1", "tags", 3)
    with pytest.raises(RuntimeError, match="3 entries"):
        expect_listed(server, "/v2/bench/mix/tags/list?n=1", "tags", 4)


def test_a_chunked_layer_arrives_whole(program: Path, server: Running) -> None:
    # Neither the block that repeats (1 MiB) nor the layer is a multiple of the chunk.
    push = Push("bench/chunks", "v1", (5 << 20) + 3, 700_001)
    assert send(program, server, Plan(1, iterations=1, push=push)).errors == []


def test_a_peer_that_fails_is_noted_and_drift_that_fails_raises(tmp_path: Path) -> None:
    broken = {"zot"}

    def prepare(stage: Stage) -> dict[str, Case]:
        def case(number: int) -> Figures:
            if stage.name in broken and number == 2:
                raise RuntimeError("status 500, not 200")
            return {"throughput": float(number)}

        if stage.name == "distribution":
            raise Lacking("has none")
        return {"case": case}

    workload = Workload("name", "pulls", prepare)
    names, scale = ["drift", "distribution", "zot"], Scale(rounds=3)
    rows = run.measure(tmp_path, tmp_path, workload, names, scale)
    assert [(row.server, row.figures, row.note) for row in rows] == [
        ("drift", {"throughput": [1.0, 2.0, 3.0]}, ""),
        ("distribution", {}, "has none"),
        ("zot", {}, "status 500, not 200"),
    ]
    broken.add("drift")
    with pytest.raises(RuntimeError, match="status 500"):
        run.measure(tmp_path, tmp_path, workload, names, scale)


def row(case: str, server: str, began: float = 1.0, **figures: list[float]) -> Row:
    return Row(began, case, case, server, figures)


def test_a_report_has_the_ratios_of_neighbours_the_bars_and_the_plots(tmp_path: Path) -> None:
    case = "blob GET 20 MiB"
    rows = [
        row(case, "drift", began=0.5, throughput=[9000.0]),
        row(case, "of an earlier run", began=0.5, throughput=[1.0]),
        row(case, "drift", throughput=[30.0, 10.0, 40.0], cpu=[1.0, 1.0, 1.0]),
        row(case, "distribution", throughput=[10.0, 10.0, 20.0], cpu=[2.0, 2.0, 2.0]),
        row(case, "zot", throughput=[20.0, 20.0, 20.0], cpu=[0.5, 0.5, 0.5]),
        Row(1.0, "many referrers", "", "distribution", note="has none"),
    ]
    add_rows(tmp_path / "results", rows)
    page = tmp_path / "README.md"
    page.write_text("# Before\n\n<!-- results -->\nold\n<!-- /results -->\n\n## After\n")
    for _ in range(2):
        write_report(page, read_results(tmp_path / "results"), workloads(FULL))
    text = page.read_text()
    assert text.startswith("# Before\n\n<!-- results -->\n")
    assert text.endswith("<!-- /results -->\n\n## After\n")
    assert "old" not in text
    assert "earlier" not in text
    assert "| blob GET 20 MiB | distribution | 2.00 | 0.50 | - | - | - |" in text
    assert "| blob GET 20 MiB | zot | 1.50 | 2.00 | - | - | - |" in text
    assert "| blob GET 20 MiB | throughput | the best peer | >= 1.1 | 1.50 | met |" in text
    assert "| blob GET 20 MiB | cpu | the best peer | <= 1 | 2.00 | **not met** |" in text
    assert "| blob GET 200 MiB | cpu | the best peer | <= 1 | - | not measured |" in text
    assert "- many referrers, distribution: has none" in text
    svg = ET.parse(tmp_path / "plots/pulls.svg").getroot()  # noqa: S314 - written here
    words = [element.text for element in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert words == [
        "Pulls: throughput, longer is better (Drift = 1)",
        case,
        "drift 1.00",
        "distribution 0.50",
        "zot 0.67",
    ]
    assert [path.name for path in (tmp_path / "plots").iterdir()] == ["pulls.svg"]


def test_bars_beside_an_own_case_or_a_figure_that_is_a_ratio() -> None:
    results = Results(
        [row("few", "drift", p99=[1.0, 2.0, 1.0]), row("many", "drift", p99=[3.0, 3.0, 3.0], of=[1.5, 9.0, 2.5])]
    )
    assert found(results, "many", Bar("p99", 2.0, ITSELF, beside="few")) == 3.0
    assert found(results, "many", Bar("of", 2.0, ITSELF)) == 2.5
    assert found(results, "many", Bar("p99", 2.0)) is None
    assert Bar("p99", 2.0).met(2.0)
    assert not Bar("p99", 2.0).met(2.1)
    assert Bar("p99", 2.0, at_least=True).met(2.1)
    assert not Bar("p99", 2.0, at_least=True).met(1.9)


@pytest.mark.soak
def test_every_way_to_log_in_is_compared(capsys: pytest.CaptureFixture[str]) -> None:
    logins.main(["--rounds", "1", "--requests", "2000"])
    printed = capsys.readouterr().out
    assert [line.split(" | ")[0].strip("| ") for line in printed.splitlines()[2:]] == list(logins.WAYS)
