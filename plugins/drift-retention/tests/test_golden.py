"""Cases that a person can read, in ``golden``: which tags are kept, and why; and that exactly the others go."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
import structlog
from drift_retention.ages import SECONDS
from drift_retention.conditions import Pulls
from drift_retention.config import RetentionConfig
from drift_retention.dropping import Dropper
from drift_retention.judging import Judge, Judged
from drift_retention.measures import Measures
from prometheus_client import CollectorRegistry

from drift_core.api import Digest, load

from .shelf import Shelf, tag

NOW = 1_800_000_000.0
CASES = [
    pytest.param(case, id=f"{file.stem}: {case['name']}")
    for file in sorted((Path(__file__).parent / "golden").glob("*.toml"))
    for case in tomllib.loads(file.read_text())["cases"]
]


def ago(age: str) -> float:
    return NOW - int(age[:-1]) * SECONDS[age[-1]]


def judged(case: dict[str, Any]) -> list[Judged]:
    config = load({"retention": case.get("retention", {})}, {}, ()).section("retention", RetentionConfig)
    tags = [
        tag(name, ago(pushed), ago(case.get("tagged", {}).get(name, pushed)), case.get("undeletable", {}).get(name))
        for name, pushed in case["tags"].items()
    ]
    pulls = {name: ago(age) for name, age in case.get("pulled", {}).items()}
    pulls |= {Digest.of(name.encode()): ago(age) for name, age in case.get("pulled_digests", {}).items()}
    since = ago(case["recorded"]) if "recorded" in case else None
    return Judge(config).judge(case.get("repository", "team/app"), tags, Pulls(since, pulls), NOW)


def test_there_are_enough() -> None:
    assert len(CASES) >= 25


@pytest.mark.parametrize("case", CASES)
def test_judged(case: dict[str, Any]) -> None:
    found = judged(case)
    assert {one.tag: one.reason for one in found if one.kept} == case["kept"]
    gone = [one for one in found if not one.kept]
    assert [one.tag for one in gone] == sorted(case["dropped"] + case.get("refused", []))
    assert {one.reason for one in gone} <= {"no rule keeps it"}


@pytest.mark.parametrize("case", CASES)
async def test_dropped(case: dict[str, Any]) -> None:
    tags = [tag(name, 0.0) for name in case["tags"]]
    shelf: Any = Shelf({"team/app": tags}, tuple(case.get("immutable", ())))
    dropper = Dropper(shelf, Measures(CollectorRegistry()), structlog.get_logger("test"), dry_run=False)
    drops = [drop async for drop in dropper.run("team/app", judged(case))]
    assert shelf.names("team/app") == set(case["tags"]) - set(case["dropped"])
    assert [drop.tag for drop in drops if drop.outcome == "dropped"] == sorted(case["dropped"])
    assert [drop.tag for drop in drops if drop.outcome == "refused"] == case.get("refused", [])
