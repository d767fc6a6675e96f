"""Tells observers when requests, and questions to drivers, begin and end; where nobody observes, nothing is wrapped."""

from collections.abc import AsyncIterable, AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import msgspec
import structlog

from drift_core.metrics import Metrics
from drift_core.model import BlobStat, Change, Digest, Event, Identity, Owner, Scope, Verdict, Visible
from drift_core.protocols.access import (
    Authenticator,
    Authorizer,
    Credentials,
    SupportsAccounts,
    SupportsStanding,
    SupportsVisibility,
)
from drift_core.protocols.changes import Gate, Subscriber
from drift_core.protocols.observing import Call, Observation, SupportsObserving
from drift_core.protocols.storage import (
    BlobStore,
    Encoded,
    SupportsEncoded,
    SupportsLocalPath,
    SupportsRedirect,
    SupportsStored,
    UploadId,
)
from drift_core.registry.changes import NamedGate, Remembering
from drift_core.registry.delivery import NamedSubscriber


class Observers:
    """Every observer with its plugin's name. Fails open: what one raises is logged and counted, and nobody else's."""

    def __init__(self, named: Sequence[tuple[str, SupportsObserving]], metrics: Metrics) -> None:
        self._named = tuple(named)
        self._metrics = metrics

    def __bool__(self) -> bool:
        return bool(self._named)

    def request(self, scope: Any, client_address: str) -> "Begun":
        """Says that a request has begun, with its ASGI scope."""
        return self._begin(lambda observer: observer.observe_request(scope, client_address))

    def call(self, call: Call) -> "Begun":
        """Says that a question to a driver has begun."""
        return self._begin(lambda observer: observer.observe_call(call))

    @contextmanager
    def during(self, call: Call) -> Iterator[None]:
        """Says that a question begins, and how it ended."""
        begun, failure = self.call(call), None
        try:
            yield
        except BaseException as error:
            failure = error
            raise
        finally:
            begun.end(failure)

    async def through(self, call: Call, chunks: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """Yields the same; the question is asked with the first, and ends with the last."""
        begun, failure = self.call(call), None
        try:
            async for chunk in chunks:
                yield chunk
        except BaseException as error:
            failure = error
            raise
        finally:
            begun.end(failure)
            close = getattr(chunks, "aclose", None)
            if close is not None:
                await close()

    def failed(self, plugin: str, error: Exception) -> None:
        """Notes that an observer failed."""
        self._metrics.work_failures.labels(plugin).inc()
        log = structlog.get_logger("drift.observing", plugin=plugin)
        log.warning("an observer failed", error=f"{type(error).__name__}: {error}", exc_info=error)

    def _begin(self, observe: Callable[[SupportsObserving], Observation]) -> "Begun":
        found: list[tuple[str, Observation]] = []
        for plugin, observer in self._named:
            try:
                found.append((plugin, observe(observer)))
            except Exception as error:  # noqa: BLE001 - whatever a plugin raises, the request goes on
                self.failed(plugin, error)
        return Begun(self, found)

    # What is wrapped; each method returns what it gets where nobody observes.

    def store(self, plugin: str, store: BlobStore) -> BlobStore:
        """Returns a store whose every call is told, with the same optional powers."""
        if not self:
            return store
        powers = {
            SupportsLocalPath: _LocalPath,
            SupportsStored: _Stored,
            SupportsRedirect: _Redirect,
            SupportsEncoded: _Encoded,
        }
        made = _made(_Store, [kind for power, kind in powers.items() if isinstance(store, power)])
        return cast("BlobStore", made(self, plugin, store))

    def authenticators(self, named: Sequence[tuple[str, Authenticator]]) -> list[Authenticator]:
        """Returns authenticators of which every question is told, with the same optional powers."""
        return [self._authenticator(plugin, one) if self else one for plugin, one in named]

    def authorizers(self, named: Sequence[tuple[str, Authorizer]]) -> list[Authorizer]:
        """Returns policies of which every question is told, with the same optional powers."""
        return [self._authorizer(plugin, one) if self else one for plugin, one in named]

    def gates(self, gates: Sequence[NamedGate]) -> list[NamedGate]:
        """Returns gates of which every question is told; what one remembers is no question."""
        return [msgspec.structs.replace(one, gate=self._gate(one)) if self else one for one in gates]

    def subscribers(self, subscribers: Sequence[NamedSubscriber]) -> list[NamedSubscriber]:
        """Returns subscribers of which every event that they are told is told."""
        return [
            msgspec.structs.replace(one, subscriber=_Subscriber(self, one.plugin, one.subscriber)) if self else one
            for one in subscribers
        ]

    def _authenticator(self, plugin: str, authenticator: Authenticator) -> Authenticator:
        powers: dict[type[Any], type[Any]] = {SupportsStanding: _Standing, SupportsAccounts: _Accounts}
        made = _made(_Authenticator, [kind for power, kind in powers.items() if isinstance(authenticator, power)])
        return cast("Authenticator", made(self, plugin, authenticator))

    def _authorizer(self, plugin: str, policy: Authorizer) -> Authorizer:
        powers = [_Visibility] if isinstance(policy, SupportsVisibility) else []
        return cast("Authorizer", _made(_Authorizer, powers)(self, plugin, policy))

    def _gate(self, named: NamedGate) -> Gate:
        powers = [_Memory] if isinstance(named.gate, Remembering) else []
        return cast("Gate", _made(_Gate, powers)(self, named.plugin, named.gate))


class Begun:
    """What every observer made of something that has begun."""

    __slots__ = ("_found", "_observers")

    def __init__(self, observers: Observers, found: Sequence[tuple[str, Observation]]) -> None:
        self._observers = observers
        self._found = found

    @property
    def fields(self) -> Mapping[str, str]:
        """What lines of the log have until it ends."""
        return {name: value for _, one in self._found for name, value in one.fields.items()}

    def end(self, error: BaseException | None, status: int | None = None, route: str = "") -> None:
        """Says that it ended; see `Observation`."""
        for plugin, one in reversed(self._found):
            try:
                one.end(error, status, route)
            except Exception as failure:  # noqa: BLE001 - whatever a plugin raises, the request goes on
                self._observers.failed(plugin, failure)


def _made(kind: type[Any], powers: Sequence[type[Any]]) -> type[Any]:
    """Returns the class that has some powers, which are looked for by `isinstance`."""
    return type(kind.__name__, (*powers, kind), {}) if powers else kind


class _Observed:
    """A driver, and who is told of the questions to it."""

    asked = ""

    def __init__(self, observers: Observers, plugin: str, driver: Any) -> None:
        self._observers = observers
        self._plugin = plugin
        self._driver = driver

    def _call(self, method: str, *, stream: bool = False, **about: str) -> Call:
        return Call(self.asked, self._plugin, method, about, stream)


class _Store(_Observed):
    """See `BlobStore`."""

    asked = "storage"
    _driver: BlobStore

    async def stat(self, digest: Digest) -> BlobStat:
        with self._observers.during(self._call("stat", digest=digest)):
            return await self._driver.stat(digest)

    def read(self, digest: Digest, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        call = self._call("read", stream=True, digest=digest)
        return self._observers.through(call, self._driver.read(digest, start, stop))

    async def begin(self, algorithm: str = "sha256") -> UploadId:
        with self._observers.during(self._call("begin")):
            return await self._driver.begin(algorithm)

    async def received(self, upload: UploadId) -> int:
        with self._observers.during(self._call("received")):
            return await self._driver.received(upload)

    async def append(self, upload: UploadId, offset: int | None, chunks: AsyncIterable[bytes]) -> int:
        with self._observers.during(self._call("append")):
            return await self._driver.append(upload, offset, chunks)

    async def commit(self, upload: UploadId, digest: Digest) -> BlobStat:
        with self._observers.during(self._call("commit", digest=digest)):
            return await self._driver.commit(upload, digest)

    async def abort(self, upload: UploadId) -> None:
        with self._observers.during(self._call("abort")):
            await self._driver.abort(upload)

    async def delete(self, digest: Digest) -> None:
        with self._observers.during(self._call("delete", digest=digest)):
            await self._driver.delete(digest)

    def scan(self, after: Digest | None = None) -> AsyncIterator[BlobStat]:
        return self._observers.through(self._call("scan", stream=True), self._driver.scan(after))

    async def check(self) -> None:
        with self._observers.during(self._call("check")):
            await self._driver.check()


class _LocalPath(_Observed):
    """See `SupportsLocalPath`: asks nobody, so that there is nothing to tell."""

    _driver: SupportsLocalPath

    def local_path(self, digest: Digest) -> str:
        return self._driver.local_path(digest)


class _Stored(_Observed):
    """See `SupportsStored`."""

    _driver: SupportsStored

    def stored(self, digest: Digest) -> AsyncIterator[bytes]:
        return self._observers.through(self._call("stored", stream=True, digest=digest), self._driver.stored(digest))


class _Redirect(_Observed):
    """See `SupportsRedirect`."""

    _driver: SupportsRedirect

    async def redirect(self, digest: Digest, method: str, client_address: str) -> str | None:
        with self._observers.during(self._call("redirect", digest=digest)):
            return await self._driver.redirect(digest, method, client_address)


class _Encoded(_Observed):
    """See `SupportsEncoded`."""

    _driver: SupportsEncoded

    async def encoded(self, digest: Digest, accepted: Collection[str]) -> Encoded | None:
        with self._observers.during(self._call("encoded", digest=digest)):
            coded = await self._driver.encoded(digest, accepted)
        if coded is None:
            return None
        chunks = self._observers.through(self._call("read", stream=True, digest=digest), coded.chunks)
        return msgspec.structs.replace(coded, chunks=chunks)


class _Authenticator(_Observed):
    """See `Authenticator`."""

    asked = "authn"
    _driver: Authenticator

    async def authenticate(self, credentials: Credentials) -> Identity | None:
        with self._observers.during(self._call("authenticate")):
            return await self._driver.authenticate(credentials)

    def challenge(self, scopes: Sequence[Scope]) -> str | None:
        return self._driver.challenge(scopes)


class _Standing(_Observed):
    """See `SupportsStanding`."""

    _driver: SupportsStanding

    async def stands(self, identity: Identity, credentials: Credentials) -> bool | None:
        with self._observers.during(self._call("stands")):
            return await self._driver.stands(identity, credentials)


class _Accounts(_Observed):
    """See `SupportsAccounts`: a part of what another authenticator is asked, which is told."""

    _driver: SupportsAccounts

    async def keeps(self, owner: Owner) -> bool | None:
        return await self._driver.keeps(owner)


class _Authorizer(_Observed):
    """See `Authorizer`."""

    asked = "authz"
    _driver: Authorizer

    async def decide(self, identity: Identity | None, scopes: Sequence[Scope]) -> Sequence[Verdict]:
        with self._observers.during(self._call("decide")):
            return await self._driver.decide(identity, scopes)


class _Visibility(_Observed):
    """See `SupportsVisibility`."""

    _driver: SupportsVisibility

    async def visible(self, identity: Identity | None) -> Visible:
        with self._observers.during(self._call("visible")):
            return await self._driver.visible(identity)


class _Gate(_Observed):
    """See `Gate`."""

    asked = "gate"
    _driver: Gate

    @property
    def gated(self) -> Collection[Any]:
        return self._driver.gated

    async def admit(self, change: Change) -> None:
        with self._observers.during(self._call("admit", action=change.action, repository=change.repository)):
            await self._driver.admit(change)


class _Memory(_Observed):
    """See `Remembering`: asks nobody, so that there is nothing to tell."""

    _driver: Remembering

    def admitted(self, repository: str, digest: Digest, tag: str | None) -> bool:
        return self._driver.admitted(repository, digest, tag)


class _Subscriber(_Observed):
    """See `Subscriber`."""

    asked = "subscriber"
    _driver: Subscriber

    @property
    def subscribed(self) -> Collection[Any]:
        return self._driver.subscribed

    async def on_event(self, event: Event) -> None:
        with self._observers.during(self._call("on_event", action=event.action, repository=event.repository)):
            await self._driver.on_event(event)
