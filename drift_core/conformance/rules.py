"""What a suite is: each test is a rule, with an id, a level, and its docstring as the sentence."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, TypeVar

import pytest
from msgspec import Struct

from drift_core.conformance.pytest_plugin import POWER

F = TypeVar("F", bound=Callable[..., Any])

PREFIX = "test_"


class Rule(Struct, frozen=True):
    """One rule: ``power`` names the optional Protocol that has to be claimed, None is the base level."""

    id: str
    sentence: str
    power: str | None = None


def power(protocol: type) -> Callable[[F], F]:
    """Makes a test a rule only for drivers that claim ``protocol``; the others skip it by name."""
    # Called with a class alone, a marker would decorate it.
    return pytest.mark.drift_power.with_args(protocol)


class Suite:
    """The base of every suite; a subclass of a third party provides the fixtures that the suite's docstring names.

    ``family`` begins the ids of the rules. ``subject`` is the fixture that gives the driver, of which powers are asked.
    A test of a suite may be overridden only together with ``pytest.mark.xfail(reason=...)``: otherwise `TypeError`.
    """

    family: ClassVar[str]
    subject: ClassVar[str]

    pytestmark: ClassVar[list[pytest.MarkDecorator]] = [pytest.mark.anyio]

    @pytest.fixture
    def anyio_backend(self) -> str:
        """The event loop of the suites: Drift runs on asyncio."""
        return "asyncio"

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name, test in vars(cls).items():
            inherited = any(name in vars(base) for base in cls.__mro__[1:])
            if name.startswith(PREFIX) and inherited and not _excused(test):
                message = f"{cls.__name__}.{name} overrides a rule; say why by pytest.mark.xfail(reason=...)"
                raise TypeError(message)

    @classmethod
    def rules(cls) -> Iterator[Rule]:
        """Yields the rules in the order in which they are written."""
        seen = set()
        for base in reversed(cls.__mro__):
            for name, test in vars(base).items():
                if name.startswith(PREFIX) and name not in seen:
                    seen.add(name)
                    yield cls.rule(name, test)

    @classmethod
    def rule(cls, name: str, test: Callable[..., Any]) -> Rule:
        """Returns the rule that a test checks."""
        claimed = [mark.args[0].__name__ for mark in getattr(test, "pytestmark", []) if mark.name == POWER]
        sentence = " ".join((inspect.getdoc(test) or "").split())
        identifier = f"{cls.family}.{name.removeprefix(PREFIX).replace('_', '-')}"
        return Rule(identifier, sentence, claimed[0] if claimed else None)


def _excused(test: Any) -> bool:
    return any(mark.name == "xfail" and mark.kwargs.get("reason") for mark in getattr(test, "pytestmark", []))
