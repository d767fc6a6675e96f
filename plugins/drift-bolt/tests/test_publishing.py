"""Versions: gapless and distinct, never changed, and whole again after whoever published them has died."""

import asyncio
import json
from collections.abc import Callable
from functools import partial
from io import BytesIO
from typing import Any

import msgspec
import pytest
from drift_bolt import catalog, figures
from drift_bolt.model import PluginUpload, ProfileUpload
from drift_bolt.model import PluginUploadMetadata as About
from drift_bolt.publishing import Publisher

from drift_core.api import Denied, Digest, Records, RegistryError, Unavailable
from drift_core.conformance import Trail, access_by

from . import samples
from .shelf import Shelf


@pytest.fixture
def publisher(records: Records) -> Publisher:
    return Publisher(records, access_by(), Trail())


@pytest.fixture
def shelf() -> Any:
    return Shelf()


def upload(name: str, **changes: Any) -> ProfileUpload:
    sent = {"profile": samples.profile(name, **changes), "metadata": samples.metadata()}
    return msgspec.convert(sent, ProfileUpload)


def plugin(name: str, version: str = "0.1.0", **changes: Any) -> PluginUpload:
    sent = {"manifest": samples.plugin(name, version, **changes), "metadata": samples.about()}
    return msgspec.convert(sent, PluginUpload)


async def publish_plugin(
    publisher: Publisher, shelf: Any, sent: PluginUpload, platform: str, author: str = "ann"
) -> catalog.Version:
    library = platform.encode()
    return await publisher.plugin(
        shelf, sent, BytesIO(library), Digest.of(library), len(library), platform, author, None
    )


async def versions(records: Records, kind: catalog.Kind, name: str) -> list[catalog.Version]:
    def read(db: Any) -> list[catalog.Version]:
        return catalog.all_versions(db, catalog.find(db, kind, name))

    return await records.read(read)


@pytest.mark.parametrize("number", [40, pytest.param(200, marks=pytest.mark.soak)])
async def test_concurrent_uploads_get_distinct_versions_without_a_gap(
    records: Records, publisher: Publisher, shelf: Any, number: int
) -> None:
    sent = [upload("same", priority=priority) for priority in range(number)]
    made = await asyncio.gather(*(publisher.profile(shelf, one, "ann") for one in sent))
    assert sorted(version.number for version in made) == list(range(1, number + 1))
    assert {version.version for version in made} == {f"1.{minor}.0" for minor in range(number)}
    known = await versions(records, "profile", "same")
    assert {version.version: version.digest for version in known} == shelf.named["bolt/profiles/same"]
    for one, version in zip(sent, made, strict=True):
        assert msgspec.json.decode(version.document, type=ProfileUpload) == one
    entry = await records.read(partial(catalog.find, kind="profile", name="same"))
    assert (entry.number, entry.version) == (number, f"1.{number - 1}.0")
    assert (await records.read(figures.sums)).profiles == 1


async def test_concurrent_platforms_are_all_in_the_index(records: Records, publisher: Publisher, shelf: Any) -> None:
    platforms = [f"linux-machine{number}" for number in range(12)]
    await asyncio.gather(*(publish_plugin(publisher, shelf, plugin("wide"), platform) for platform in platforms))
    (version,) = await versions(records, "plugin", "wide")
    digest = shelf.named["bolt/plugins/wide"]["0.1.0"]
    assert version.digest == digest
    index = json.loads(shelf.manifests["bolt/plugins/wide", digest][1])
    assert sorted(one["platform"]["architecture"] for one in index["manifests"]) == sorted(
        platform.removeprefix("linux-") for platform in platforms
    )


async def test_a_tag_that_is_set_late_is_set_again(records: Records, publisher: Publisher, shelf: Any) -> None:
    """The first upload sets the tag behind the second one, whose index has both platforms."""
    push, late, first = shelf.push_manifest, asyncio.Event(), asyncio.Event()

    async def slowly(*arguments: Any, **options: Any) -> None:
        if arguments[4] and not first.is_set():
            first.set()
            await late.wait()
        await push(*arguments, **options)

    shelf.push_manifest = slowly
    begun = asyncio.create_task(publish_plugin(publisher, shelf, plugin("late"), "linux-x86_64"))
    await first.wait()
    await publish_plugin(publisher, shelf, plugin("late"), "linux-aarch64")
    late.set()
    await begun
    (version,) = await versions(records, "plugin", "late")
    assert shelf.named["bolt/plugins/late"]["0.1.0"] == version.digest


async def test_a_version_of_a_plugin_is_not_changed(publisher: Publisher, shelf: Any) -> None:
    await publish_plugin(publisher, shelf, plugin("fixed"), "linux-x86_64")
    before = dict(shelf.named["bolt/plugins/fixed"])
    others: list[tuple[str, str, dict[str, Any]]] = [
        ("linux-x86_64", "ann", {}),
        ("linux-aarch64", "ann", {"description": "another"}),
        ("linux-aarch64", "bob", {}),
    ]
    for platform, author, changes in others:
        with pytest.raises(RegistryError) as error:
            await publish_plugin(publisher, shelf, plugin("fixed", **changes), platform, author)
        assert error.value.status == 409
    assert shelf.named["bolt/plugins/fixed"] == before


async def test_what_somebody_left_is_finished_by_others(records: Records, publisher: Publisher, shelf: Any) -> None:
    await publisher.profile(shelf, upload("left"), "ann")

    def die(*_: object) -> None:
        raise Unavailable("the process was killed")

    shelf.before_tag = die
    with pytest.raises(Unavailable):
        await publisher.profile(shelf, upload("left", priority=1), "ann")
    shelf.before_tag = lambda *_: None
    assert [version.version for version in await versions(records, "profile", "left")] == ["1.0.0"]
    assert await publisher.finish(shelf, 3600) == 0, "somebody may still be at it"
    assert await publisher.finish(shelf, -1) == 1
    assert [version.version for version in await versions(records, "profile", "left")] == ["1.1.0", "1.0.0"]
    assert "1.1.0" in shelf.named["bolt/profiles/left"]
    assert await publisher.finish(shelf, -1) == 0


async def test_what_cannot_be_finished_is_forgotten(records: Records, publisher: Publisher, shelf: Any) -> None:
    def die(*_: object) -> None:
        raise Unavailable("the process was killed")

    shelf.before_tag = die
    with pytest.raises(Unavailable):
        await publisher.profile(shelf, upload("lost"), "ann")
    shelf.manifests.clear()
    assert await publisher.finish(shelf, -1) == 1
    assert await publisher.finish(shelf, -1) == 0
    assert (await records.read(figures.sums)).bytes == 0


async def test_deleting_goes_back_to_the_version_before(records: Records, publisher: Publisher, shelf: Any) -> None:
    for priority in range(3):
        await publisher.profile(shelf, upload("three", priority=priority), "ann")
    held = (await records.read(figures.sums)).bytes
    named = shelf.named["bolt/profiles/three"]
    await publisher.untagged(shelf, "profile", "three", ["1.2.0"])
    assert len(await versions(records, "profile", "three")) == 3, "its tag is still there"
    del named["1.2.0"]
    await publisher.untagged(shelf, "profile", "three", ["1.2.0"])
    entry = await records.read(partial(catalog.find, kind="profile", name="three"))
    assert entry.version == "1.1.0"
    assert 0 < (await records.read(figures.sums)).bytes < held
    await publisher.delete(shelf, "profile", "three", "ann", None)
    assert not named
    found = await records.read(figures.sums)
    assert (found.profiles, found.bytes) == (0, 0)
    again = await publisher.profile(shelf, upload("three"), "ann")
    assert again.version == "1.3.0", "what was 1.0.0 once is never something else"


async def test_a_version_is_seen_while_a_platform_is_added(records: Records, publisher: Publisher, shelf: Any) -> None:
    await publish_plugin(publisher, shelf, plugin("seen"), "linux-x86_64")

    def die(*_: object) -> None:
        raise Unavailable("the process was killed")

    shelf.before_tag = die
    more = msgspec.structs.replace(plugin("seen"), metadata=msgspec.convert(samples.about("linux-riscv64gc"), About))
    with pytest.raises(Unavailable):
        await publish_plugin(publisher, shelf, more, "linux-riscv64gc")
    shelf.before_tag = lambda *_: None
    assert len(await versions(records, "plugin", "seen")) == 1
    assert await publisher.finish(shelf, -1) == 1
    (version,) = await versions(records, "plugin", "seen")
    assert shelf.named["bolt/plugins/seen"] == {"0.1.0": version.digest}
    entry = await records.read(partial(catalog.find, kind="plugin", name="seen"))
    assert entry.summary.supported_platforms == ("linux-x86_64", "linux-aarch64", "linux-riscv64gc")
    assert (await records.read(figures.sums)).plugins == 1


async def test_a_tag_that_a_gate_refuses_is_forgotten(publisher: Publisher, shelf: Any) -> None:
    def refuse(*_: object) -> None:
        raise Denied("a gate")

    shelf.before_tag = refuse
    with pytest.raises(Denied):
        await publisher.profile(shelf, upload("gated"), "ann")
    assert await publisher.finish(shelf, -1) == 1
    assert await publisher.finish(shelf, -1) == 0


async def test_a_refusal_of_a_push_leaves_nothing(records: Records, publisher: Publisher, shelf: Any) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise Denied("a gate")

    shelf.push_blob = refuse
    with pytest.raises(Denied):
        await publisher.profile(shelf, upload("refused"), "ann")
    assert await records.read(partial(catalog.unfinished, before=9e9)) == []


async def test_downloads_are_added_up_once(records: Records, publisher: Publisher, shelf: Any) -> None:
    version = await publisher.profile(shelf, upload("pulled"), "ann")
    write: Callable[[Any], None] = partial(figures.downloaded, entry=version.entry)
    await asyncio.gather(*(records.write(write, concurrent=True) for _ in range(50)))
    assert await records.read(partial(figures.waiting, entry=version.entry)) == 50
    while await records.read(figures.anything_waits):
        await asyncio.gather(*(records.write(partial(figures.fold, most=20)) for _ in range(2)))
    entry = await records.read(partial(catalog.find, kind="profile", name="pulled"))
    found = await records.read(figures.sums)
    assert (entry.downloads, found.downloads, sum(found.daily.values())) == (50, 50, 50)


async def test_users_are_counted_once(records: Records) -> None:
    for name in ("ann", "bob", "ann"):
        await records.write(partial(figures.seen, name=name))
    await records.write(figures.count_users)
    assert (await records.read(figures.sums)).active_users == 2


async def test_what_is_left_after_a_deletion_is_what_lists_and_searches_say(
    records: Records, publisher: Publisher, shelf: Any
) -> None:
    from drift_bolt import finding  # noqa: PLC0415
    from drift_bolt.model import SearchRequest  # noqa: PLC0415

    async def found(query: str) -> int:
        wanted = SearchRequest(query=query)
        return (await records.read(partial(finding.search, kind="profile", wanted=wanted))).total

    for text, tags in (("of the first days", ["early"]), ("of later times", ["late", "both"])):
        sent = upload("changing", description=text)
        about = msgspec.structs.replace(sent.metadata, tags=tuple(tags))
        await publisher.profile(shelf, msgspec.structs.replace(sent, metadata=about), "ann")
    del shelf.named["bolt/profiles/changing"]["1.1.0"]
    await publisher.untagged(shelf, "profile", "changing", ["1.1.0"])
    entry = await records.read(partial(catalog.find, kind="profile", name="changing"))
    assert (entry.version, entry.description, entry.summary.tags) == ("1.0.0", "of the first days", ("early",))
    assert (await found("first days"), await found("later times")) == (1, 0)
    assert (await records.read(partial(figures.sums_of, kind="profile"))).by_category == {"early": 1}


async def test_a_platform_that_is_refused_leaves_the_version_as_it_was(
    records: Records, publisher: Publisher, shelf: Any
) -> None:
    """Such as where the tags of plugins are immutable: an index with another platform is another one."""
    first = await publish_plugin(publisher, shelf, plugin("fixed"), "linux-x86_64")
    before = (await records.read(figures.sums)).bytes

    def refuse(*_: Any) -> None:
        raise Denied("the tag is immutable")

    shelf.before_tag = refuse
    with pytest.raises(Denied):
        await publish_plugin(publisher, shelf, plugin("fixed"), "linux-aarch64")
    assert await publisher.finish(shelf, 0) == 1
    (version,) = await versions(records, "plugin", "fixed")
    assert (version.version, version.digest, version.pending) == ("0.1.0", first.digest, False)
    files = await records.read(partial(catalog.files, entry=version.entry, number=version.number))
    assert [file.platform for file in files] == ["linux-x86_64"]
    assert (await records.read(figures.sums)).bytes == before
    assert await publisher.finish(shelf, 0) == 0


async def test_what_was_added_meanwhile_is_not_taken_back(records: Records, publisher: Publisher, shelf: Any) -> None:
    older = await publish_plugin(publisher, shelf, plugin("meanwhile"), "linux-x86_64")
    newer = await publish_plugin(publisher, shelf, plugin("meanwhile"), "linux-aarch64")

    def platforms(db: Any) -> set[str]:
        return {file.platform for file in catalog.files(db, newer.entry, newer.number)}

    await records.write(partial(catalog.withdraw, version=older, digest=older.digest, kept=()))
    assert await records.read(platforms) == {"linux-x86_64", "linux-aarch64"}
    await records.write(partial(catalog.withdraw, version=newer, digest=newer.digest, kept=()))
    assert await records.read(platforms) == set()
