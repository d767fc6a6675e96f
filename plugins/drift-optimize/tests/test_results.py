"""What is known of layers: one result for each form, the first form of a tar for all, and sums that add up."""

from functools import partial
from typing import Any

from drift_optimize.results import Result, canonical, known, save, stats
from msgspec import structs

from drift_core.api import Descriptor, Digest, Records

ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
FORM = "zstd:9:0.02"
TAR = Digest.of(b"a tar")


def described(name: bytes, size: int) -> Descriptor:
    return Descriptor(ZSTD, str(Digest.of(name)), size, annotations={"of": "a layer"})


def result(name: bytes, **keys: Any) -> Result:
    made: dict[str, Any] = {"form": FORM, "kind": "compression", "state": "optimized", "size": 100, "milliseconds": 5}
    if keys.get("state", "optimized") == "optimized":
        made |= {"diff_id": TAR, "descriptor": described(b"form of " + name, 60)}
    return Result(digest=Digest.of(name), **{**made, **keys})


async def write(records: Records, *results: Result) -> None:
    for one in results:
        await records.write(partial(save, result=one))


async def read(records: Records, name: bytes, form: str = FORM) -> Result | None:
    return await records.read(partial(known, digest=Digest.of(name), form=form))


async def test_what_was_saved_is_known(records: Records) -> None:
    made = result(b"layer", table=described(b"table", 3), message="how")
    await write(records, made)
    found = await read(records, b"layer")
    assert found is not None
    assert found.created_at > 0
    assert structs.replace(found, created_at=0.0) == made
    assert await read(records, b"layer", "gzip:9:0.02") is None
    assert await read(records, b"other") is None


async def test_the_last_result_counts(records: Records) -> None:
    await write(records, result(b"layer"), result(b"layer", state="failed", message="why", size=100))
    found = await read(records, b"layer")
    assert found is not None
    assert (found.state, found.message, found.descriptor, found.diff_id) == ("failed", "why", None, None)
    assert (await records.read(stats)).total_layers == 1


async def test_the_first_form_of_a_tar_is_for_all(records: Records) -> None:
    shared = structs.replace(result(b"second", kind="deduplication"), descriptor=described(b"form of first", 60))
    await write(records, result(b"failed", state="failed", diff_id=TAR), result(b"first"), shared)
    found = await records.read(partial(canonical, diff_id=TAR, form=FORM))
    assert found is not None
    assert found.digest == Digest.of(b"first")
    assert found.descriptor == described(b"form of first", 60)
    assert await records.read(partial(canonical, diff_id=TAR, form="gzip:9:0.02")) is None
    assert await records.read(partial(canonical, diff_id=Digest.of(b"another tar"), form=FORM)) is None


async def test_sums(records: Records) -> None:
    nothing = await records.read(stats)
    assert (nothing.total_layers, nothing.total_savings, nothing.compression_ratio) == (0, 0, 1.0)
    assert nothing.optimization_results == {}
    await write(
        records,
        result(b"a", size=1000, descriptor=described(b"A", 600)),
        result(b"b", size=500, descriptor=described(b"B", 450)),
        result(b"c", size=3000, descriptor=described(b"A", 600), kind="deduplication"),
        result(b"d", size=70, state="skipped", message="too small"),
        result(b"e", size=30, state="failed", message="damaged"),
    )
    sums = await records.read(stats)
    assert (sums.total_layers, sums.optimized_layers) == (5, 3)
    assert (sums.total_original_size, sums.total_optimized_size, sums.total_savings) == (4600, 1750, 2850)
    assert sums.compression_ratio == round(1650 / 4500, 4)
    assert sums.optimization_results == {
        "compression": {"count": 2, "total_savings": 450},
        "deduplication": {"count": 1, "total_savings": 2400},
    }
