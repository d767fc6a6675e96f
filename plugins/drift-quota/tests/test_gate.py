"""What is refused, and what the client and the trail are told of it."""

from functools import partial
from typing import Any

import pytest
from drift_quota.ledger import count, fold
from drift_quota.quota import Quota

from drift_core.api import Action, Change, Denied, Digest, Identity, Records
from drift_core.conformance import MemoryAuditor, open_records

from .conftest import OpenQuota, push, remove

APP = "acme/app"


def change(size: int | None, action: Action = "blob.push", repository: str = APP, **fields: Any) -> Change:
    return Change(action=action, repository=repository, size=size, **fields)


async def refused(quota: Quota, asked: Change) -> Denied | None:
    try:
        await quota.admit(asked)
    except Denied as error:
        return error
    return None


async def test_a_push_fits_up_to_the_last_byte(open_feature: OpenQuota, records: Records) -> None:
    async with open_feature(repositories={"acme/*": "1KB"}) as quota:
        assert await refused(quota, change(1000)) is None
        assert await refused(quota, change(1001)) is not None
        await records.write(partial(push, repository=APP, size=400))
        assert await refused(quota, change(600)) is None
        assert await refused(quota, change(601)) is not None
        await records.write(partial(count, repository=APP))
        digest = await records.write(partial(push, repository=APP, size=600))
        assert await refused(quota, change(1)) is not None
        assert await refused(quota, change(0)) is None
        await records.write(fold)
        assert await refused(quota, change(1)) is not None
        await records.write(partial(remove, repository=APP, digest=digest, size=600))
        assert await refused(quota, change(600)) is None
        assert await refused(quota, change(10**15, repository="other/app")) is None


async def test_an_organization_is_the_sum_of_its_repositories(open_feature: OpenQuota, records: Records) -> None:
    async with open_feature(organizations={"acme": 1000}, default_repository=900) as quota:
        await records.write(partial(push, repository="acme/base", size=300))
        await records.write(partial(push, repository="acme", size=300))
        await records.write(partial(push, repository="acmeother/base", size=900))
        assert await refused(quota, change(400)) is None
        error = await refused(quota, change(401))
        assert error is not None
        assert error.detail == {"quota": "organization", "name": "acme", "limit": 1000, "used": 600, "asked": 401}
        error = await refused(quota, change(901))
        assert error is not None
        assert error.detail["quota"] == "repository"


async def test_a_refusal_has_the_figures(open_feature: OpenQuota, records: Records, kept: MemoryAuditor) -> None:
    digest, alice = Digest.of(b"x"), Identity("alice", "test")
    async with open_feature(organizations={"acme": "10GB"}) as quota:
        await records.write(partial(push, repository=APP, size=9_900_000_000))
        error = await refused(quota, change(200_000_000, digest=digest, identity=alice))
    assert error is not None
    assert error.message == (
        "the quota of the organization acme is 10 GB (10000000000 bytes), of which 9.9 GB (9900000000 bytes) are used; "
        "200 MB (200000000 bytes) more do not fit"
    )
    figures = {"quota": "organization", "name": "acme"}
    figures |= {"limit": 10_000_000_000, "used": 9_900_000_000, "asked": 200_000_000}
    assert error.detail == figures
    (event,) = kept.events
    assert (event.type, event.success, event.reason, event.identity) == ("QuotaExceeded", False, error.message, alice)
    assert (event.resource_type, event.resource_id, event.digest) == ("Repository", APP, digest)
    assert event.parameters == {**figures, "action": "blob.push"}


async def test_what_has_no_size_is_refused_once_the_limit_is_exceeded(
    open_feature: OpenQuota, records: Records
) -> None:
    asked = [change(None, "blob.mount", source="b"), change(5000, "manifest.push")]
    async with open_feature(repositories={APP: 1000}) as quota:
        assert set(quota.gated) == {"blob.push", "blob.mount", "manifest.push"}
        await records.write(partial(push, repository=APP, size=1000))
        assert [await refused(quota, one) for one in asked] == [None, None]
        assert await refused(quota, change(1, "blob.mount", source="b")) is not None
        await records.write(partial(push, repository=APP, size=1))
        errors = [await refused(quota, one) for one in asked]
        assert [error is not None and error.detail["asked"] for error in errors] == [0, 0]
        assert "until something is deleted" in str(errors[1])


async def test_another_limit_counts_from_the_next_start(open_feature: OpenQuota, records: Records) -> None:
    async with open_feature(repositories={APP: 1000}) as quota:
        await records.write(partial(push, repository=APP, size=1000))
        assert await refused(quota, change(1)) is not None
    async with open_feature(repositories={APP: 1001}) as quota:
        assert await refused(quota, change(1)) is None
    async with open_feature(repositories={APP: 999}) as quota:
        assert await refused(quota, change(0, "manifest.push")) is not None
    async with open_feature() as quota:
        assert await refused(quota, change(10**15)) is None


async def test_what_another_node_took_counts(
    open_feature: OpenQuota, records: Records, database_url: str | None
) -> None:
    if database_url is None:
        pytest.skip("SQLite has one node")
    async with (
        open_feature(repositories={APP: 1000}) as quota,
        open_records("quota", "drift_quota.migrations", database_url) as other,
    ):
        assert await refused(quota, change(1000)) is None
        await other.write(partial(push, repository=APP, size=1), concurrent=True)
        # A server asks what was committed before each request; here another change of this node makes it ask.
        await records.write(lambda _: None)
        assert await refused(quota, change(1000)) is not None


@pytest.mark.parametrize("database_url", [None])
async def test_nothing_is_asked_where_nothing_changed(
    open_feature: OpenQuota, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = 0
    read = type(records).read

    async def counted(self: Records, query: Any) -> Any:
        nonlocal reads
        reads += 1
        return await read(self, query)

    monkeypatch.setattr(type(records), "read", counted)
    monkeypatch.setattr("drift_quota.watching.SECONDS", 1000.0)
    async with open_feature(repositories={APP: 1000}) as quota:
        for _ in range(10):
            assert await refused(quota, change(1)) is None
        assert reads == 1
        for _ in range(10):
            assert await refused(quota, change(1, repository="free/app")) is None
        assert reads == 1
