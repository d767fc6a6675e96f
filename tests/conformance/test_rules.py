"""What a suite is, and what pytest does with it."""

import subprocess
import sys
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import pytest

from drift_core import conformance
from drift_core.conformance import Suite, power
from drift_core.conformance.rules import Rule


@runtime_checkable
class SupportsFlight(Protocol):
    def fly(self) -> str: ...


class BirdSuite(Suite):
    """Needs the fixture ``bird``."""

    family = "bird"
    subject = "bird"

    def test_has_a_beak(self, bird: Any) -> None:
        """A bird has a beak.

        It has no teeth.
        """
        assert bird.beak

    @power(SupportsFlight)
    async def test_flies(self, bird: Any) -> None:
        """A bird that flies goes far."""
        assert bird.fly() == "far"


class Silencing:
    """A class beside the suite that has a test of the same name."""

    def test_flies(self) -> None:
        """Nothing."""


def test_override_by_a_class_beside_it() -> None:
    with pytest.raises(TypeError, match=r"Quiet\.test_flies overrides a rule"):
        type("Quiet", (Silencing, BirdSuite), {})


def test_rules() -> None:
    """A rule is a test: its id, its docstring in one line, its power."""
    assert list(BirdSuite.rules()) == [
        Rule("bird.has-a-beak", "A bird has a beak. It has no teeth."),
        Rule("bird.flies", "A bird that flies goes far.", "SupportsFlight"),
    ]


@pytest.mark.parametrize("marks", [[], [pytest.mark.xfail], [pytest.mark.xfail(reason="")], [pytest.mark.skip("no")]])
def test_override_without_a_reason(marks: list[Any]) -> None:
    """A rule cannot be switched off silently, not even by way of a class between."""

    def test_flies(self: Any) -> None:
        """Nothing."""

    for mark in marks:
        mark(test_flies)

    class Between(BirdSuite):
        pass

    with pytest.raises(TypeError, match=r"Lazy\.test_flies overrides a rule"):
        type("Lazy", (Between,), {"test_flies": test_flies})


SUITES = """
import pytest
from drift_core.conformance import Suite, power
from drift_core.api import SupportsLocalPath

class BirdSuite(Suite):
    family = "bird"
    subject = "bird"

    @power(SupportsLocalPath)
    async def test_nests(self, bird):
        assert bird.local_path("x") == "tree"

class Bird:
    pass

class Nester:
    def local_path(self, digest):
        return "tree"

class TestBird(BirdSuite):
    @pytest.fixture
    def bird(self):
        return Bird()

class TestNester(BirdSuite):
    @pytest.fixture
    async def bird(self):
        return Nester()

class TestExcused(BirdSuite):
    @pytest.fixture
    def bird(self):
        return Nester()

    @pytest.mark.xfail(reason="no trees here")
    async def test_nests(self, bird):
        raise NotImplementedError
"""


def test_unclaimed_power_is_skipped_by_name(tmp_path: Path) -> None:
    """In a third party's tests, without any setting but strict markers."""
    tests = tmp_path / "test_birds.py"
    tests.write_text(SUITES)
    command = [sys.executable, "-m", "pytest", "-v", "-rA", "--strict-markers", "-p", "no:cacheprovider", tests]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout
    assert "Bird does not claim SupportsLocalPath" in run.stdout
    assert "PASSED test_birds.py::TestNester::test_nests" in run.stdout
    assert "XFAIL test_birds.py::TestExcused::test_nests - no trees here" in run.stdout
    assert "1 passed, 1 skipped, 1 xfailed" in run.stdout


def test_plugin_imports_only_pytest() -> None:
    """A pytest run that uses no suite does not pay for the kit."""
    program = (
        "import pytest, sys; import drift_core; before = set(sys.modules); import drift_core.conformance.pytest_plugin;"
        "print(*sorted(set(sys.modules) - before))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["drift_core.conformance", "drift_core.conformance.pytest_plugin"]


@pytest.mark.parametrize("name", conformance.__all__)
def test_exported(name: str) -> None:
    """Every name that the package promises is there."""
    assert getattr(conformance, name).__name__ == name


def test_unknown_name() -> None:
    """Another name is an AttributeError, as everywhere."""
    with pytest.raises(AttributeError, match="StoragSuite"):
        getattr(conformance, "StoragSuite")  # noqa: B009 - mypy knows that it is not there
