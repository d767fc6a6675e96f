"""Everything that a plugin may import from the core; what is not here is private."""

import os
import warnings
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from drift_core import pages
from drift_core.address import check_url, is_loopback, network_of, stays_here
from drift_core.asking import asking
from drift_core.certificates import Renewal, certificate_files, tls_context
from drift_core.command import configured, deferred
from drift_core.config import Config, Secret, load
from drift_core.errors import (
    BlobUnknown,
    Denied,
    DigestInvalid,
    DriftError,
    ManifestUnknown,
    OffsetMismatch,
    RegistryError,
    StartError,
    StorageFull,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    UploadBusy,
    UploadInvalid,
    UploadUnknown,
)
from drift_core.file_state import FileState, FileStates, file_states
from drift_core.hookspecs import hookimpl
from drift_core.layer import StoreLayer
from drift_core.lent import UsesRegistry
from drift_core.listener import bind_shared, ignore_newcomers, until_quiet
from drift_core.model import (
    ACTIONS,
    ALGORITHMS,
    CATALOG,
    EVERYTHING,
    PLUGIN,
    Action,
    Algorithm,
    AuditEvent,
    BlobStat,
    Change,
    Descriptor,
    Digest,
    Event,
    Hash,
    Identity,
    Judgement,
    KeyInfo,
    Owner,
    Scope,
    Severity,
    Verdict,
    Visible,
)
from drift_core.pace import Pace
from drift_core.protocols.access import (
    Access,
    Authenticator,
    Authorizer,
    Credentials,
    SupportsAccounts,
    SupportsStanding,
    SupportsVisibility,
)
from drift_core.protocols.audit import Audit, Auditor
from drift_core.protocols.changes import Accountant, Gate, Subscriber, SupportsPulls
from drift_core.protocols.collection import Candidate, Collector, Contents, Removal, SupportsRoots, SupportsSchedule
from drift_core.protocols.console import (
    Console,
    Login,
    SupportsFigures,
    SupportsLogins,
    SupportsLogout,
    SupportsPages,
    SupportsSite,
)
from drift_core.protocols.drivers import Driver, Services
from drift_core.protocols.features import (
    Feature,
    SupportsBackground,
    SupportsHeaders,
    SupportsRoutes,
    SupportsSiteHeaders,
)
from drift_core.protocols.observing import Call, Observation, SupportsObserving
from drift_core.protocols.optimization import Optimizer, Sink
from drift_core.protocols.records import Records
from drift_core.protocols.registry import LocalRegistry, Quarantined, References, SupportsRegistry, Tag
from drift_core.protocols.signing import Signature, Signer, SupportsExchange, Verifier
from drift_core.protocols.storage import (
    BlobStore,
    Encoded,
    SupportsEncoded,
    SupportsLocalPath,
    SupportsRedirect,
    SupportsStored,
    UploadId,
)
from drift_core.protocols.transport import AsgiApp, ServerSettings, Transport
from drift_core.signing_tables import SigningKey, SigningKeys, TrustStore, VerificationKey
from drift_core.snapshot import Snapshot

if TYPE_CHECKING:
    from litestar import Litestar

    from drift_core.metadata.inventory import held_bytes
    from drift_core.metadata.locks import exclusive, shared
    from drift_core.metadata.statement import Statement

__all__ = [
    "ACTIONS",
    "ALGORITHMS",
    "CATALOG",
    "EVERYTHING",
    "PLUGIN",
    "Access",
    "Accountant",
    "Action",
    "Algorithm",
    "AsgiApp",
    "Audit",
    "AuditEvent",
    "Auditor",
    "Authenticator",
    "Authorizer",
    "BlobStat",
    "BlobStore",
    "BlobUnknown",
    "Call",
    "Candidate",
    "Change",
    "Collector",
    "Config",
    "Console",
    "Contents",
    "Credentials",
    "Denied",
    "Descriptor",
    "Digest",
    "DigestInvalid",
    "DriftError",
    "Driver",
    "Encoded",
    "Event",
    "Feature",
    "FileState",
    "FileStates",
    "Gate",
    "Hash",
    "Identity",
    "Judgement",
    "KeyInfo",
    "LocalRegistry",
    "Login",
    "ManifestUnknown",
    "Observation",
    "OffsetMismatch",
    "Optimizer",
    "Owner",
    "Pace",
    "Quarantined",
    "Records",
    "References",
    "RegistryError",
    "Removal",
    "Renewal",
    "Scope",
    "Secret",
    "ServerSettings",
    "Services",
    "Severity",
    "Signature",
    "Signer",
    "SigningKey",
    "SigningKeys",
    "Sink",
    "Snapshot",
    "StartError",
    "Statement",
    "StorageFull",
    "StoreLayer",
    "Struct",
    "Subscriber",
    "SupportsAccounts",
    "SupportsBackground",
    "SupportsEncoded",
    "SupportsExchange",
    "SupportsFigures",
    "SupportsHeaders",
    "SupportsLocalPath",
    "SupportsLogins",
    "SupportsLogout",
    "SupportsObserving",
    "SupportsPages",
    "SupportsPulls",
    "SupportsRedirect",
    "SupportsRegistry",
    "SupportsRoots",
    "SupportsRoutes",
    "SupportsSchedule",
    "SupportsSite",
    "SupportsSiteHeaders",
    "SupportsStanding",
    "SupportsStored",
    "SupportsVisibility",
    "Tag",
    "TooManyRequests",
    "Transport",
    "TrustStore",
    "Unauthorized",
    "Unavailable",
    "UploadBusy",
    "UploadId",
    "UploadInvalid",
    "UploadUnknown",
    "UsesRegistry",
    "Verdict",
    "VerificationKey",
    "Verifier",
    "Visible",
    "asking",
    "bind_shared",
    "certificate_files",
    "check_url",
    "configured",
    "create_app",
    "deferred",
    "exclusive",
    "file_states",
    "held_bytes",
    "hookimpl",
    "ignore_newcomers",
    "is_loopback",
    "network_of",
    "open_driver",
    "open_registry",
    "pages",
    "shared",
    "stays_here",
    "tls_context",
    "until_quiet",
]

LATE = {
    "Statement": "drift_core.metadata.statement",
    "exclusive": "drift_core.metadata.locks",
    "held_bytes": "drift_core.metadata.inventory",
    "shared": "drift_core.metadata.locks",
}
"""What needs SQLAlchemy, which is imported by who has tables, when its driver is opened."""

REPLACED: dict[str, str] = {}
"""Names that go with the next version that may take one away, and what replaces each; none at the moment (ADR 4)."""


def __getattr__(name: str) -> Any:
    if name in LATE:
        return getattr(import_module(LATE[name]), name)
    if name not in REPLACED:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    replacement = REPLACED[name]
    message = f"{__name__}.{name} will be removed; use {__name__}.{replacement}"
    warnings.warn(message, DeprecationWarning, stacklevel=2)
    return globals()[replacement]


def create_app(config: Mapping[str, Any] | str | os.PathLike[str] | None = None) -> "Litestar":
    """Returns the registry as a Litestar application, for an ASGI server of your choice or to mount in yours.

    ``config`` is a TOML file or its content; None is the file that DRIFT_CONFIG names, or the defaults. The environment
    counts as for `drift serve`. The application must get its lifespan: who mounts it runs ``app.lifespan()`` in theirs.

    Raises:
        ConfigError: as `drift config check` says; and where ``[auth]`` is missing.
    """
    # Only who serves needs Litestar: a plugin that is merely listed is imported without it.
    from drift_core.http.application import application  # noqa: PLC0415

    if config is None:
        config = os.environ.get("DRIFT_CONFIG")
    source = Path(config) if isinstance(config, str | os.PathLike) else config
    return application(load(source, os.environ, ()))


def open_driver(config: Config, family: str, name: str) -> AbstractAsyncContextManager[Any]:
    """Opens one of the drivers that a configuration chooses, with its tables, for a command of its plugin.

    Those who keep an audit trail are opened, too: what a command does is kept like what a request does.

    ``family`` is that of `drift plugins list`, such as ``authn``. Raises `StartError`.
    """
    # What a server does not need is imported by who runs the command.
    from drift_core import plugins, runtime  # noqa: PLC0415
    from drift_core.logs import configure_logs  # noqa: PLC0415

    # To standard error: a program may read what the command prints.
    configure_logs(config.logging)
    return runtime.open_driver(config, plugins.load_plugins(config), family, name, audited=True)


def open_registry(config: Config, identity: Identity) -> AbstractAsyncContextManager[LocalRegistry]:
    """Opens the registry of a configuration, beside servers that run or without one, to move content in or out.

    The tables are made or brought up to date first. ``identity`` is who pushes, for gates, subscribers and the audit
    trail; no policy is asked, since whoever can run the command can write to the database anyway. Raises `StartError`.
    """
    from drift_core import plugins, runtime  # noqa: PLC0415
    from drift_core.logs import configure_logs  # noqa: PLC0415

    configure_logs(config.logging)
    return runtime.open_local(config, plugins.load_plugins(config), identity)
