"""Profiles as the TOML that Bolt keeps in its folder: no wrapper and no metadata, or it skips the file silently."""

import tomllib
from typing import Any, cast

import msgspec
import tomli_w

from drift_bolt.model import OptimizationProfile


def to_toml(profile: OptimizationProfile) -> bytes:
    """Returns the file; options that are not set are left out, since TOML has no null."""
    return tomli_w.dumps(_without_null(msgspec.to_builtins(profile))).encode()


def from_toml(content: bytes) -> OptimizationProfile:
    """Returns the profile in a file. Raises ValueError, also of msgspec and of tomllib."""
    return msgspec.convert(tomllib.loads(content.decode()), OptimizationProfile)


def _without_null(value: Any) -> Any:
    if isinstance(value, dict):
        table = cast("dict[str, Any]", value)
        return {key: _without_null(one) for key, one in table.items() if one is not None}
    return [_without_null(one) for one in cast("list[Any]", value)] if isinstance(value, list | tuple) else value
