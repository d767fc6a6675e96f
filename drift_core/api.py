"""Everything that a plugin may import from the core; what is not here is private."""

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from drift_core.config import Secret, load
from drift_core.errors import (
    BlobUnknown,
    Denied,
    DigestInvalid,
    DriftError,
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
from drift_core.hookspecs import hookimpl
from drift_core.listener import bind_shared, certificate_files, ignore_newcomers, until_quiet
from drift_core.model import (
    ACTIONS,
    ALGORITHMS,
    Action,
    Algorithm,
    BlobStat,
    Change,
    Descriptor,
    Digest,
    Event,
    Hash,
    Identity,
    Scope,
    Verdict,
)
from drift_core.protocols import (
    AsgiApp,
    Authenticator,
    Authorizer,
    BlobStore,
    Candidate,
    Collector,
    Contents,
    Credentials,
    Driver,
    Feature,
    Gate,
    Optimizer,
    Records,
    Removal,
    ServerSettings,
    Services,
    Signature,
    Signer,
    Sink,
    Subscriber,
    SupportsLocalPath,
    SupportsRedirect,
    SupportsRoots,
    SupportsRoutes,
    Transport,
    UploadId,
    Verifier,
)

if TYPE_CHECKING:
    from litestar import Litestar

__all__ = [
    "ACTIONS",
    "ALGORITHMS",
    "Action",
    "Algorithm",
    "AsgiApp",
    "Authenticator",
    "Authorizer",
    "BlobStat",
    "BlobStore",
    "BlobUnknown",
    "Candidate",
    "Change",
    "Collector",
    "Contents",
    "Credentials",
    "Denied",
    "Descriptor",
    "Digest",
    "DigestInvalid",
    "DriftError",
    "Driver",
    "Event",
    "Feature",
    "Gate",
    "Hash",
    "Identity",
    "OffsetMismatch",
    "Optimizer",
    "Records",
    "RegistryError",
    "Removal",
    "Scope",
    "Secret",
    "ServerSettings",
    "Services",
    "Signature",
    "Signer",
    "Sink",
    "StartError",
    "StorageFull",
    "Struct",
    "Subscriber",
    "SupportsLocalPath",
    "SupportsRedirect",
    "SupportsRoots",
    "SupportsRoutes",
    "TooManyRequests",
    "Transport",
    "Unauthorized",
    "Unavailable",
    "UploadBusy",
    "UploadId",
    "UploadInvalid",
    "UploadUnknown",
    "Verdict",
    "Verifier",
    "bind_shared",
    "certificate_files",
    "create_app",
    "hookimpl",
    "ignore_newcomers",
    "until_quiet",
]

REPLACED: dict[str, str] = {}
"""Names that go with the next version that may take one away, and what replaces each; none at the moment (ADR 4)."""


def __getattr__(name: str) -> Any:
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
