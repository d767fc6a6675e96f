"""Tells every opened auditor what was done, and what was refused."""

from collections.abc import Sequence
from typing import Any

from drift_core.model import AuditEvent
from drift_core.protocols.audit import Auditor


class Trail:
    """Fails closed: what an auditor raises undoes the change, or refuses the request, that it was told of."""

    def __init__(self, auditors: Sequence[Auditor] = ()) -> None:
        self.auditors = list(auditors)

    def record(self, db: Any, event: AuditEvent) -> None:
        """Writes what is done in the transaction ``db`` that does it; only within `Records.write`."""
        for auditor in self.auditors:
            auditor.record(db, event)

    async def note(self, event: AuditEvent) -> None:
        """Keeps what no transaction does, such as a login or a refusal."""
        for auditor in self.auditors:
            await auditor.note(event)
