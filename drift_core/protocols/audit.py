"""The audit trail: who tells of something, and who keeps it."""

from typing import Any, Protocol, runtime_checkable

from drift_core.model import AuditEvent


class Audit(Protocol):
    """Where a plugin says what it did, or refused, for whoever keeps an audit trail."""

    def record(self, db: Any, event: AuditEvent) -> None:
        """Writes an event in the transaction that does what it tells; only within `Records.write`, with its ``db``.

        What it raises has to undo the change.
        """
        ...

    async def note(self, event: AuditEvent) -> None:
        """Keeps an event that no transaction does; what it raises has to refuse the request."""
        ...


@runtime_checkable
class Auditor(Protocol):
    """A feature that keeps an audit trail. Fails closed: what it raises undoes, or refuses, what it was told of.

    One that would rather lose an event raises nothing.
    """

    def record(self, db: Any, event: AuditEvent) -> None:
        """Writes an event in the transaction of what it tells; does nothing but write, in the thread of all writers.

        ``db`` is a `sqlalchemy.Connection`; the tables are those of the plugin.
        """
        ...

    async def note(self, event: AuditEvent) -> None:
        """Keeps an event that no transaction does: a login, a pull, a refusal."""
        ...
