"""What a suite does with rules that are overridden or not claimed, and with those who do not use it."""

import subprocess
import sys
from pathlib import Path

import pytest

from drift_core.api import SupportsRedirect
from drift_core.conformance.rules import Rule, Suite, power
from drift_core.conformance.runner import Result, run


class ExampleSuite(Suite):
    family = "example"
    subject = "thing"

    @pytest.fixture
    def thing(self) -> object:
        return object()

    async def test_it_is_a_thing(self, thing: object) -> None:
        """A thing is something."""
        assert thing is not None

    @power(SupportsRedirect)
    async def test_it_redirects(self, thing: object) -> None:
        """A thing that redirects does."""
        assert thing is None


def test_a_rule_is_the_test_s_name_and_docstring() -> None:
    assert ExampleSuite.rules() == [
        Rule("example.it-is-a-thing", "A thing is something."),
        Rule("example.it-redirects", "A thing that redirects does.", "SupportsRedirect"),
    ]


def test_who_overrides_a_rule_says_why() -> None:
    with pytest.raises(TypeError, match=r"Silent\.test_it_is_a_thing overrides a rule; say why"):
        type("Silent", (ExampleSuite,), {"test_it_is_a_thing": lambda _self: None})
    unexplained = pytest.mark.xfail()(lambda _self: None)
    with pytest.raises(TypeError, match="overrides a rule"):
        type("Unexplained", (ExampleSuite,), {"test_it_is_a_thing": unexplained})
    with pytest.raises(TypeError, match="overrides a rule"):
        type("Marking", (ExampleSuite,), {"test_it_is_a_thing": ExampleSuite.test_it_is_a_thing})


def test_outcomes_say_why() -> None:
    class Excused(ExampleSuite):
        @pytest.mark.xfail(reason="it is nothing yet")
        async def test_it_is_a_thing(self, thing: object) -> None:
            assert thing is None

    class Failing(ExampleSuite):
        @pytest.fixture
        def thing(self) -> object:
            raise RuntimeError("no thing")

    assert [(one.rule, one.level, one.outcome, one.why) for one in run(Excused, 1)] == [
        ("example.it-is-a-thing", "base", "xfail", "it is nothing yet"),
        ("example.it-redirects", "SupportsRedirect", "skip", "SupportsRedirect is not claimed"),
    ]
    first, second = run(Failing, 1)
    assert (first.outcome, second.outcome) == ("fail", "fail")
    assert first.why == "RuntimeError: no thing"
    assert run(ExampleSuite, 1)[0] == Result("example.it-is-a-thing", "base", "pass", "", "A thing is something.")


def test_who_uses_no_suite_pays_nothing(tmp_path: Path) -> None:
    """Pytest loads the kit's plugin wherever the kit is installed."""
    (tmp_path / "test_it.py").write_text(
        "import sys\ndef test_it():\n"
        "    heavy = {'hypothesis', 'litestar', 'sqlalchemy', 'msgspec', 'drift_core.api'}\n"
        "    assert not heavy & set(sys.modules)\n    assert 'drift_core.conformance.pytest_plugin' in sys.modules\n"
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:hypothesispytest",
        "-p",
        "no:cacheprovider",
        "test_it.py",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
