"""The keys of ``[storage.s3]`` and of ``[storage.ghostbay]``."""

import ipaddress
from typing import Annotated, Literal
from urllib.parse import urlsplit

from msgspec import Meta

from drift_core.api import Secret, Struct

MIB = 1 << 20

Bucket = Annotated[str, Meta(min_length=3, max_length=63)]

Prefix = Annotated[str, Meta(max_length=100, pattern=r"^(?:[A-Za-z0-9._-]+/)*$")]
"""Before every key: nothing, or folders that end in a slash."""


class StoreConfig(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """What the store needs of any object service.

    A blob is sent in parts of ``part_size_mb`` (MiB), at most 10,000 of them. Of the ``buffer_mb`` of a worker all of
    its uploads take the memory for parts; who gets none waits. ``connections`` are requests of a worker at once.
    ``timeout_seconds`` is how long the service may be silent, and ``retry_seconds`` how long a request that failed is
    begun again.
    """

    prefix: Prefix = ""
    part_size_mb: Annotated[int, Meta(ge=5, le=1024)] = 8
    buffer_mb: Annotated[int, Meta(ge=10, le=65536)] = 64
    connections: Annotated[int, Meta(ge=2, le=256)] = 16
    timeout_seconds: Annotated[float, Meta(gt=0, le=60)] = 10.0
    retry_seconds: Annotated[float, Meta(ge=0, le=60)] = 15.0

    def __post_init__(self) -> None:
        if self.buffer_mb < 2 * self.part_size_mb:
            raise ValueError("buffer_mb must have room for two parts of part_size_mb")

    @property
    def part_size(self) -> int:
        """In bytes."""
        return self.part_size_mb * MIB


class S3Config(StoreConfig, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[storage.s3]``: the bucket, how it is reached, and how blobs are kept in it.

    ``endpoint`` None is Amazon's for the ``region``. ``access_key`` and ``secret_key`` None are found as Amazon's tools
    find them: variables, files, the role of a machine. ``path_style`` None is true where there is an ``endpoint``.
    ``verify`` is whether the certificate of the endpoint is checked, ``ca_file`` by which authorities.
    ``checksums`` go with what is written; ``md5`` is for services that know no others. With ``redirect`` clients fetch
    blobs from the bucket themselves, by URLs for ``public_endpoint`` (None: ``endpoint``) that are good for
    ``redirect_seconds``; only those in ``redirect_networks``, where there are any.
    """

    bucket: Bucket
    endpoint: str | None = None
    region: str | None = None
    access_key: Secret | None = None
    secret_key: Secret | None = None
    session_token: Secret | None = None
    path_style: bool | None = None
    create_bucket: bool = False
    verify: bool = True
    ca_file: str | None = None
    checksums: Literal["crc32", "md5", "none"] = "crc32"
    server_side_encryption: Literal["AES256", "aws:kms"] | None = None
    kms_key_id: str | None = None
    storage_class: str | None = None
    redirect: bool = False
    public_endpoint: str | None = None
    redirect_seconds: Annotated[int, Meta(ge=60, le=86400)] = 1200
    redirect_networks: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_endpoint("endpoint", self.endpoint)
        check_endpoint("public_endpoint", self.public_endpoint)
        if (self.access_key is None) != (self.secret_key is None):
            raise ValueError("access_key and secret_key belong together")
        if self.session_token is not None and self.access_key is None:
            raise ValueError("session_token belongs to an access_key")
        if self.kms_key_id is not None and self.server_side_encryption != "aws:kms":
            raise ValueError('kms_key_id needs server_side_encryption = "aws:kms"')
        if not self.verify and self.ca_file is not None:
            raise ValueError("ca_file has no meaning without verify")
        for network in self.redirect_networks or ():
            ipaddress.ip_network(network)


class GhostBayCredentials(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[storage.ghostbay.credentials]``."""

    access_key: Secret
    secret_key: Secret


class GhostBayConfig(StoreConfig, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[storage.ghostbay]``: the bucket of a GhostBay server, which holds each request in memory as a whole."""

    endpoint: str
    bucket: Annotated[str, Meta(pattern=r"^(?!health$)[a-z0-9-]{3,63}$")] = "drift-registry"
    credentials: GhostBayCredentials | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_endpoint("endpoint", self.endpoint)


def check_endpoint(key: str, url: str | None) -> None:
    """Raises ValueError for what is no URL of a server, or has credentials in it, which logs would show."""
    if url is None:
        return
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"{key} must be a URL such as https://s3.example.com")
    if parts.username is not None or parts.password is not None:
        raise ValueError(f"{key} must not have credentials in it")
