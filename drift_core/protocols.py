"""What an opened driver can do: one small Protocol per family, and optional powers as Protocols of their own.

A method is never added to a published Protocol. A new power is a new Protocol, looked for with `isinstance` once, when
the driver is opened. Every method may be called by many tasks at once unless it says otherwise.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, Literal, NewType, Protocol, TypeVar, runtime_checkable

from msgspec import Struct
from prometheus_client import CollectorRegistry
from structlog.typing import FilteringBoundLogger

from drift_core.model import (
    Action,
    AuditEvent,
    BlobStat,
    Change,
    Descriptor,
    Digest,
    Event,
    Identity,
    Judgement,
    KeyInfo,
    Scope,
    Verdict,
    Visible,
)
from drift_core.pages import Figure, Page

T = TypeVar("T")

UploadId = NewType("UploadId", str)
"""Names an upload for its whole life, on every node; made by the store, safe in a URL."""

OpenedT_co = TypeVar("OpenedT_co", covariant=True)

AsgiApp = Callable[[Any, Any, Any], Awaitable[None]]
"""An ASGI 3 application."""


class ServerSettings(Struct, frozen=True):
    """What a transport needs of ``[server]`` and ``[tls]``; ``drain_seconds`` bounds the drain after a stop.

    With ``client_ca_file`` clients may show a certificate that one of these authorities has signed; others are refused.
    The process is ``worker``, counted from 0, of the ``workers`` that serve this transport beside each other.
    """

    bind_addr: str
    max_connections: int
    drain_seconds: float
    cert_file: str | None = None
    key_file: str | None = None
    client_ca_file: str | None = None
    worker: int = 0
    workers: int = 1


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


class Credentials(Struct, frozen=True):
    """What a request says about its sender, and what it asks for.

    ``headers`` has lower-case names, ``authorization`` may be None. ``client_address`` is that of the client, which a
    trusted proxy may have said; so is ``scheme``, http or https. ``certificate`` is the client's, in PEM, where the
    transport has verified one. ``request_id`` is that of the log. Its text never shows a header.
    """

    authorization: str | None
    headers: Sequence[tuple[str, str]]
    client_address: str
    method: str = "GET"
    path: str = "/"
    scheme: str = "http"
    certificate: str | None = None
    request_id: str = ""

    def header(self, name: str) -> str | None:
        """Returns the first value of a header, by its lower-case name, or None."""
        return next((value for known, value in self.headers if known == name), None)

    def __repr__(self) -> str:
        return f"Credentials({self.method} {self.path} from {self.client_address})"


class Access(Protocol):
    """Who asks, and what they may do, by the configured authenticators and policies; usable once the server serves."""

    async def identify(self, credentials: Credentials) -> Identity | None:
        """Returns who asks, None for nobody in particular. Raises `Unauthorized` for bad credentials."""
        ...

    async def admit(self, credentials: Credentials, scopes: Sequence[Scope]) -> Identity | None:
        """Returns who asks, if all of ``scopes`` are allowed. Raises `Unauthorized` or `Denied`."""
        ...

    async def verdicts(self, identity: Identity | None, scopes: Sequence[Scope]) -> list[bool]:
        """Returns for each scope, in order, whether ``identity`` may use it."""
        ...

    async def visible(self, identity: Identity | None) -> Sequence[Visible] | None:
        """Returns what each policy lets ``identity`` pull, so that a list is filtered within its query.

        A repository has to be within what one of them allows, and none of them denies it. None is where everything may
        be pulled, or only `verdicts` say what.
        """
        ...


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
class BlobStore(Protocol):
    """Keeps bytes by digest, and uploads that are not yet blobs. It knows no repositories: the core does.

    Whatever else goes wrong, a method raises `Unavailable`, or `StorageFull` where there is no space.
    """

    async def stat(self, digest: Digest) -> BlobStat:
        """Returns size and time of a committed blob. Raises `BlobUnknown`."""
        ...

    def read(self, digest: Digest, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        """Yields the bytes ``[start, stop)``; ``stop`` None means to the end.

        Raises `BlobUnknown` before the first chunk. A blob that is deleted meanwhile is still read whole, or the
        iteration raises; it never ends short.
        """
        ...

    async def begin(self, algorithm: str = "sha256") -> UploadId:
        """Begins an empty upload; ``algorithm`` is a hint which digest will be asked for."""
        ...

    async def received(self, upload: UploadId) -> int:
        """Returns how many bytes the upload holds. Raises `UploadUnknown`."""
        ...

    async def append(self, upload: UploadId, offset: int | None, chunks: AsyncIterable[bytes]) -> int:
        """Appends the chunks at ``offset`` (None: at the end) and returns the bytes now held.

        What arrived before ``chunks`` raised, or before the task was cancelled, stays.

        Raises:
            UploadUnknown: there is no such upload.
            OffsetMismatch: ``offset`` is not where the upload ends; nothing was written.
            UploadBusy: another task or process is appending.
        """
        ...

    async def commit(self, upload: UploadId, digest: Digest) -> BlobStat:
        """Makes the upload the blob ``digest``: atomic, and durable before it returns. The upload is then gone.

        A blob that exists already is replaced by the same bytes, which mends a damaged one. Raises `UploadUnknown`;
        `UploadBusy`; `DigestInvalid` where the bytes have another digest, and the upload is kept.
        """
        ...

    async def abort(self, upload: UploadId) -> None:
        """Forgets an upload; one that is unknown is no error."""
        ...

    async def delete(self, digest: Digest) -> None:
        """Removes a blob; one that is unknown is no error."""
        ...

    def scan(self, after: Digest | None = None) -> AsyncIterator[BlobStat]:
        """Yields every committed blob in ascending order of digest, beginning behind ``after``."""
        ...

    async def check(self) -> None:
        """Proves that bytes can be written and read now; raises `Unavailable` with the reason."""
        ...


@runtime_checkable
class SupportsLocalPath(Protocol):
    """A store some or all of whose blobs are plain files, which a transport sends without Python touching the bytes."""

    def local_path(self, digest: Digest) -> str:
        """Returns the absolute path at which the blob lies if it exists, and is a file; waits for no disk.

        Whoever is to send it looks there. Where no file of the blob's size is, it is read by `BlobStore.read` instead.
        """
        ...


@runtime_checkable
class SupportsStored(Protocol):
    """A store that reads from copies where there are some, and by whose reads nobody sees what is really kept."""

    def stored(self, digest: Digest) -> AsyncIterator[bytes]:
        """Yields a whole blob as it is kept, whatever copies there are; else like `BlobStore.read`.

        For who looks after what is kept, such as a scrub, and must find what is damaged. It makes no copies either.
        """
        ...


@runtime_checkable
class SupportsRedirect(Protocol):
    """A store that can hand out a URL from which the client fetches the bytes itself."""

    async def redirect(self, digest: Digest, method: str, client_address: str) -> str | None:
        """Returns a URL for ``method`` (GET or HEAD) that expires by itself, or None to stream instead."""
        ...


class Encoded(Struct, frozen=True):
    """A blob in a content coding (RFC 9110 section 8.4.1): ``size`` is that of all ``chunks``, in bytes."""

    coding: str
    size: int
    chunks: AsyncIterator[bytes]


@runtime_checkable
class SupportsEncoded(Protocol):
    """A store that keeps some blobs in a content coding, and can give them out as they are kept."""

    async def encoded(self, digest: Digest, accepted: Collection[str]) -> Encoded | None:
        """Returns a blob in one of the codings that a client accepts, or None for one that is not kept so."""
        ...


class References(Struct, frozen=True):
    """What a manifest names: blobs and other manifests, each with the size in bytes that it states, and its subject.

    Layers that may lie elsewhere (image specification, "Non-Distributable Layers") are not among them.
    """

    media_type: str
    blobs: dict[Digest, int]
    children: dict[Digest, int]
    subject: str | None


class Tag(Struct, frozen=True):
    """A tag and the manifest that it names; times in seconds since the epoch.

    ``tagged_at`` is when it was last pointed at another manifest, ``pushed_at`` when the repository got this one.
    ``undeletable`` is the rule of ``[registry]`` that forbids to delete the tag, such as
    ``registry.immutable_tags: release``, or None; a gate may forbid it all the same.
    """

    name: str
    digest: Digest
    tagged_at: float
    pushed_at: float
    undeletable: str | None = None


class Quarantined(Struct, frozen=True):
    """A blob in quarantine; ``since`` in seconds since the epoch."""

    digest: Digest
    since: float
    reason: str


class LocalRegistry(Protocol):
    """The registry itself, as a command has opened it, see `open_registry`, or lent to work beside requests.

    What is pushed is what a client would push: the rules of ``[registry]`` and the gates may refuse it, subscribers are
    told of it, and the audit trail keeps it. Any method may raise `Unavailable`. ``max_manifest_size`` is in bytes.
    """

    max_manifest_size: int

    def on_behalf(self, identity: Identity | None) -> "LocalRegistry":
        """Returns the same registry, in which everything is done as ``identity``: who asks, None being nobody known.

        Gates are asked about them, as if they pulled or pushed themselves. No policy is: that is up to the caller.
        """
        ...

    async def examine(self, content: bytes, media_type: str | None, digest: Digest) -> References:
        """Returns what a manifest names; ``media_type`` None is the one that its content states.

        Raises the registry's error for a manifest that a push of it would meet, such as MANIFEST_INVALID.
        """
        ...

    async def held_blobs(self, repository: str, digests: Collection[Digest]) -> set[str]:
        """Returns those of ``digests`` that the repository holds as blobs."""
        ...

    async def held_manifests(self, repository: str, digests: Collection[Digest]) -> set[str]:
        """Returns those of ``digests`` that the repository holds as manifests."""
        ...

    async def tagged(self, repository: str, tags: Collection[str]) -> dict[str, Digest]:
        """Returns what each of at most 500 ``tags`` names, without those that there are not."""
        ...

    async def is_known(self, digest: Digest) -> bool:
        """Returns whether any repository holds a blob, so that `mount_blob` would find it."""
        ...

    async def mount_blob(self, repository: str, digest: Digest) -> bool:
        """Makes the repository hold a blob that another one holds, without a copy; False where none does.

        Raises `Denied`, or another error of a gate.
        """
        ...

    async def push_blob(self, repository: str, digest: Digest, chunks: AsyncIterable[bytes]) -> None:
        """Makes the bytes a blob of the repository; it is durable when this returns.

        Raises `DigestInvalid` where the bytes have another digest; `UploadInvalid` where they are more than
        ``max_upload_size_mb``; `Denied`, or another error of a gate; and what ``chunks`` raises. Nothing is then kept.
        """
        ...

    async def push_manifest(
        self,
        repository: str,
        content: bytes,
        media_type: str | None,
        digest: Digest,
        tags: Sequence[str],
        *,
        instead_of: Digest | None = None,
    ) -> None:
        """Makes the repository hold a manifest and points ``tags`` at it, in one transaction.

        What it names has to be there. With ``instead_of`` nothing is changed where one of the tags does not name that.
        Raises what a push of it would meet: `DigestInvalid`, `Denied` where a tag is immutable, the registry's error of
        status 412, and others.
        """
        ...

    def repositories(self) -> AsyncIterator[str]:
        """Yields the name of every repository, in binary order."""
        ...

    def tags(self, repository: str) -> AsyncIterator[Tag]:
        """Yields every tag, in binary order."""
        ...

    def unnamed_manifests(self, repository: str) -> AsyncIterator[Digest]:
        """Yields every manifest that no tag and no index of the repository names, such as a signature."""
        ...

    def referrers(self, repository: str, subject: Digest) -> AsyncIterator[Descriptor]:
        """Yields every manifest whose subject is ``subject``."""
        ...

    async def manifest(self, repository: str, reference: Digest | str) -> tuple[str, bytes]:
        """Returns media type and content of a manifest, by `Digest` or by tag.

        Raises the registry's MANIFEST_UNKNOWN, or a gate's error.
        """
        ...

    async def is_verified(self, repository: str, reference: str) -> bool:
        """Returns whether the signatures of a manifest, by tag or digest, are what the repository's policy asks for.

        That is ``[signing.verification_policy]``, also where it is not required for pulls. False where nobody judges
        signatures. Raises MANIFEST_UNKNOWN.
        """
        ...

    def blob(self, repository: str, digest: Digest) -> AsyncIterator[bytes]:
        """Yields the bytes of a blob. Raises `BlobUnknown`, also within; never ends short; or a gate's error."""
        ...

    async def delete_tag(self, repository: str, tag: str, digest: Digest) -> None:
        """Removes a tag that still names ``digest``, and keeps its manifest.

        Raises what a client would meet: `Denied` where the tag is immutable, or by a gate; the registry's
        PRECONDITION_FAILED where the tag names another manifest by now, and MANIFEST_UNKNOWN where it is gone.
        """
        ...

    def stored_blobs(self, after: Digest | None = None) -> AsyncIterator[BlobStat]:
        """Yields every blob that is recorded, of whichever repository, in order of digest, behind ``after``.

        Not those in quarantine. ``modified`` is when it was first pushed.
        """
        ...

    def stored_bytes(self, digest: Digest) -> AsyncIterator[bytes]:
        """Yields the bytes that the store keeps for a blob, unchecked. Raises `BlobUnknown`."""
        ...

    async def quarantine(self, digest: Digest, reason: str) -> None:
        """Lets no repository give out a blob whose bytes are not its own any more, until somebody pushes it again.

        To clients it is unknown, so that they push it; every repository that held it then holds it again.
        """
        ...

    def quarantined(self) -> AsyncIterator[Quarantined]:
        """Yields every blob in quarantine, in order of digest."""
        ...


@runtime_checkable
class Authenticator(Protocol):
    """Finds out who sends a request. Fails closed: an exception refuses the request."""

    async def authenticate(self, credentials: Credentials) -> Identity | None:
        """Returns the identity, or None for "not mine, ask the next".

        Raises `Unauthorized` for "mine, and bad": nobody else is asked.
        """
        ...

    def challenge(self, scopes: Sequence[Scope]) -> str | None:
        """Returns the value of WWW-Authenticate that leads a client here (RFC 9110 section 11.6.1), or None."""
        ...


@runtime_checkable
class SupportsStanding(Protocol):
    """An authenticator that can be asked whether somebody whom it has let in may still log in. Fails closed.

    Whoever keeps a login of its own, such as the console, asks with every request: it costs no more than `authenticate`
    does for somebody who is known.
    """

    async def stands(self, identity: Identity, credentials: Credentials) -> bool | None:
        """Returns whether ``identity`` may still log in, None for "not one of mine".

        ``credentials`` are those of the request that is made now: they prove nobody, but may have the cookie of a
        login. Raises `Unavailable` where it cannot be said.
        """
        ...


@runtime_checkable
class Authorizer(Protocol):
    """Decides what an identity may do. Fails closed: an exception refuses the request."""

    async def decide(self, identity: Identity | None, scopes: Sequence[Scope]) -> Sequence[Verdict]:
        """Returns one verdict per scope, in order; None of ``allowed`` is "not mine to say".

        Any False denies; else any True allows; else the request is denied. A page of the catalogue is one call.
        ``identity`` None is an anonymous request.
        """
        ...


@runtime_checkable
class SupportsVisibility(Protocol):
    """An authorizer that says beforehand what may be pulled, so that the catalogue is filtered within its query.

    Where one of the policies does not, names are looked through page by page. The verdicts still decide.
    """

    async def visible(self, identity: Identity | None) -> Visible:
        """Returns the repositories for which `Authorizer.decide` would allow, or deny, a pull at this moment."""
        ...


class Signature(Struct, frozen=True):
    """An artifact to store: the manifest, its blobs, and the tag beside it where the format wants one."""

    media_type: str
    manifest: bytes
    blobs: tuple[bytes, ...] = ()
    tag: str | None = None


@runtime_checkable
class Signer(Protocol):
    """Makes signatures in one format. An exception fails the request that asked for the signature.

    ``files`` are those that were read when it was opened: when one of them changes, it is opened anew.
    """

    files: Sequence[str]

    def keys(self) -> Sequence[KeyInfo]:
        """Returns the keys by which it can sign."""
        ...

    async def sign(
        self,
        repository: str,
        subject: Descriptor,
        key_id: str,
        *,
        annotations: Mapping[str, str] = {},
        tagged: Mapping[str, bytes] = {},
    ) -> Sequence[Signature]:
        """Returns what has to be pushed so that the format's own clients find the signature.

        ``annotations`` are signed, too; a format that has none refuses them. ``tagged`` are the manifests of the tags
        that stand for referrers of the subject: a format that has all signatures under one tag adds to that manifest.

        Raises:
            Denied: there is no such key, or it is not good now; or the format cannot do this.
        """
        ...


@runtime_checkable
class Verifier(Protocol):
    """Judges signatures of one format. A bad signature is an answer with a reason, not an exception.

    ``files`` are those that were read when it was opened: when one of them changes, it is opened anew, and what was
    judged before counts no more. ``media_types`` are those of layers and configurations that only signatures have: a
    manifest of nothing else may be read before what it signs may be pulled.
    """

    files: Sequence[str]
    media_types: Collection[str]

    def keys(self) -> Sequence[KeyInfo]:
        """Returns the keys and the authorities that are trusted."""
        ...

    def claims(self, media_type: str, manifest: bytes) -> bool:
        """Says whether a manifest is one of this format, good or not; asked before its blobs are read."""
        ...

    async def judge(self, repository: str, subject: Descriptor, signature: Signature) -> Sequence[Judgement]:
        """Returns a judgement for each signature in an artifact, in its order; none where it is of another format.

        ``signature`` has those of the blobs that the manifest names which are there and not too large.

        Raises:
            Unavailable: what is trusted cannot be reached now.
        """
        ...


@runtime_checkable
class SupportsExchange(Protocol):
    """A verifier whose clients bring and fetch bare signatures, by the signatures extension of the Docker API.

    They are stored as artifacts like all others: `Verifier.claims` is to say so of what `wrap` returns.
    """

    def wrap(self, subject: Descriptor, content: bytes) -> Signature:
        """Returns the artifact in which a signature of ``subject`` is stored.

        Raises:
            Denied: it is none, or too large.
        """
        ...

    def unwrap(self, signature: Signature) -> Sequence[bytes]:
        """Returns the signatures of an artifact as a client has brought them; none of what it has not wrapped."""
        ...


@runtime_checkable
class Transport(Protocol):
    """Carries requests to the application. Its failure stops the server."""

    async def serve(self, app: AsgiApp, ready: Callable[[], None]) -> None:
        """Serves until cancelled, then lets running requests end within the drain time, and returns.

        Calls ``ready`` once, when connections are accepted. Raises `StartError` where it cannot listen.
        """
        ...


class Sink(Protocol):
    """Where an optimizer writes the new form, which is stored under its digest if a descriptor is returned."""

    async def write(self, chunk: bytes) -> None:
        """Appends ``chunk``, one call at a time, and returns when there is room for more.

        Raises `Unavailable`, or `StorageFull` where there is no space.
        """
        ...


@runtime_checkable
class Optimizer(Protocol):
    """Makes a better form beside a blob, never in its place. Its failure keeps the original.

    The same layer gives the same form. A tar stays the same tar, byte for byte: only how it is compressed may differ.
    """

    async def optimize(self, layer: Descriptor, content: AsyncIterator[bytes], sink: Sink) -> Descriptor | None:
        """Writes the new form into ``sink`` and returns its descriptor, which has all of the layer's annotations.

        Returns None where it declines the media type or gains nothing, or where ``content`` is damaged or not what
        ``layer`` says; what was written is then dropped. Memory is bounded by constants, whatever the layer unpacks to.

        Raises `RegistryError` instead of None to give a reason, and lets out what ``content`` and ``sink`` raise.
        """
        ...


class Removal(Struct, frozen=True):
    """One thing that a collection removed, or would remove; ``size`` in bytes."""

    digest: Digest
    size: int
    reason: str
    kind: Literal["blob", "manifest"]
    repository: str


class Candidate(Struct, frozen=True):
    """Something that nothing in the records reaches: a manifest of a repository, or a blob's place in one.

    ``size`` is in bytes, ``unreached_since`` in seconds since the epoch.
    """

    kind: Literal["blob", "manifest"]
    repository: str
    digest: Digest
    size: int
    unreached_since: float


class Contents(Protocol):
    """What the core lends to a collector for one run.

    Tags reach manifests; those reach their parts, and the artifacts whose subject they are. An upload in flight leases
    what it will need. What is pushed reaches its parts anew, so that they are never longer unreached than it is.
    """

    async def total(self, at_most: int) -> int:
        """Returns how many manifests and blobs the repositories hold, of which a run may be too large a share.

        It is not counted further than ``at_most``.
        """
        ...

    def unreached(self, before: float) -> AsyncIterator[Candidate]:
        """Yields what nothing has reached since ``before``, a manifest before its parts.

        To ask costs as much as there is of it, not as there is in the registry.
        """
        ...

    async def remove(self, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        """Removes some, in their order and in one transaction, and returns those that it removed.

        Not those that are gone, or were reached, leased or pushed again meanwhile, or are part of a manifest that is
        still there.
        """
        ...


@runtime_checkable
class SupportsRoots(Protocol):
    """A feature that needs content kept which no tag reaches. Fails closed: an exception aborts the collection."""

    def roots(self) -> AsyncIterator[Digest]:
        """Yields every digest that has to stay; where that is a manifest, also its parts."""
        ...


@runtime_checkable
class Collector(Protocol):
    """Removes what nothing reaches, and has not for the time of grace in its configuration."""

    def collect(self, contents: Contents, roots: Sequence[SupportsRoots], *, dry_run: bool) -> AsyncIterator[Removal]:
        """Yields each removal after it happened; in a dry run, the same where nothing changes meanwhile.

        Asks all of ``roots`` before it removes anything, and lets out what one of them raises.
        """
        ...


@runtime_checkable
class SupportsSchedule(Protocol):
    """A collector that the server runs by itself, on one node at a time: every ``interval`` seconds.

    In such runs nothing is removed where ``dry_run`` says so, nor in the first one ever where ``dry_first`` does.
    """

    interval: float
    dry_run: bool
    dry_first: bool


@runtime_checkable
class Feature(Protocol):
    """Adds to the whole by the optional powers that it also has, such as `SupportsRoutes`.

    An authenticator or an authorizer may have the powers of a feature, too.
    """

    name: str


@runtime_checkable
class SupportsRoutes(Protocol):
    """A feature that answers requests of its own, behind the same authentication as the registry."""

    def routes(self) -> Sequence[Any]:
        """Returns Litestar route handlers, routers or controllers; called once, when the application is built.

        A handler needs the scope ``opt["scope"]``: a `Scope`, or a function that makes one of the path's parameters (a
        dict), or None, which is whoever has logged in; else `registry:*:*`. One with ``opt["public"] = True`` asks
        nobody. The request's ``auth`` is its `Credentials`, and ``user`` the `Identity`, which is None where nobody is
        known. Below ``/v2`` only paths that the distribution specification leaves free may be taken, such as
        ``/v2/features``.

        `/schema` shows the routes with their docstrings, parameters, and the types of ``data`` and of what is returned.
        Where these say nothing, ``opt["body"]``, ``opt["query"]`` (a Struct of its parameters), ``opt["answers"]``, and
        ``opt["errors"]``, for a route whose errors have another form than that of the core, are shown. Each is a type,
        which is that of JSON, or a dict of types by media type; ``bytes`` is content that no type shows.
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


class Call(Struct, frozen=True):
    """A question to an opened driver, as an observer is told of it.

    ``asked`` is what it is asked as: ``authn``, ``authz``, ``gate``, ``subscriber`` or ``storage``; ``method`` is that
    of its Protocol. ``about`` says more, such as ``action``, ``repository`` or ``digest``, and no secrets. What is
    yielded bit by bit is a ``stream``: it begins with the first, and may end in another task.
    """

    asked: str
    plugin: str
    method: str
    about: Mapping[str, str] = {}
    stream: bool = False


class Observation(Protocol):
    """What an observer made of something that has begun; ``fields`` of a request are in its lines of the log."""

    @property
    def fields(self) -> Mapping[str, str]:
        """Names and values, read once."""
        ...

    def end(self, error: BaseException | None, status: int | None = None, route: str = "") -> None:
        """Is told once how it ended: with the exception that came out, or None.

        Of a request, ``status`` is that of its answer, None where it got none, and ``route`` the form of its path, such
        as ``/v2/{name}/blobs/{digest}``, or "" for a path that nobody knows.
        """
        ...


@runtime_checkable
class SupportsObserving(Protocol):
    """A feature that is told when requests, and questions to drivers, begin and end. Fails open.

    What it raises is logged and counted. It is told in the task that does it, before and after, and must not wait. A
    file that the server sends by itself is no question to the store.
    """

    def observe_request(self, scope: Any, client_address: str) -> Observation:
        """Is told that a request begins: its ASGI scope, and the client's address, as a trusted proxy may say it."""
        ...

    def observe_call(self, call: Call) -> Observation:
        """Is told that a question to a driver begins."""
        ...


@runtime_checkable
class SupportsHeaders(Protocol):
    """A feature that says something in every answer, such as where else the server can be reached."""

    @property
    def headers(self) -> Sequence[tuple[bytes, bytes]]:
        """Names in lower case, and values; asked once, when the application is built."""
        ...


@runtime_checkable
class SupportsPages(Protocol):
    """A feature that adds pages to the console, if one is installed. Fails open: the others are shown all the same."""

    def pages(self) -> Sequence[Page]:
        """Returns the pages; called once, when the console is built."""
        ...


@runtime_checkable
class SupportsFigures(Protocol):
    """A feature that adds numbers to the first page of the console. Fails open: the others are shown all the same."""

    async def figures(self) -> Sequence[Figure]:
        """Returns a few, for whoever may do everything; what they cost must not grow with what they count."""
        ...


class Login(Struct, frozen=True):
    """A way to log in elsewhere: what the button says, and the path of a route that begins it.

    The path takes a query ``next``: a path of the same server to which the browser is sent back.
    """

    label: str
    path: str


@runtime_checkable
class SupportsLogins(Protocol):
    """A feature by which browsers log in, such as an authenticator; its routes below ``/auth/`` are served there, too.

    Afterwards `Access.identify` knows the browser by a cookie.
    """

    @property
    def logins(self) -> Sequence[Login]:
        """The buttons; asked once, when the console is built."""
        ...


@runtime_checkable
class SupportsLogout(Protocol):
    """A feature by which browsers log in, and which ends that again, for whoever keeps a login of its own beside it."""

    async def log_out(self, credentials: Credentials) -> Sequence[tuple[str, str]]:
        """Ends the login that a cookie of the request proves, and returns the headers by which the browser forgets it.

        Nothing, where there is no such cookie. Raises `Unavailable` where it cannot be ended now.
        """
        ...

    async def log_out_everywhere(self, identity: Identity) -> None:
        """Ends every login by a browser of somebody; of whom it does not know, none. Raises `Unavailable`."""
        ...


class Console(Struct, frozen=True):
    """What the core hands to whoever serves browsers.

    ``pages`` are those of the core and of every feature. ``attempt`` counts somebody who tries to log in, ``visit`` a
    request, of an identity or else of its address, in the limits of ``[registry]``; both raise `TooManyRequests`.
    ``failed`` is told the plugin of a page that could not be shown, and why. ``figures`` are those of every
    `SupportsFigures`.

    ``stands`` says whether somebody who has logged in before may still log in, as `SupportsStanding` does; who is known
    to none of these stands. ``log_out`` and ``log_out_everywhere`` do what every `SupportsLogout` does, so that nobody
    who has left is let in again by another login. ``stopping`` is set when the server begins to drain: an answer that
    would go on for ever has to end then.
    """

    pages: Sequence[Page]
    logins: Sequence[Login]
    attempt: Callable[[Credentials], Awaitable[None]]
    visit: Callable[[Credentials, Identity | None], Awaitable[None]]
    failed: Callable[[Page, Exception], None]
    stands: Callable[[Identity, Credentials], Awaitable[bool]]
    log_out: Callable[[Credentials], Awaitable[Sequence[tuple[str, str]]]]
    log_out_everywhere: Callable[[Identity], Awaitable[None]]
    figures: Callable[[], Awaitable[Sequence[Figure]]]
    stopping: asyncio.Event


@runtime_checkable
class SupportsSite(Protocol):
    """A feature that serves browsers on ``[server] ui_addr``: the console. Its driver says ``site``."""

    def site(self, console: Console) -> AsgiApp:
        """Returns what is served there; called once, when the server starts.

        The ``auth`` of a request's scope is its `Credentials`. The core has logged the request, and bounds nothing.
        """
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


@runtime_checkable
class SupportsRegistry(Protocol):
    """A feature that uses the registry in its routes."""

    def use(self, registry: LocalRegistry) -> None:
        """Takes the registry, with which it does everything in the name of the plugin.

        Called once, when everything is open and nobody was served yet.
        """
        ...


@runtime_checkable
class SupportsBackground(Protocol):
    """A feature with work beside requests, which one process of all that share the database does. Fails open.

    A store may have this power, too.
    """

    async def work(self, registry: LocalRegistry) -> None:
        """Works until cancelled; what it does with ``registry`` is done in the name of the plugin.

        What it raises is logged, and it begins again after a rest. For a moment two processes may be at it.
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


class Services(Struct, frozen=True):
    """What the core lends to a driver while it is open. ``log`` already names the plugin.

    What is registered in ``metrics`` is measured for the plugin; a name that another has raises ValueError. Reading
    fails open: what a collector raises is logged and counted. ``all_metrics`` has those of the core and of every
    plugin in this process, for whoever serves them. ``records`` are for a driver that has ``migrations``; for others
    they raise `StartError`. ``access`` is for routes that have to know who asks before they know what is needed.
    ``serving`` is False where a command has opened the driver: nothing that goes on beside requests belongs there.
    ``beneath`` is the store around which a driver of ``[storage] layers`` lies, None for any other. ``optimizers`` are
    those that are open, by name, for a feature that runs them.
    """

    plugin: str
    log: FilteringBoundLogger
    server: ServerSettings
    metrics: CollectorRegistry
    all_metrics: CollectorRegistry
    records: Records
    access: Access
    audit: Audit
    serving: bool = True
    beneath: BlobStore | None = None
    optimizers: Mapping[str, Optimizer] = {}


class Driver(Struct, Generic[OpenedT_co], frozen=True):
    """One named thing that a plugin offers; the operator picks it by ``name`` in the configuration.

    ``config`` is the Struct (``forbid_unknown_fields=True``) that its table is read into. ``open`` gets that Struct
    and the services; heavy imports belong inside it. A Struct with a field ``enabled`` that is false is not opened.

    ``migrations`` names a package of Alembic revisions, such as ``drift_audit.migrations``, which make the tables of
    the plugin, one history for all of its drivers. They run before the server starts; None is a plugin without tables.
    A store that is a ``layer`` lies around another one, which it is lent as `Services.beneath`; only such a one may.

    ``processes`` says for the table of a transport in how many processes of its own it is served, where another in the
    same loop would suffer from it; 0, or no such function: in every worker. Each of them builds the same application.
    A transport with an address of its own reads it from ``bind_addr``: without logins it must be one of this machine.
    What a feature with ``site`` has is served on ``[server] ui_addr``, see `SupportsSite`; at most one is chosen.
    """

    name: str
    config: type[Struct]
    open: Callable[[Any, Services], AbstractAsyncContextManager[OpenedT_co]]
    migrations: str | None = None
    layer: bool = False
    processes: Callable[[Any], int] | None = None
    site: bool = False
