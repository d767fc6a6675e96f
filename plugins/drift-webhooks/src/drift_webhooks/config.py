"""The keys of ``[webhooks]`` and of its tables, one for each target."""

import base64
import binascii
import re
from typing import Annotated

from msgspec import Meta, field

from drift_core.api import Action, Secret, Struct, check_url

SECRET_PREFIX = "whsec_"  # noqa: S105 - what such a secret begins with (Standard Webhooks, "Signature scheme")
LEAST_SECRET, MOST_SECRET = 24, 64
"""Bytes of a secret (Standard Webhooks, "Signature scheme")."""

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")

HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""RFC 9110 section 5.1."""

OURS = frozenset({"connection", "content-length", "content-type", "host", "transfer-encoding"})
"""Headers that are made with each request."""

CHANGES: tuple[Action, ...] = ("manifest.push", "manifest.delete", "tag.delete")
"""What most want to know; blobs come before the manifest that gives them a meaning."""


class Target(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[webhooks.targets.NAME]``: who is told at ``url`` of ``actions`` in ``repositories``.

    Those are globs, in which * is any text. With ``secret`` what is sent is signed, and ``headers`` are sent with it.
    ``timeout_seconds`` are for one attempt; after ``attempts``, or a day, an event is put aside.
    """

    url: str
    secret: Secret | None = None
    headers: dict[str, Secret] = field(default_factory=dict[str, Secret])
    actions: tuple[Action, ...] = CHANGES
    repositories: tuple[Annotated[str, Meta(min_length=1)], ...] = ("*",)
    timeout_seconds: Annotated[float, Meta(gt=0, le=60)] = 10.0
    attempts: Annotated[int, Meta(ge=1, le=100)] = 30

    def __post_init__(self) -> None:
        check_url(self.url)
        if not set(self.actions) or any(action.endswith(".pull") for action in self.actions):
            raise ValueError("actions must be some of those of which subscribers are told, and no pulls")
        if not self.repositories:
            raise ValueError("repositories must not be empty: nobody would be told of anything")
        if self.secret is not None:
            key_of(self.secret)
        for name, value in self.headers.items():
            _check_header(name, value)


class WebhooksConfig(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[webhooks]``: ``source`` says in each event from which registry it is.

    An event that a target did not take is forgotten ``keep_days`` after it was put aside.
    """

    enabled: bool = False
    source: Annotated[str, Meta(pattern=r"^[!-~]{1,255}$")] = "drift"
    keep_days: Annotated[float, Meta(gt=0)] = 30.0
    targets: dict[str, Target] = field(default_factory=dict[str, Target])

    def __post_init__(self) -> None:
        for name in self.targets:
            if NAME.fullmatch(name) is None:
                raise ValueError(f"targets.{name}: a name has lower-case letters, digits, - and _, at most 64")


def _check_header(name: str, value: str) -> None:
    lower = name.lower()
    if HEADER.fullmatch(name) is None or lower in OURS or lower.startswith("webhook-"):
        message = f"headers: {name!r} cannot be set"
        raise ValueError(message)
    if not value.isascii() or not value.isprintable():
        message = f"headers.{name}: has a character that no header may have"
        raise ValueError(message)


def key_of(secret: str) -> bytes:
    """Returns the key in a secret. Raises ValueError, which does not tell it."""
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(SECRET_PREFIX) or not LEAST_SECRET <= len(key) <= MOST_SECRET:
        message = f"secret must be {SECRET_PREFIX} and {LEAST_SECRET} to {MOST_SECRET} bytes in base64"
        raise ValueError(f"{message}; `openssl rand -base64 32` makes some")
    return key
