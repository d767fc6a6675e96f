"""What a suite is: each test is a rule, with an id, a level, and its docstring as the sentence."""

import inspect
from collections.abc import Callable
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
        for name in cls.written():
            test, *overridden = [vars(base)[name] for base in cls.__mro__ if name in vars(base)]
            if overridden and (test in overridden or not _excused(test)):
                # To mark the suite's own function would mark it for every driver.
                message = f"{cls.__name__}.{name} overrides a rule; say why: a method of its own with xfail(reason=...)"
                raise TypeError(message)

    @classmethod
    def written(cls) -> list[str]:
        """Returns the names of the tests in the order in which they are written."""
        names = [name for base in reversed(cls.__mro__) for name in vars(base) if name.startswith(PREFIX)]
        return list(dict.fromkeys(names))

    @classmethod
    def rules(cls) -> list[Rule]:
        """Returns the rules in the order in which they are written."""
        return [cls.rule(name, getattr(cls, name)) for name in cls.written()]

    @classmethod
    def rule(cls, name: str, test: Callable[..., Any]) -> Rule:
        """Returns the rule that a test checks."""
        claimed = [mark.args[0].__name__ for mark in getattr(test, "pytestmark", []) if mark.name == POWER]
        sentence = " ".join((inspect.getdoc(test) or "").split())
        identifier = f"{cls.family}.{name.removeprefix(PREFIX).replace('_', '-')}"
        return Rule(identifier, sentence, claimed[0] if claimed else None)


def _excused(test: Any) -> bool:
    return any(mark.name == "xfail" and mark.kwargs.get("reason") for mark in getattr(test, "pytestmark", []))
