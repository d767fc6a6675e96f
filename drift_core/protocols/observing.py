"""What is told of every request and every question to a driver, as it begins and ends."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from msgspec import Struct


class Call(Struct, frozen=True):
    """A question to an opened driver, as an observer is told of it.

    ``asked`` is what it is asked as: ``authn``, ``authz``, ``gate``, ``subscriber`` or ``storage``; ``method`` is that
    of its Protocol. ``about`` says more, such as ``action``, ``repository`` or ``digest``, and no secrets. What is
    yielded bit by bit is a ``stream``: it begins with the first, and may end in another task.
    """

    asked: str
    plugin: str
    method: str
    about: Mapping[str, str] = {}
    stream: bool = False


class Observation(Protocol):
    """What an observer made of something that has begun; ``fields`` of a request are in its lines of the log."""

    @property
    def fields(self) -> Mapping[str, str]:
        """Names and values, read once."""
        ...

    def end(self, error: BaseException | None, status: int | None = None, route: str = "") -> None:
        """Is told once how it ended: with the exception that came out, or None.

        Of a request, ``status`` is that of its answer, None where it got none, and ``route`` the form of its path, such
        as ``/v2/{name}/blobs/{digest}``, or "" for a path that nobody knows.
        """
        ...


@runtime_checkable
class SupportsObserving(Protocol):
    """A feature that is told when requests, and questions to drivers, begin and end. Fails open.

    What it raises is logged and counted. It is told in the task that does it, before and after, and must not wait. A
    file that the server sends by itself is no question to the store.
    """

    def observe_request(self, scope: Any, client_address: str) -> Observation:
        """Is told that a request begins: its ASGI scope, and the client's address, as a trusted proxy may say it."""
        ...

    def observe_call(self, call: Call) -> Observation:
        """Is told that a question to a driver begins."""
        ...
