"""What surrounds a change: the gates that are asked before it, and the event that is written with it."""

import time
from collections.abc import Mapping, Sequence
from copy import copy
from typing import Protocol, runtime_checkable

import structlog
from msgspec import Struct
from sqlalchemy import Connection

from drift_core.errors import Denied, RegistryError
from drift_core.failures import TooSlowError, is_failure, within
from drift_core.metadata.outbox import add_event
from drift_core.metrics import Metrics
from drift_core.model import ACTIONS, Action, AuditEvent, Change, Digest
from drift_core.protocols.changes import Accountant, Gate, SupportsPulls
from drift_core.trail import Trail

AUDITED: Mapping[Action, str] = {
    "manifest.pull": "ImagePulled",
    "manifest.push": "ManifestCreated",
    "manifest.delete": "ManifestDeleted",
    "tag.delete": "ImageDeleted",
    "blob.push": "BlobUploaded",
    "blob.mount": "BlobUploaded",
    "blob.delete": "BlobDeleted",
}
"""What an audit trail calls an action; a push that sets tags is ``ImagePushed``, and of blobs no pull is kept."""


class NamedGate(Struct, frozen=True):
    """A gate, the plugin that it belongs to, and the actions that it was asked for when it was opened."""

    plugin: str
    actions: frozenset[Action]
    gate: Gate


class NamedPulls(Struct, frozen=True):
    """Who counts pulls, and the plugin that it belongs to."""

    plugin: str
    feature: SupportsPulls


@runtime_checkable
class Remembering(Protocol):
    """A gate that knows without waiting what it lets pass, whoever asks."""

    def admitted(self, repository: str, digest: Digest, tag: str | None) -> bool:
        """Says whether a pull of a manifest by a tag, or by its digest, is admitted; False is "ask me"."""
        ...


class Changes:
    """Asks gates in their order, one after the other: the first that refuses is the answer.

    ``told`` are the actions of which events are written, since somebody subscribes to them.
    """

    def __init__(
        self,
        gates: Sequence[NamedGate],
        told: frozenset[Action],
        gate_seconds: float,
        metrics: Metrics,
        trail: Trail,
        accountants: Sequence[Accountant] = (),
        pulls: Sequence[NamedPulls] = (),
    ) -> None:
        self.gates: Mapping[Action, tuple[NamedGate, ...]] = {
            action: found for action in ACTIONS if (found := tuple(one for one in gates if action in one.actions))
        }
        for named in gates:
            # Known as 0 before the first of them: else nobody sees it begin.
            metrics.gate_failures.labels(named.plugin)
        self.told = told
        self.trail = trail
        asked = [named.gate for named in self.gates.get("manifest.pull", ())]
        remembering = [gate for gate in asked if isinstance(gate, Remembering)]
        self._remembering = remembering if len(remembering) == len(asked) else None
        self._pulls = tuple(pulls)
        self._accountants = tuple(accountants)
        self._seconds = gate_seconds
        self._metrics = metrics
        self._log = structlog.get_logger("drift.gates")

    def gated(self, action: Action) -> bool:
        """Returns whether anybody is asked before an action."""
        return action in self.gates

    def watches_pull(self, repository: str, digest: Digest, tag: str | None) -> bool:
        """Returns whether anybody has to be asked before a pull of a manifest, or keeps it."""
        if self.trail.auditors or self._remembering is None:
            return True
        # No generator: this is on the path of every pull.
        for gate in self._remembering:  # noqa: SIM110
            if not gate.admitted(repository, digest, tag):
                return True
        return False

    def pulled(self, repository: str, tag: str | None) -> None:
        """Tells who counts pulls that a client was given a manifest."""
        for named in self._pulls:
            try:
                named.feature.pulled(repository, tag)
            except Exception as error:  # noqa: BLE001 - whatever a plugin raises, the pull is answered
                self._metrics.work_failures.labels(named.plugin).inc()
                self._log.warning("a pull could not be counted", plugin=named.plugin, error=str(error), exc_info=error)

    async def admit(self, change: Change) -> None:
        """Asks every gate of the action.

        Raises:
            Denied: a gate refuses, fails, or does not answer in time; ``detail`` has its plugin and the reason.
            RegistryError: a gate raised another one.
        """
        for named in self.gates.get(change.action, ()):
            began = time.perf_counter()
            try:
                await within(self._seconds, named.gate.admit(change))
            except RegistryError as error:
                self._metrics.gate_refusals.labels(named.plugin).inc()
                # Not the plugin's own exception, which it may raise again.
                refusal = copy(error)
                refusal.detail = {"reason": error.message, **error.detail, "plugin": named.plugin}
                refusal.message = f"the plugin {named.plugin} refuses: {error.message}"
                raise refusal from error
            except BaseException as error:
                if not is_failure(error):
                    raise
                self._metrics.gate_failures.labels(named.plugin).inc()
                reason = (
                    f"it did not answer within {self._seconds:g} s" if isinstance(error, TooSlowError) else "it failed"
                )
                self._log.exception(
                    "a gate failed and refuses", plugin=named.plugin, action=change.action, error=str(error)
                )
                message = f"the plugin {named.plugin} refuses: {reason}"
                raise Denied(message, plugin=named.plugin, reason=reason) from error
            finally:
                self._metrics.gate_seconds.labels(named.plugin).observe(time.perf_counter() - began)

    def tell(self, db: Connection, change: Change) -> None:
        """Writes the event of a change in its transaction for subscribers alone: the audit trail has the whole."""
        if change.action in self.told:
            add_event(db, change)

    def account(self, db: Connection, repository: str, size: int) -> None:
        """Says in its transaction that a repository holds ``size`` bytes of blobs more, or fewer."""
        for accountant in self._accountants:
            accountant.account(db, repository, size)

    async def note(self, change: Change) -> None:
        """Tells the audit trail of what changes no record: a pull."""
        for event in audit_events(change) if self.trail.auditors else ():
            await self.trail.note(event)

    def record(self, db: Connection, change: Change) -> None:
        """Writes the event of a change in its transaction, for subscribers and for the audit trail."""
        self.tell(db, change)
        if self.trail.auditors:
            for event in audit_events(change):
                self.trail.record(db, event)


def audit_events(change: Change) -> list[AuditEvent]:
    """Returns what an audit trail keeps of a change: one event, or one for each tag."""
    kind = "ImagePushed" if change.action == "manifest.push" and change.tags else AUDITED[change.action]
    parameters = {"mediaType": change.media_type, "artifactType": change.artifact_type, "subject": change.subject}
    parameters |= {"mountedFrom": change.source}
    return [
        AuditEvent(
            type=kind,
            identity=change.identity,
            resource_type="Blob" if change.action.startswith("blob.") else "Image",
            resource_id=change.repository,
            tag=tag,
            digest=change.digest,
            size=change.size,
            parameters={name: value for name, value in parameters.items() if value is not None},
        )
        for tag in change.tags or (None,)
    ]
