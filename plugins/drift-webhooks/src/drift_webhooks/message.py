"""What is sent: a CloudEvent (1.0.2, "JSON Event Format") with the signature of Standard Webhooks 1.0."""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec
from msgspec import UNSET, Struct, UnsetType

from drift_core.api import Event
from drift_webhooks.config import Target, key_of

CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"

TRIAL = 0
"""The number of an event that never happened, by which a target is tried."""


class CloudEvent(Struct, frozen=True):
    """The attributes that Drift sets, all of them text, and the change itself."""

    id: str
    source: str
    type: str
    time: str
    subject: str | UnsetType
    data: "Told"
    specversion: str = "1.0"
    datacontenttype: str = "application/json"


class Told(Struct, frozen=True, omit_defaults=True, rename="camel"):
    """What was changed: the fields of `Event`; ``size`` in bytes."""

    repository: str
    digest: str | None = None
    tags: tuple[str, ...] = ()
    size: int | None = None
    media_type: str | None = None
    artifact_type: str | None = None
    subject: str | None = None
    source: str | None = None
    actor: str | None = None


def body_of(event: Event, source: str) -> bytes:
    """Returns an event as JSON; ``source`` is the registry."""
    fields = {name: getattr(event, name) for name in Told.__struct_fields__}
    return msgspec.json.encode(
        CloudEvent(
            str(event.id),
            source,
            f"drift.{event.action}",
            _moment(event.at),
            UNSET if event.digest is None else f"{event.repository}@{event.digest}",
            Told(**fields),
        )
    )


def trial_of(source: str, at: float) -> bytes:
    """Returns an event that nothing was changed by; ``at`` is in seconds since the epoch."""
    return msgspec.json.encode(CloudEvent(str(TRIAL), source, "drift.test", _moment(at), UNSET, Told("test")))


def headers_of(target: Target, source: str, event_id: int, body: bytes, at: float) -> Mapping[str, str]:
    """Returns the headers of an attempt ``at`` a moment in seconds since the epoch; ``source`` is the registry."""
    # Whoever hears of several registries forgets what has an id that they know.
    named, moment = f"{hashlib.sha256(source.encode()).hexdigest()[:12]}_{event_id}", str(int(at))
    headers = {**target.headers, "content-type": CONTENT_TYPE, "webhook-id": named, "webhook-timestamp": moment}
    if target.secret is not None:
        signed = hmac.digest(key_of(target.secret), f"{named}.{moment}.".encode() + body, hashlib.sha256)
        headers["webhook-signature"] = f"v1,{base64.b64encode(signed).decode()}"
    return headers


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")
