"""The database in which a plugin has tables of its own."""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Records(Protocol):
    """The metadata database, in which a plugin has tables of its own; see `Driver`.

    Their names begin with the plugin's and ``__``, ``-`` written as ``_``. The tables of the core and of others are
    not its business: they change without notice.
    """

    async def read(self, query: Callable[[Any], T]) -> T:
        """Returns ``query(connection)``, run in a thread that others wait for. Raises `Unavailable`.

        The connection is a `sqlalchemy.Connection`.
        """
        ...

    async def write(self, change: Callable[[Any], T], *, concurrent: bool = False) -> T:
        """Returns ``change(connection)`` after it is committed and durable; an exception of it undoes it.

        The change has a transaction of its own, does nothing but write, and may be run again where another one came
        between. Changes of one plugin run one at a time, on whichever node; a ``concurrent`` one may run beside others,
        so that its statements have to say on what they depend. Raises `Unavailable`, and `StorageFull` where there is
        no space; what a statement violates comes out as SQLAlchemy raises it.
        """
        ...

    def version(self) -> bytes:
        """Returns bytes that differ after any process has committed a change to the database; asks no disk.

        See `Snapshot`. Raises `Unavailable` where the database fails.
        """
        ...
