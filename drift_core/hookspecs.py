"""Every hook that a plugin may implement: called once, at start, without arguments, to learn what the plugin offers.

Hooks are synchronous and cheap; the work happens on the opened objects. A plugin is a module named by an entry point
in the group ``drift.plugins``::

    [project.entry-points."drift.plugins"]
    storage-memory = "acme_memory.plugin"
"""

from collections.abc import Iterable

import click
import pluggy

from drift_core.protocols.access import Authenticator, Authorizer
from drift_core.protocols.collection import Collector
from drift_core.protocols.drivers import Driver
from drift_core.protocols.features import Feature
from drift_core.protocols.optimization import Optimizer
from drift_core.protocols.signing import Signer, Verifier
from drift_core.protocols.storage import BlobStore
from drift_core.protocols.transport import Transport

PROJECT = "drift"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a plugin's function as its answer to the hook of the same name."""


@hookspec
def drift_storage() -> Iterable[Driver[BlobStore]]:  # type: ignore[empty-body]
    """Offers stores for bytes; ``[storage] type`` names the one that is opened, ``[storage.NAME]`` is its table.

    Those of ``[storage] layers`` lie around it: each is lent the store beneath it as `Services.beneath`.
    A key of ``[storage]`` itself that the driver's Struct also has, such as ``path``, is its default.
    Failure: the server does not start; later, requests that need bytes get 503.

    Example::

        from drift_core.api import BlobStore, Driver, Struct, hookimpl

        class MemoryConfig(Struct, forbid_unknown_fields=True):
            max_bytes: int = 1 << 30

        def open_memory(config, services):
            from acme_memory.store import open_store
            return open_store(config.max_bytes)

        @hookimpl
        def drift_storage():
            return [Driver("memory", MemoryConfig, open_memory)]
    """


@hookspec
def drift_authn() -> Iterable[Driver[Authenticator]]:  # type: ignore[empty-body]
    """Offers ways to find out who asks; ``[auth] chain = [NAMES]``, or ``mode = NAME`` for a chain of one.

    The first identity wins. The table is ``[auth.NAME]``, with the keys of ``[auth]`` itself as defaults.
    Failure: closed; the request is refused.

    Example::

        from drift_core.api import Driver, Struct, hookimpl

        class StaticConfig(Struct, forbid_unknown_fields=True):
            token: str

        def open_static(config, services):
            from acme_static.authenticator import open_authenticator
            return open_authenticator(config.token)

        @hookimpl
        def drift_authn():
            return [Driver("static", StaticConfig, open_static)]
    """


@hookspec
def drift_authz() -> Iterable[Driver[Authorizer]]:  # type: ignore[empty-body]
    """Offers policies on who may do what; asked are ``[auth] policies = [NAMES]``, and ``[NAME] enabled = true``.

    Any deny refuses, else any allow allows, else the request is refused; the table is ``[NAME]``. Without a policy
    every authenticated identity may do everything. Failure: closed; the request is refused.

    Example::

        from drift_core.api import Driver, Struct, hookimpl

        class ReadOnlyConfig(Struct, forbid_unknown_fields=True):
            writers: list[str] = []

        def open_read_only(config, services):
            from acme_read_only.authorizer import open_authorizer
            return open_authorizer(config.writers)

        @hookimpl
        def drift_authz():
            return [Driver("read_only", ReadOnlyConfig, open_read_only)]
    """


@hookspec
def drift_signers() -> Iterable[Driver[Signer]]:  # type: ignore[empty-body]
    """Offers signature formats that can be made; all are opened when ``[signing] enabled`` is true.

    The table is ``[signing]``, whose keys `SigningKeys` has. Failure: the request that asked for the signature fails.

    Example::

        from drift_core.api import Driver, SigningKeys, hookimpl

        class SimpleConfig(SigningKeys, frozen=True, kw_only=True):
            simple_lookaside: str | None = None

        def open_simple(config, services):
            from acme_simple.signer import open_signer
            return open_signer(config)

        @hookimpl
        def drift_signers():
            return [Driver("simple", SimpleConfig, open_simple)]
    """


@hookspec
def drift_verifiers() -> Iterable[Driver[Verifier]]:  # type: ignore[empty-body]
    """Offers signature formats that can be judged; all are opened, or those that ``signature_formats`` names.

    The table is ``[signing]``, whose keys `SigningKeys` has. Failure: counts as not verified.

    Example::

        from drift_core.api import Driver, SigningKeys, hookimpl

        class SimpleConfig(SigningKeys, frozen=True, kw_only=True):
            simple_lookaside: str | None = None

        def open_simple(config, services):
            from acme_simple.verifier import open_verifier
            return open_verifier(config)

        @hookimpl
        def drift_verifiers():
            return [Driver("simple", SimpleConfig, open_simple)]
    """


@hookspec
def drift_transports() -> Iterable[Driver[Transport]]:  # type: ignore[empty-body]
    """Offers ways in for requests; every one is opened, except where its table says ``enabled = false``.

    The table is ``[NAME]``; address, TLS and limits come as `Services.server`. Failure: the server stops.

    Example::

        from drift_core.api import Driver, Struct, hookimpl

        class PlainConfig(Struct, forbid_unknown_fields=True):
            backlog: int = 1024

        def open_plain(config, services):
            from acme_plain.transport import open_transport
            return open_transport(config, services.server)

        @hookimpl
        def drift_transports():
            return [Driver("plain", PlainConfig, open_plain)]
    """


@hookspec
def drift_optimizers() -> Iterable[Driver[Optimizer]]:  # type: ignore[empty-body]
    """Offers better forms of content; all are opened when ``[optimization] enabled`` is true.

    The table is ``[optimization]``. A feature runs them, and stores what one writes into its `Sink` beside the
    original; they are lent to it as `Services.optimizers`.
    Failure: the original is kept and served.

    Example::

        from drift_core.api import Driver, Struct, hookimpl

        class ZstdConfig(Struct):
            min_layer_size_mb: int = 10

        def open_zstd(config, services):
            from acme_zstd.optimizer import open_optimizer
            return open_optimizer(config)

        @hookimpl
        def drift_optimizers():
            return [Driver("zstd", ZstdConfig, open_zstd)]
    """


@hookspec
def drift_collectors() -> Iterable[Driver[Collector]]:  # type: ignore[empty-body]
    """Offers a garbage collector; the one that is installed is opened when ``[garbage_collector] enabled`` is true.

    The table is ``[garbage_collector]``. `drift gc run` and ``POST /admin/gc`` run it, and the server by itself where
    it is `SupportsSchedule`. What is kept for features is said by those that are `SupportsRoots`.
    Failure: the run is aborted; nothing more is removed.

    Example::

        from drift_core.api import Driver, Struct, hookimpl

        class GcConfig(Struct):
            grace_period_hours: float = 168

        def open_gc(config, services):
            from acme_sweep.collector import open_collector
            return open_collector(config)

        @hookimpl
        def drift_collectors():
            return [Driver("online", GcConfig, open_gc)]
    """


@hookspec
def drift_features() -> Iterable[Driver[Feature]]:  # type: ignore[empty-body]
    """Offers additions to the whole; each is opened when its plugin is enabled, with the table ``[NAME]``.

    What it adds is said by the powers that the opened object also has: `SupportsRoutes`, `Gate`, `Subscriber`.
    Failure: the server does not start; later, each power says for itself what its failure means.

    Example::

        from contextlib import asynccontextmanager
        from drift_core.api import Driver, Struct, hookimpl

        class HelloConfig(Struct, forbid_unknown_fields=True):
            greeting: str = "hello"

        class Hello:
            name = "hello"
            def __init__(self, greeting):
                self.greeting = greeting
            def routes(self):
                from litestar import get
                @get("/hello", sync_to_thread=False)
                def hello() -> str:
                    return self.greeting
                return [hello]

        @asynccontextmanager
        async def open_hello(config, services):
            yield Hello(config.greeting)

        @hookimpl
        def drift_features():
            return [Driver("hello", HelloConfig, open_hello)]
    """


@hookspec
def drift_commands() -> Iterable[click.Command]:  # type: ignore[empty-body]
    """Offers commands of the CLI, shown beside the core's; the command itself opens what it needs.

    All plugins are asked whatever command is run: one that imports much is offered by `deferred`.

    Failure: the command is left out, and `drift plugins list` says why.

    Example::

        import click
        from drift_core.api import hookimpl

        @click.command("hello")
        def hello():
            click.echo("hello")

        @hookimpl
        def drift_commands():
            return [hello]
    """
