"""The keys of ``[bolt]``: those of the original, and the limits that it left open."""

from typing import Annotated
from urllib.parse import urlsplit

from msgspec import Meta

from drift_core.api import Secret, Struct, is_loopback


class BoltConfig(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[bolt]``: what is checked of uploads, and from where profiles are mirrored.

    ``enable_profile_validation`` holds profiles to Bolt's limits. ``enable_plugin_sandbox`` has libraries read by a
    process without network and files; without it by one that only has limits. With ``auto_update_profiles`` the
    profiles of the Drift at ``registry_url`` are mirrored every ``update_interval_minutes``; ``registry_token`` is sent
    to it. ``max_plugin_size_mb`` (MiB) is that of a library. ``default_profiles`` are made once, when there are none.
    With ``launching`` administrators may run images on the server, each for at most ``launching_seconds``.
    """

    enabled: bool = False
    enable_profile_validation: bool = True
    enable_plugin_sandbox: bool = True
    auto_update_profiles: bool = False
    registry_url: str | None = None
    registry_token: Secret | None = None
    update_interval_minutes: Annotated[float, Meta(gt=0)] = 60.0
    max_plugin_size_mb: Annotated[int, Meta(ge=1, le=4096)] = 256
    default_profiles: bool = True
    launching: bool = False
    launching_seconds: Annotated[float, Meta(gt=0, le=86_400)] = 600.0

    def __post_init__(self) -> None:
        if self.auto_update_profiles and self.registry_url is None:
            message = "auto_update_profiles needs registry_url"
            raise ValueError(message)
        if self.registry_url is not None:
            _check_url(self.registry_url)


def _check_url(url: str) -> None:
    """Raises ValueError for what is not asked: who mirrors profiles has to know where they come from."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username:
        message = "registry_url: has to be http:// or https:// with a host, and no name, query or fragment"
        raise ValueError(message)
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        message = "registry_url: has to be https:// unless it is this machine"
        raise ValueError(message)
