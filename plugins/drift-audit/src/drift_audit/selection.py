"""Says which events are recorded."""

from drift_audit.config import AuditConfig
from drift_audit.record import SEVERITIES
from drift_core.api import AuditEvent, Credentials


class Selection:
    """The filters of ``[audit]``."""

    def __init__(self, config: AuditConfig) -> None:
        self._severities = frozenset(SEVERITIES[SEVERITIES.index(config.min_severity) :])
        self._types = frozenset(config.enabled_event_types)
        self._excluded = config.exclude_patterns
        self._pulls = config.pulls

    def takes(self, event: AuditEvent, request: Credentials | None) -> bool:
        """Returns whether an event is recorded. One who only asks for a manifest's digest, by HEAD, pulls nothing."""
        if event.type == "ImagePulled" and (not self._pulls or (request is not None and request.method == "HEAD")):
            return False
        if event.severity not in self._severities or (self._types and event.type not in self._types):
            return False
        if not self._excluded:
            return True
        name = event.username if event.identity is None else event.identity.name
        return not any(part in event.resource_id or part in (name or "") for part in self._excluded)
