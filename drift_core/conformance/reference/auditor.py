"""An `Auditor` in memory: it keeps what it is told, for tests of what a plugin tells."""

from typing import Any

from drift_core.api import AuditEvent


class MemoryAuditor:
    """Keeps every event in ``events``, in order, whatever becomes of the transaction."""

    def __init__(self) -> None:
        self.events: list[AuditEvent] = []

    def record(self, db: Any, event: AuditEvent) -> None:
        """See `Auditor`."""
        del db
        self.events.append(event)

    async def note(self, event: AuditEvent) -> None:
        """See `Auditor`."""
        self.events.append(event)

    def types(self) -> list[str]:
        """Returns the types of all events."""
        return [event.type for event in self.events]

    def of(self, kind: str) -> list[AuditEvent]:
        """Returns the events of one type."""
        return [event for event in self.events if event.type == kind]
