"""The frozen values that cross a boundary between the core and a plugin: digests, descriptors, scopes, identities."""

import hashlib
import re
from collections.abc import Callable
from typing import Any, Literal, Protocol, Self, get_args

from msgspec import Struct

from drift_core.errors import DigestInvalid

REPOSITORY_NAME = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
"""A repository name: distribution specification, "Pulling manifests"."""

TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
"""A tag: distribution specification, "Pulling manifests"."""

MAX_NAME_LENGTH = 255
"""Longest repository name accepted, in characters; the specification's note names the same limit for clients."""

DIGEST_FORM = re.compile(r"[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[a-zA-Z0-9=_-]+")


class Hash(Protocol):
    """What `hashlib` objects do; ``update`` releases the GIL for large buffers."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        """Takes in more bytes."""
        ...

    def hexdigest(self) -> str:
        """Returns the hash of everything taken in so far."""
        ...


class Algorithm(Struct, frozen=True):
    """One digest algorithm: its name, the number of hex characters, and how to begin a hash."""

    name: str
    length: int
    new: Callable[[], Hash]


ALGORITHMS: dict[str, Algorithm] = {
    algorithm.name: algorithm
    for algorithm in (
        Algorithm("sha256", 64, hashlib.sha256),
        Algorithm("sha384", 96, hashlib.sha384),
        Algorithm("sha512", 128, hashlib.sha512),
    )
}
"""Every digest algorithm that Drift accepts (image specification, "Digests"); a new one is a line here."""


class Digest(str):
    """``algorithm:hex``, checked; a `str`, so that it goes into SQL and paths; msgspec wants ``str(digest)``."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Returns the checked digest.

        Raises:
            DigestInvalid: the text is no digest, names an unknown algorithm, or has the wrong length.
        """
        if DIGEST_FORM.fullmatch(text) is None:
            raise DigestInvalid("not a digest", digest=text[:256])
        name, _, encoded = text.partition(":")
        algorithm = ALGORITHMS.get(name)
        if algorithm is None:
            raise DigestInvalid("unsupported digest algorithm", digest=text[:256], supported=sorted(ALGORITHMS))
        if len(encoded) != algorithm.length or not set(encoded) <= set("0123456789abcdef"):
            raise DigestInvalid(f"a {name} digest has {algorithm.length} lower-case hex characters", digest=text[:256])
        return cls(text)

    @classmethod
    def of(cls, content: bytes, algorithm: str = "sha256") -> Self:
        """Returns the digest of `content`; blocks for about 1 ms per MiB."""
        state = ALGORITHMS[algorithm].new()
        state.update(content)
        return cls(f"{algorithm}:{state.hexdigest()}")

    @property
    def algorithm(self) -> str:
        """The part before the colon, a key of `ALGORITHMS`."""
        return self.partition(":")[0]

    @property
    def encoded(self) -> str:
        """The hex part."""
        return self.partition(":")[2]


class Descriptor(Struct, frozen=True, rename="camel", omit_defaults=True):
    """A content descriptor: image specification, "OCI Content Descriptors". ``size`` is in bytes."""

    media_type: str
    digest: str
    size: int
    artifact_type: str | None = None
    annotations: dict[str, str] | None = None
    platform: dict[str, Any] | None = None


class BlobStat(Struct, frozen=True):
    """A stored blob; ``size`` in bytes, ``modified`` in seconds since the epoch."""

    digest: Digest
    size: int
    modified: float


class Scope(Struct, frozen=True, order=True):
    """One right on one resource, such as ``repository:team/app:pull`` or ``registry:catalog:*``.

    The text form is that of the Docker token protocol. Of the core, ``kind`` is repository or registry and ``action``
    is pull, push, delete or ``*``; the routes of a plugin may need others, such as ``organization:acme:update``.

    As a right that is granted, a name that ends in ``*`` stands for every name that begins with the rest, ``*`` is
    every action, and ``registry:*:*`` is everything.
    """

    kind: str
    name: str
    action: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}:{self.action}"

    def covers(self, other: "Scope") -> bool:
        """Returns whether this right, granted, includes the other one."""
        if self == EVERYTHING:
            return True
        return (
            self.kind == other.kind
            and self.action in ("*", other.action)
            and (self.name == other.name or (self.name[-1:] == "*" and other.name.startswith(self.name[:-1])))
        )


CATALOG = Scope("registry", "catalog", "*")
"""The right to list repositories, each of which is shown only to those who may pull from it."""

EVERYTHING = Scope("registry", "*", "*")
"""The right to everything; what a route of a plugin needs unless it says otherwise."""


class Identity(Struct, frozen=True):
    """Who makes a request, as an `Authenticator` found out.

    ``scopes`` is None where the credential limits nothing by itself, else the most that it may be used for. A
    ``delegated`` credential was handed out to a program, or ends by itself, such as a personal token or a certificate:
    nobody gets a lasting one by it.
    """

    name: str
    source: str
    groups: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()
    scopes: frozenset[Scope] | None = None
    delegated: bool = False


class Owner(Struct, frozen=True):
    """Whose a credential is that was given out, such as a personal token: who was ``name`` then.

    ``source`` is that of the `Identity` to whom it was given, None where only the name is known. ``since`` is when it
    was given, in seconds since the epoch.
    """

    name: str
    source: str | None
    since: float


PLUGIN = "plugin"
"""The source of an identity that is a plugin, at work by itself."""


class Visible(Struct, frozen=True):
    """Which repositories a policy lets somebody pull from, as globs in which ``*`` is any text.

    What is ``denied`` wins, but for what is in ``despite``, too.
    """

    allowed: tuple[str, ...]
    denied: tuple[str, ...] = ()
    despite: tuple[str, ...] = ()


class Verdict(Struct, frozen=True):
    """An answer to "may this be done": True, False, or None for "not mine to say"."""

    allowed: bool | None
    reason: str = ""


class Judgement(Struct, frozen=True, kw_only=True):
    """What a `Verifier` found out about one signature; moments are in seconds since the epoch.

    ``reason`` says why it is not ``good``; the other fields are what is proven all the same. ``signer`` is the same
    text for everything that one signer has signed. ``fingerprint`` is the SHA-256 of the public key's
    SubjectPublicKeyInfo in lower-case hex, or what stands for that where there is none: two signatures of which either
    is the same are by one signer. ``key_id`` is the configuration's name of the key, None where a certificate says
    whose it is. ``algorithm`` is a name as policies have it. All of ``trust_stores`` vouch for the certificate, none is
    a key that is trusted by itself; for one that is ``self_signed`` nobody else vouches. ``signed_at`` is what the
    signer has signed, or a log proves; None where nobody says. After ``valid_until`` the answer may be another; None is
    never. ``warnings`` are what somebody stricter would have refused.
    """

    good: bool
    reason: str = ""
    signer: str | None = None
    key_id: str | None = None
    algorithm: str | None = None
    fingerprint: str | None = None
    trust_stores: tuple[str, ...] = ()
    self_signed: bool = False
    signed_at: float | None = None
    valid_until: float | None = None
    warnings: tuple[str, ...] = ()


class KeyInfo(Struct, frozen=True, kw_only=True):
    """A key that signs, or a key or an authority that is trusted, and until when: seconds since the epoch, or None.

    ``fingerprint`` is that of `Judgement` for what the key signs.
    """

    name: str
    kind: Literal["signing key", "verification key", "authority"]
    algorithm: str | None = None
    fingerprint: str | None = None
    expires_at: float | None = None


Action = Literal[
    "manifest.pull",
    "manifest.push",
    "manifest.delete",
    "tag.delete",
    "blob.pull",
    "blob.push",
    "blob.mount",
    "blob.delete",
]
"""What is done with content; a gate may be asked before each, and all but the pulls are events afterwards."""

ACTIONS: tuple[Action, ...] = get_args(Action)
"""Every action, in the order of a life: pulled, pushed, deleted."""


class Change(Struct, frozen=True, kw_only=True):
    """Something that is about to happen, or happened; what an action does not have is None or empty.

    ``digest`` is None only where a gate is asked about a tag that will be deleted. ``tags`` are those that are set or
    removed; for a pull, the tag that was asked for. ``size`` is in bytes. ``content`` has the bytes of a manifest that
    is pushed or pulled, for gates alone. ``source`` is the repository from which a blob is mounted. ``identity`` None
    is an anonymous sender.
    """

    action: Action
    repository: str
    digest: Digest | None = None
    tags: tuple[str, ...] = ()
    size: int | None = None
    media_type: str | None = None
    artifact_type: str | None = None
    subject: str | None = None
    source: str | None = None
    content: bytes | None = None
    identity: Identity | None = None


class Event(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A change that was committed. ``id`` grows with time, ``at`` is in seconds since the epoch, ``actor`` a name.

    The other fields are those of `Change`.
    """

    id: int
    at: float
    action: Action
    repository: str
    digest: str | None = None
    tags: tuple[str, ...] = ()
    size: int | None = None
    media_type: str | None = None
    artifact_type: str | None = None
    subject: str | None = None
    source: str | None = None
    actor: str | None = None


Severity = Literal["debug", "info", "warning", "error", "critical"]
"""How much an audit event matters, in ascending order."""


class AuditEvent(Struct, frozen=True, kw_only=True):
    """Something that was done, or refused, as an audit trail keeps it. It never holds a secret.

    ``type`` is a name such as ``ImagePushed`` or ``AuthenticationFailed``. ``identity`` None is somebody who is not
    known; ``username`` is then the name that was claimed, if any. ``resource_type`` is a name such as ``Repository``,
    ``resource_id`` says which. ``size`` is in bytes. ``parameters`` are JSON. From where it came, `asking` tells.
    """

    type: str
    severity: Severity = "info"
    success: bool = True
    reason: str | None = None
    identity: Identity | None = None
    username: str | None = None
    resource_type: str = "Registry"
    resource_id: str = ""
    tag: str | None = None
    digest: str | None = None
    size: int | None = None
    parameters: dict[str, Any] = {}
