"""The one tree of errors, each of which knows its OCI code and its HTTP status.

::

    DriftError
    +-- StartError                     the server cannot start; shown to the operator, never sent to a client
    |   +-- ConfigError                a value in the configuration, named by its path
    |   +-- PluginError                a plugin that was named and cannot be used
    |   +-- DatabaseTooNew             the database was written by a newer Drift
    +-- RegistryError                  anything a client may be told
        +-- NameInvalid                NAME_INVALID            400
        +-- NameUnknown                NAME_UNKNOWN            404
        +-- BlobUnknown                BLOB_UNKNOWN            404
        +-- UploadUnknown              BLOB_UPLOAD_UNKNOWN     404
        +-- UploadInvalid              BLOB_UPLOAD_INVALID     400
        |   +-- OffsetMismatch         BLOB_UPLOAD_INVALID     416
        |   +-- UploadBusy             BLOB_UPLOAD_INVALID     409
        |   +-- UploadTooLarge         BLOB_UPLOAD_INVALID     413
        +-- RangeNotSatisfiable        BLOB_UNKNOWN            416
        +-- DigestInvalid              DIGEST_INVALID          400
        +-- SizeInvalid                SIZE_INVALID            400
        +-- ManifestUnknown            MANIFEST_UNKNOWN        404
        +-- ManifestInvalid            MANIFEST_INVALID        400
        |   +-- ManifestTooLarge       MANIFEST_INVALID        413
        |   +-- ReferenceInvalid       MANIFEST_INVALID        400
        +-- ManifestBlobUnknown        MANIFEST_BLOB_UNKNOWN   400
        +-- Unauthorized               UNAUTHORIZED            401
        +-- Denied                     DENIED                  403
        |   +-- PreconditionFailed     DENIED                  412
        +-- Unsupported                UNSUPPORTED             405
        |   +-- QueryInvalid           UNSUPPORTED             400
        |   +-- UriTooLong             UNSUPPORTED             414
        |   +-- EndpointUnknown        UNSUPPORTED             404
        |   +-- BlobInUse              UNSUPPORTED             405
        +-- TooManyRequests            TOOMANYREQUESTS         429
        +-- Unavailable                UNAVAILABLE             503
        |   +-- StorageFull            UNAVAILABLE             507
        +-- Unexpected                 UNKNOWN                 500

The codes are those of the distribution specification, "Error Codes"; UNAVAILABLE and UNKNOWN, for 5xx, are those that
the older Docker Registry HTTP API V2 gave for the same cases.
"""

from typing import Any, ClassVar


class DriftError(Exception):
    """The root: catch this to catch everything that Drift raises on purpose."""


class StartError(DriftError):
    """The server or a command cannot start; the message says what the operator can do."""


class ConfigError(StartError):
    """A bad value or an unknown key; ``path`` is its place, such as ``storage.s3.bucket``."""

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"{path}: {reason}")


class PluginError(StartError):
    """A plugin that the configuration needs is missing, broken, or in conflict with another."""


class DatabaseTooNew(StartError):
    """The database holds a migration that this version of Drift does not know."""


class RegistryError(DriftError):
    """Anything a client may be told.

    ``detail`` is JSON-serialisable and helps the client to mend its request; it never holds a secret.
    """

    code: ClassVar[str]
    status: ClassVar[int]
    text: ClassVar[str]

    def __init__(self, message: str | None = None, **detail: Any) -> None:
        self.message = message or self.text
        self.detail = detail
        super().__init__(self.message)

    def headers(self) -> list[tuple[str, str]]:
        """Response headers that belong to this error, such as a challenge."""
        return []


class NameInvalid(RegistryError):
    code, status, text = "NAME_INVALID", 400, "invalid repository name"


class NameUnknown(RegistryError):
    code, status, text = "NAME_UNKNOWN", 404, "repository name not known to registry"


class BlobUnknown(RegistryError):
    code, status, text = "BLOB_UNKNOWN", 404, "blob unknown to registry"


class UploadUnknown(RegistryError):
    code, status, text = "BLOB_UPLOAD_UNKNOWN", 404, "blob upload unknown to registry"


class UploadInvalid(RegistryError):
    code, status, text = "BLOB_UPLOAD_INVALID", 400, "blob upload invalid"


class OffsetMismatch(UploadInvalid):
    """A chunk that does not begin where the upload ends; ``received`` is the number of bytes that are kept.

    ``resume`` are the headers that tell the client where to go on.
    """

    status, text = 416, "the chunk does not begin where the upload ends"

    def __init__(self, received: int, message: str | None = None, **detail: Any) -> None:
        self.received = received
        self.resume: tuple[tuple[str, str], ...] = ()
        super().__init__(message, received=received, **detail)

    def headers(self) -> list[tuple[str, str]]:
        return list(self.resume)


class UploadBusy(UploadInvalid):
    status, text = 409, "another request is writing to this upload"


class UploadTooLarge(UploadInvalid):
    status, text = 413, "the blob is larger than this registry accepts"


class RangeNotSatisfiable(RegistryError):
    """A Range that lies outside the blob, whose ``size`` is in bytes (RFC 9110 section 15.5.17)."""

    code, status, text = "BLOB_UNKNOWN", 416, "the range lies outside the blob"

    def __init__(self, size: int, **detail: Any) -> None:
        self.size = size
        super().__init__(None, size=size, **detail)

    def headers(self) -> list[tuple[str, str]]:
        return [("content-range", f"bytes */{self.size}")]


class DigestInvalid(RegistryError):
    code, status, text = "DIGEST_INVALID", 400, "provided digest did not match uploaded content"


class SizeInvalid(RegistryError):
    code, status, text = "SIZE_INVALID", 400, "provided length did not match content length"


class ManifestUnknown(RegistryError):
    code, status, text = "MANIFEST_UNKNOWN", 404, "manifest unknown to registry"


class ManifestInvalid(RegistryError):
    code, status, text = "MANIFEST_INVALID", 400, "manifest invalid"


class ManifestTooLarge(ManifestInvalid):
    status, text = 413, "the manifest is larger than this registry accepts"


class ReferenceInvalid(ManifestInvalid):
    text = "neither a valid tag nor a valid digest"


class ManifestBlobUnknown(RegistryError):
    code, status, text = "MANIFEST_BLOB_UNKNOWN", 400, "manifest references a manifest or blob unknown to registry"


class Unauthorized(RegistryError):
    """Credentials are missing or bad; ``challenges`` are the values of WWW-Authenticate (RFC 9110 section 11.6.1).

    ``username``, the name that was claimed, is for the audit trail and not told to the client.
    """

    code, status, text = "UNAUTHORIZED", 401, "authentication required"

    def __init__(
        self,
        message: str | None = None,
        challenges: tuple[str, ...] = (),
        *,
        username: str | None = None,
        **detail: Any,
    ) -> None:
        self.challenges = challenges
        self.username = username
        super().__init__(message, **detail)

    def headers(self) -> list[tuple[str, str]]:
        return [("www-authenticate", challenge) for challenge in self.challenges]


class Denied(RegistryError):
    code, status, text = "DENIED", 403, "requested access to the resource is denied"


class PreconditionFailed(Denied):
    status, text = 412, "the tag is not what If-Match or If-None-Match expected"


class Unsupported(RegistryError):
    code, status, text = "UNSUPPORTED", 405, "the operation is unsupported"

    def __init__(self, message: str | None = None, allow: tuple[str, ...] = (), **detail: Any) -> None:
        self.allow = allow
        super().__init__(message, **detail)

    def headers(self) -> list[tuple[str, str]]:
        return [("allow", ", ".join(self.allow))] if self.allow else []


class QueryInvalid(Unsupported):
    status, text = 400, "a query parameter or header has an unusable value"


class UriTooLong(Unsupported):
    status, text = 414, "the request URI is too long"


class EndpointUnknown(Unsupported):
    status, text = 404, "no such endpoint"


class BlobInUse(Unsupported):
    text = "the blob is part of a manifest of this repository; delete the manifest first"


class TooManyRequests(RegistryError):
    """``retry_after`` is in seconds."""

    code, status, text = "TOOMANYREQUESTS", 429, "too many requests"

    def __init__(self, message: str | None = None, retry_after: int = 1, **detail: Any) -> None:
        self.retry_after = retry_after
        super().__init__(message, **detail)

    def headers(self) -> list[tuple[str, str]]:
        return [("retry-after", str(self.retry_after))]


class Unavailable(RegistryError):
    """A client may try again, in a second (RFC 9110 section 10.2.3)."""

    code, status, text = "UNAVAILABLE", 503, "the registry cannot do this at present"

    def headers(self) -> list[tuple[str, str]]:
        return [("retry-after", "1")]


class StorageFull(Unavailable):
    status, text = 507, "no space is left where the registry keeps its content"

    def headers(self) -> list[tuple[str, str]]:
        return []


class Unexpected(RegistryError):
    """A defect of ours; the client learns the request id, the log the rest."""

    code, status, text = "UNKNOWN", 500, "an error of the registry; its log has more under the request id"
