"""Who is asked before something is pushed, pulled or deleted, and who is told of it."""

from collections.abc import Collection
from typing import Any, Protocol, runtime_checkable

from drift_core.model import Action, Change, Event


@runtime_checkable
class Gate(Protocol):
    """A feature that is asked before something happens. Fails closed: an exception or a time-out refuses it.

    ``gated`` are the actions before which it is asked, read once, when the feature is opened. It may be asked about a
    change that then does not happen, for instance because another gate refuses.
    """

    gated: Collection[Action]

    async def admit(self, change: Change) -> None:
        """Returns to let it happen. Raises `Denied` with the reason, which the client is told.

        Another `RegistryError`, such as `TooManyRequests`, is answered as it is. The time limit is
        ``[plugins] gate_seconds``.
        """
        ...


@runtime_checkable
class Subscriber(Protocol):
    """A feature that is told what was committed. Fails open: an event that it does not take is told again later.

    ``subscribed`` are the actions of which it is told, read once, when the feature is opened.
    """

    subscribed: Collection[Action]

    async def on_event(self, event: Event) -> None:
        """Takes one event: at least once, by one process, and those of a repository in their order.

        An exception, or more than ``[plugins] subscriber_seconds``, and it is told again, as are all later events of
        the same repository.
        """
        ...


@runtime_checkable
class Accountant(Protocol):
    """A feature that adds up what repositories hold. Fails closed: what it raises undoes the change."""

    def account(self, db: Any, repository: str, size: int) -> None:
        """Writes, in the transaction of the change, that a repository holds ``size`` bytes of blobs more, or fewer.

        ``db`` is a `sqlalchemy.Connection`; the tables are those of the plugin. Changes of a repository may run at the
        same time on several nodes, so that a row which all of them change would make them wait for each other.
        """
        ...


@runtime_checkable
class SupportsPulls(Protocol):
    """A feature that counts what clients pull. Fails open: what it raises is logged and counted."""

    def pulled(self, repository: str, tag: str | None) -> None:
        """Is told of a manifest that a client was given by a GET; ``tag`` is None where it was asked for by digest.

        On the path of every pull: it only notes it, in memory, and asks nobody.
        """
        ...
