"""Sizes as they are written, and which of several limits counts."""

from fnmatch import fnmatchcase
from typing import Any

import msgspec
import pytest
from drift_quota.config import QuotaConfig
from drift_quota.limits import Limits
from drift_quota.sizes import readable, size_of
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (0, 0),
        (1234, 1234),
        ("1234", 1234),
        ("5 B", 5),
        ("10GB", 10_000_000_000),
        ("10 GB", 10_000_000_000),
        ("1.5KiB", 1536),
        ("0.001KB", 1),
        ("2KB", 2000),
        ("2MiB", 2 << 20),
        ("3GiB", 3 << 30),
        ("4TiB", 4 << 40),
        ("4TB", 4_000_000_000_000),
        ("500MB", 500_000_000),
        (2**63 - 1, 2**63 - 1),
    ],
)
def test_sizes(text: int | str, size: int) -> None:
    assert size_of(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1", -1, "1.5", "1gb", "1 XB", "1.2345KB", "1e3", "10GB ", 2**63, "٣"])
def test_what_is_no_size(text: int | str) -> None:
    with pytest.raises(ValueError, match="is no size"):
        size_of(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 KB"), (1550, "1.6 KB"), (10**10, "10 GB"), (25 * 10**14, "2500 TB")],
)
def test_readable_sizes(size: int, text: str) -> None:
    assert readable(size) == text


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ({"organizations": {"acme": "10XB"}}, "organizations.acme"),
        ({"organizations": {"acme/app": 1}}, "organizations: 'acme/app'"),
        ({"repositories": {"Acme": 1}}, "repositories: 'Acme'"),
        ({"repositories": {"acme/*": "-1"}}, "repositories.acme/\\*"),
        ({"default_organization": "much"}, "default_organization"),
        ({"default_repository": -1}, "default_repository"),
    ],
)
def test_a_bad_limit_is_named(table: dict[str, Any], named: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=named):
        msgspec.convert(table, QuotaConfig)


def test_the_most_specific_limit_counts() -> None:
    repositories: dict[str, int | str] = {"*": 1, "team/*": 2, "team/*-x": 3, "team/app*": 4, "team/app": 5, "*/z": 6}
    limits = Limits(QuotaConfig(repositories=repositories, default_repository=7))
    names = ("other", "team/b", "team/b-x", "team/app2", "team/app-x", "team/app", "other/z", "team/z")
    assert [limits.of_repository(name) for name in names] == [1, 2, 3, 4, 4, 5, 6, 2]


def test_defaults() -> None:
    none = Limits(QuotaConfig())
    assert (none.of_repository("a/b"), none.of_organization("a")) == (None, None)
    limits = Limits(QuotaConfig(organizations={"a": 0}, repositories={"a/*": 1}, default_organization="2KB"))
    assert [limits.of_organization(name) for name in ("a", "b")] == [0, 2000]
    assert [limits.of_repository(name) for name in ("a/b", "b/b")] == [1, None]
    assert Limits(QuotaConfig(default_repository=3)).of_repository("a") == 3


@given(st.text("ab/*", min_size=1, max_size=8), st.text("ab/", min_size=1, max_size=8))
def test_a_star_is_any_text(glob: str, name: str) -> None:
    limits = Limits(QuotaConfig(repositories={glob: 1}))
    assert (limits.of_repository(name) == 1) == fnmatchcase(name, glob)
