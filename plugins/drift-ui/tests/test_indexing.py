"""What lists show is what the registry says, however often and in which order its events are told."""

import time
from typing import Any

import pytest
from drift_ui import finding as finding_module
from drift_ui import following, indexing
from drift_ui.counting import Counting
from drift_ui.finding import Finding, Repositories
from drift_ui.following import Following
from drift_ui.indexing import DAY, Image
from drift_ui.permitting import Permitting
from drift_ui.querying import Query, read_query
from drift_ui.tables import grams, images, labels, layers, terms
from prometheus_client import CollectorRegistry
from sqlalchemy import delete, func, select, update

from drift_core.api import Event, Identity, LocalRegistry, Records, Verdict, Visible
from drift_core.conformance import access_by, services

from .shelf import INDEX, MANIFEST, Shelf, local

ANN = Identity("ann", "test")
LOG = services("ui").log


class Prefixes:
    """A policy that lets everybody pull what begins with one of some texts, and says so beforehand, or not."""

    def __init__(self, *prefixes: str) -> None:
        self._prefixes = prefixes

    async def decide(self, identity: Identity | None, scopes: Any) -> list[Verdict]:
        del identity
        return [Verdict(scope.action == "pull" and scope.name.startswith(self._prefixes)) for scope in scopes]


class Foreseen(Prefixes):
    async def visible(self, identity: Identity | None) -> Visible:
        del identity
        return Visible(tuple(f"{prefix}*" for prefix in self._prefixes))


class Anybody:
    async def authenticate(self, credentials: Any) -> Identity | None:
        del credentials
        return ANN

    def challenge(self, scopes: Any) -> str | None:
        del scopes
        return None


def finding_of(records: Records, *policies: Any) -> Finding:
    return Finding(records, Permitting(access_by([Anybody()] if policies else [], policies)))


class Place:
    """A shelf, and the console's tables that follow it."""

    def __init__(self, records: Records) -> None:
        self.shelf = Shelf()
        self.registry: LocalRegistry = local(self.shelf)
        self.following = Following(records, LOG)
        self.records = records
        self.finding = finding_of(records)

    async def take(self, event: Event) -> None:
        await self.following.take(self.registry, event)

    async def push(self, repository: str, tag: str, **fields: Any) -> Event:
        digest = self.shelf.put(repository, tag, **fields)
        event = self.shelf.event("manifest.push", repository, tag, digest=str(digest), actor="ann", **_at(fields))
        await self.take(event)
        return event

    async def names(self, text: str) -> list[str]:
        found, _ = await self.finding.search(None, read_query(text))
        return [row.name for row in found]

    async def images(self, text: str) -> list[str]:
        _, found = await self.finding.search(None, read_query(text))
        return [f"{row.repository}:{row.tag}" for row in found.rows]


def _at(fields: dict[str, Any]) -> dict[str, Any]:
    return {"at": fields["at"]} if "at" in fields else {}


@pytest.fixture
def place(records: Records) -> Place:
    return Place(records)


async def test_a_push_is_listed_once_however_often_it_is_told(place: Place) -> None:
    event = await place.push("team/app", "v1", labels={"maintainer": "ann"}, at=5000.0)
    await place.take(event)
    (row,), after = await place.finding.tags("team/app", "")
    assert (row.tag, row.platforms, row.pushed_by, row.pushed_at, after) == ("v1", "linux/amd64", "ann", 5000.0, None)
    totals = await place.finding.totals()
    assert (totals.repositories, totals.images) == (1, 1)
    (day,) = await place.finding.days("", 0)
    assert (day.pushes, day.pulls) == (1, 0)


async def test_a_tag_that_moves_is_one_image(place: Place) -> None:
    await place.push("app", "latest", layers=[b"one"])
    await place.push("app", "latest", layers=[b"another"], labels={"a": "b"})
    ((row,), _), totals = await place.finding.tags("app", ""), await place.finding.totals()
    assert row.digest == place.shelf.tags_of["app"]["latest"][0]
    assert totals.images == 1
    assert await place.images("label:a=b") == ["app:latest"]


async def test_what_is_deleted_is_no_more_listed(place: Place) -> None:
    await place.push("app", "v1", labels={"a": "b"})
    await place.push("app", "v2", layers=[b"two"])
    del place.shelf.tags_of["app"]["v1"]
    await place.take(place.shelf.event("tag.delete", "app", "v1"))
    digest, _ = place.shelf.tags_of["app"].pop("v2")
    await place.take(place.shelf.event("manifest.delete", "app", digest=str(digest)))
    assert await place.finding.tags("app", "") == ([], None)
    assert (await place.finding.totals()).images == 0
    assert await place.images("label:a") == []


async def test_an_event_that_comes_late_says_what_is_there_now(place: Place) -> None:
    digest = place.shelf.put("app", "v1")
    late = place.shelf.event("manifest.push", "app", "v1", digest=str(digest))
    del place.shelf.tags_of["app"]["v1"]
    await place.take(late)
    assert await place.finding.tags("app", "") == ([], None)


async def test_an_index_has_the_size_and_the_platforms_of_its_manifests(place: Place) -> None:
    children = []
    for platform in ("linux/amd64", "linux/arm64"):
        digest = place.shelf.put("app", platform.replace("/", "-"), platform=platform, layers=[platform.encode() * 10])
        os_name, architecture = platform.split("/")
        size = len(place.shelf.manifests[digest][1])
        child = {"mediaType": MANIFEST, "digest": str(digest), "size": size}
        children.append(child | {"platform": {"os": os_name, "architecture": architecture}})
    missing = {"mediaType": MANIFEST, "digest": f"sha256:{'0' * 64}", "size": 1, "platform": {"os": "unknown"}}
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [*children, missing]}
    digest = place.shelf.manifest_of("app", "all", INDEX, index, 1.0)
    await place.take(place.shelf.event("manifest.push", "app", "all", digest=str(digest)))
    ((row,), _) = await place.finding.tags("app", "")
    assert row.platforms == "linux/amd64, linux/arm64"
    assert 220 < row.size < 1000


async def test_a_signature_makes_what_it_is_of_verified(place: Place) -> None:
    await place.push("app", "v1")
    digest = place.shelf.tags_of["app"]["v1"][0]
    assert await place.images("signed:yes") == []
    place.shelf.verified.add(digest)
    await place.take(place.shelf.event("manifest.push", "app", digest="sha256:" + "1" * 64, subject=str(digest)))
    assert await place.images("signed:yes") == ["app:v1"]
    place.shelf.verified.clear()
    await place.take(
        place.shelf.event("manifest.push", "app", f"sha256-{digest.encoded}.sig", digest="sha256:" + "2" * 64)
    )
    assert await place.images("signed:no") == ["app:v1"]


@pytest.mark.parametrize("action", ["manifest.delete", "tag.delete"])
async def test_without_its_signature_nothing_is_verified_any_more(place: Place, action: str) -> None:
    await place.push("app", "v1")
    digest = place.shelf.tags_of["app"]["v1"][0]
    place.shelf.verified.add(digest)
    await place.take(place.shelf.event("manifest.push", "app", digest="sha256:" + "1" * 64, subject=str(digest)))
    assert await place.images("signed:yes") == ["app:v1"]
    place.shelf.verified.clear()
    tags = [f"sha256-{digest.encoded}.sig"] if action == "tag.delete" else []
    subject = None if tags else str(digest)
    await place.take(place.shelf.event(action, "app", *tags, digest="sha256:" + "1" * 64, subject=subject))
    assert await place.images("signed:no") == ["app:v1"]


async def test_a_comparison_mends_whatever_was_missed(place: Place) -> None:
    await place.push("vanished", "v1", labels={"a": "b"})
    await place.push("stays", "v1")
    await place.push("stays", "old")
    del place.shelf.tags_of["vanished"]
    del place.shelf.tags_of["stays"]["old"]
    place.shelf.put("stays", "v2", at=7000.0)
    for number in range(60):
        place.shelf.put("new/one", f"v{number}", at=float(number))
    place.shelf.tags_of["empty"] = {}
    await place.following.compare(place.registry)
    page = await place.finding.repositories(None, "name", "", "")
    assert [(row.name, row.images) for row in page.rows] == [("empty", 0), ("new/one", 60), ("stays", 2)]
    totals = await place.finding.totals()
    assert (totals.repositories, totals.images) == (3, 62)
    assert totals.compared_at > time.time() - 60
    assert await place.names("vanished") == []
    assert await place.images("label:a") == []
    kept = await place.records.read(lambda db: db.execute(select(func.count()).select_from(terms)).scalar())
    assert kept == len({("empty", "empty"), ("new/one", "n"), ("new", "n"), ("one", "n"), ("stays", "s")})
    held = await place.records.read(lambda db: db.execute(select(grams.c.term).where(grams.c.gram == " va")).all())
    assert held == []
    before = await place.finding.totals()
    await place.following.compare(place.registry)
    assert (await place.finding.totals())[:5] == before[:5]


async def test_images_of_an_older_version_are_looked_at_once_more(place: Place, records: Records) -> None:
    await place.push("app", "v1", layers=[b"one"])
    await place.push("app", "v2", layers=[b"two"])
    # As an older version has left it.
    await records.write(lambda db: db.execute(update(images).where(images.c.tag == "v1").values(layered=False)))
    await records.write(lambda db: db.execute(delete(layers)))
    await place.following.compare(place.registry)
    assert await place.images(f"layer:{place.shelf.blob(b'one')}") == ["app:v1"]
    assert await place.images(f"layer:{place.shelf.blob(b'two')}") == []
    rows, _ = await place.finding.tags("app", "")
    assert {row.pushed_by for row in rows} == {"ann"}
    del place.shelf.tags_of["app"]["v1"]
    await place.take(place.shelf.event("tag.delete", "app", "v1"))
    assert await records.read(lambda db: db.execute(select(func.count()).select_from(layers)).scalar()) == 0


async def test_pulls_are_added_up_by_tag_and_day(place: Place, records: Records) -> None:
    await place.push("app", "v1")
    counting = Counting(records, CollectorRegistry(), LOG)
    for tag in ("v1", "v1", ""):
        counting.note("app", tag)
    counting.note("unknown", "v1")
    await counting.flush()
    await counting.flush()
    ((row,), _), known = await place.finding.tags("app", ""), await place.finding.repository("app")
    assert (row.pulls, known.pulls, (await place.finding.totals()).pulls) == (2, 3, 4)
    today = int(time.time()) // DAY
    assert sum(day.pulls for day in await place.finding.days("", today - 1)) == 4
    assert sum(day.pulls for day in await place.finding.days("app", today - 1)) == 3


async def test_sizes_are_looked_up_afterwards(place: Place, records: Records) -> None:
    await place.push("app", "v1")
    assert await records.read(lambda db: indexing.stale_names(db, 10)) == ["app"]
    await records.write(lambda db: indexing.resize(db, {"app": 700}, 3))
    await records.write(lambda db: indexing.resize(db, {"app": 500, "gone": 1}, 4))
    assert await records.read(lambda db: indexing.stale_names(db, 10)) == []
    assert (await place.finding.totals()).size == 500
    assert [(day.day, day.size) for day in await place.finding.days("", 3)][:2] == [(3, 700), (4, 500)]


async def test_words_find_names_also_mistyped(place: Place) -> None:
    for name in ("team/postgres", "team/postgres-exporter", "other/redis", "post/office"):
        await place.push(name, "v1")
    assert await place.names("postgres") == ["team/postgres", "team/postgres-exporter"]
    assert await place.names("post") == ["post/office", "team/postgres", "team/postgres-exporter"]
    assert await place.names("team exporter") == ["team/postgres-exporter"]
    assert (await place.names("postgers"))[0] == "team/postgres"
    assert await place.names("rediss") == ["other/redis"]
    assert await place.names("team/postgres") == ["team/postgres", "team/postgres-exporter"]
    assert await place.names("zzzzzz") == []
    assert await place.names("repo:other/") == ["other/redis"]


async def test_filters_narrow_images_down(place: Place) -> None:
    await place.push("app", "v1", labels={"env": "prod"}, layers=[b"x" * 5000], at=1000.0)
    await place.push("app", "v2", labels={"env": "test"}, at=2000.0)
    await place.push("web", "v1", annotations={"env": "prod"}, at=3000.0)
    digest = place.shelf.tags_of["web"]["v1"][0]
    assert await place.images("tag:v1") == ["web:v1", "app:v1"]
    assert await place.images("app tag:v") == ["app:v2", "app:v1"]
    assert await place.images("label:env=prod") == ["web:v1", "app:v1"]
    assert await place.images("label:env") == ["web:v1", "app:v2", "app:v1"]
    assert await place.images("size>4KB") == ["app:v1"]
    assert await place.images("size<4KB repo:app") == ["app:v2"]
    assert await place.images(f"digest:{digest[:20]}") == ["web:v1"]
    assert await place.images("pushed>1d tag:v2") == ["app:v2"]
    layer = place.shelf.blob(b"x" * 5000)
    assert await place.images(f"layer:{layer}") == ["app:v1"]
    assert await place.images(f"layer:{layer.removeprefix('sha256:')[:12]} app") == ["app:v1"]
    assert await place.images(f"layer:{layer[:-1]}{'0' if layer[-1] != '0' else '1'}") == []
    assert await place.images("pushed<1d") == []
    assert await place.images("repo:app") == ["app:v2", "app:v1"]


async def test_the_best_images_come_first(place: Place) -> None:
    for repository, tag, at in (
        ("web", "v1", 1.0),
        ("web", "v1.2", 3.0),
        ("team/web", "v1", 4.0),
        ("web/two", "v9", 5.0),
    ):
        await place.push(repository, tag, at=at)
    assert await place.images("tag:v1") == ["team/web:v1", "web:v1", "web:v1.2"]
    assert await place.images("web tag:v1") == ["web:v1", "team/web:v1", "web:v1.2"]
    assert await place.images("web pushed>1h") == ["web:v1.2", "web:v1", "web/two:v9", "team/web:v1"]


@pytest.mark.parametrize("policy", [Prefixes, Foreseen])
async def test_only_what_somebody_may_pull_is_found(place: Place, policy: Any) -> None:
    def fill(db: Any) -> None:
        image = Image("v1", "sha256:" + "0" * 64, "m", "", 1, "", 1.0, "", False, {})
        for folder, count in (("closed", 70), ("open", 60)):
            for number in range(count):
                indexing.keep(db, f"{folder}/{number:02}", [image], (), at=float(number))

    await place.records.write(fill)
    finding = finding_of(place.records, policy("open/"))
    names: list[str] = []
    after: str | None = ""
    while after is not None:
        page = await finding.repositories(ANN, "name", "", after)
        names += [row.name for row in page.rows]
        after = page.after
    assert names == [f"open/{number:02}" for number in range(60)]
    found, images = await finding.search(ANN, read_query("closed"))
    assert (found, images.rows) == ([], [])
    _, images = await finding.search(ANN, read_query("tag:v1"))
    assert {row.repository[:5] for row in images.rows} == {"open/"}
    assert {row.repository[:5] for row in await finding.newest(ANN, 10)} <= {"open/"}
    assert all(name.startswith("open/") for name in await finding.suggestions(ANN))


@pytest.mark.parametrize("sort", ["updated", "size", "pulls"])
async def test_every_order_goes_on_where_a_page_ends(place: Place, records: Records, sort: Any) -> None:
    def fill(db: Any) -> None:
        for number in range(120):
            indexing.keep(db, f"r{number:03}", (), (), at=float(number % 7))

    await records.write(fill)
    sizes = {f"r{number:03}": number % 5 for number in range(120)}
    await records.write(lambda db: indexing.resize(db, sizes, 1))
    rows: list[Any] = []
    after: str | None = ""
    while after is not None:
        page = await place.finding.repositories(None, sort, "", after)
        rows += page.rows
        after = page.after
    column = {"updated": "updated_at"}.get(sort, sort)
    keys = [(getattr(row, column), row.name) for row in rows]
    assert len(set(keys)) == 120
    assert keys == sorted(keys, reverse=True)
    assert await place.finding.repositories(None, sort, "r00", "bad value") is not None


async def test_tags_come_page_by_page(place: Place) -> None:
    for number in range(70):
        place.shelf.put("app", f"v{number}", at=float(number // 3))
    await place.following.compare(place.registry)
    first, after = await place.finding.tags("app", "")
    assert after is not None
    second, end = await place.finding.tags("app", after)
    assert (len(first), len(second), end) == (50, 20, None)
    assert len({row.tag for row in [*first, *second]}) == 70


async def test_text_of_others_does_no_harm(place: Place) -> None:
    labels = {f"k{number}": "v" for number in range(60)} | {
        "x" * 300: "y" * 2_000_000,
        "": "nothing",
        "z\0z": "a\0b",
        "n": 7,
    }
    await place.push("app", "v1", labels=labels, annotations={"list": ["a"], "n": None})
    assert await place.images("label:k0=v") == ["app:v1"]


async def test_sizes_that_nobody_stores_are_bounded(place: Place) -> None:
    layer = {"mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar", "size": (1 << 62) - 1}
    layers = [layer | {"digest": f"sha256:{number:064x}"} for number in range(3)]
    digest = place.shelf.manifest_of("app", "large", MANIFEST, {"layers": layers}, 1.0)
    children = [{"mediaType": MANIFEST, "digest": str(digest), "size": 1}] * 2
    place.shelf.manifest_of("app", "index", INDEX, {"manifests": children}, 1.0)
    await place.take(place.shelf.event("manifest.push", "app", "large", "index"))
    rows, _ = await place.finding.tags("app", "")
    assert [row.size for row in rows] == [(1 << 63) - 1] * 2


async def test_one_repository_does_not_keep_the_others_unlisted(place: Place) -> None:
    for name in ("a", "broken", "z"):
        place.shelf.put(name, "v1")
    tags: Any = place.shelf.tags_of
    tags["broken"]["v1"] = ("no digest", None)
    await place.following.compare(place.registry)
    page = await place.finding.repositories(None, "name", "", "")
    assert [row.name for row in page.rows if row.images] == ["a", "z"]
    assert (await place.finding.totals()).compared_at > 0


async def test_many_tags_are_gone_a_part_at_a_time(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(8):
        place.shelf.put("app", f"v{number}")
    await place.following.compare(place.registry)
    place.shelf.tags_of["app"] = {}
    for module in (indexing, following):
        monkeypatch.setattr(module, "BATCH", 3)
    keep, parts = indexing.keep, list[int]()

    def noted(db: Any, repository: str, found: Any, gone: Any, **known: Any) -> None:
        parts.append(len(gone))
        keep(db, repository, found, gone, **known)

    monkeypatch.setattr(indexing, "keep", noted)
    await place.following.compare(place.registry)
    assert (max(parts), sum(parts), (await place.finding.totals()).images) == (3, 8, 0)


async def test_an_event_of_many_tags_is_one_push(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "BATCH", 2)
    tags = [f"v{number}" for number in range(5)]
    for tag in tags:
        place.shelf.put("app", tag)
    await place.take(place.shelf.event("manifest.push", "app", *tags))
    assert len((await place.finding.tags("app", ""))[0]) == 5
    assert [day.pushes for day in await place.finding.days("app", 0)] == [1]


async def test_labels_are_cut_by_bytes_and_found_all_the_same(place: Place) -> None:
    await place.push("app", "v1", labels={"\U0001f600" * 100: "\u20ac" * 400})
    (row,) = await place.records.read(lambda db: db.execute(select(labels.c.key, labels.c.value)).all())
    assert (len(row.key.encode()), len(row.value.encode())) == (252, 498)
    rows = await place.finding.search(None, Query(label=("\U0001f600" * 100, "\u20ac" * 400)))
    assert len(rows[1].rows) == 1


async def test_pulls_of_what_is_unknown_and_old_days_are_not_kept(place: Place, records: Records) -> None:
    today = int(time.time()) // DAY
    noted = {("unknown", "", today): 2, ("unknown", "", today - 61): 3, ("unknown", "", today - 59): 4}
    await records.write(lambda db: indexing.add_pulls(db, noted))
    assert await place.finding.days("unknown", 0) == []
    await place.following.compare(place.registry)
    assert [day.pulls for day in await place.finding.days("", 0)] == [4, 2]


class Broken:
    """Records that fail as no database should."""

    async def write(self, change: Any) -> None:
        raise OverflowError(change)


async def test_what_cannot_be_written_stays_whatever_failed(place: Place, records: Records) -> None:
    broken: Any = Broken()
    counting = Counting(broken, CollectorRegistry(), LOG)
    counting.note("app", "v1")
    await counting.flush()
    vars(counting)["_records"] = records
    await counting.flush()
    assert (await place.finding.totals()).pulls == 1


def listed(*names: str) -> Any:
    def fill(db: Any) -> None:
        image = Image("v1", "sha256:" + "0" * 64, "m", "", 1, "", 1.0, "", False, {"env": "prod"})
        for number, name in enumerate(names):
            indexing.keep(db, name, [image], (), at=float(number))

    return fill


async def test_a_page_gets_over_many_that_may_not_be_seen_and_names_none_of_them(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"open/a{number:02}" for number in range(20)] + [f"open/b{number}" for number in range(700)]
    names += [f"open/c{number:02}" for number in range(60)]
    await place.records.write(listed(*names))
    finding = finding_of(place.records, Prefixes("open/a", "open/c"))
    first = await finding.repositories(ANN, "name", "", "")
    assert [row.name for row in first.rows][19:21] == ["open/a19", "open/c00"]
    assert (len(first.rows), first.after) == (50, "open/c29")
    monkeypatch.setattr(finding_module, "ROUNDS", 3)
    monkeypatch.setattr(finding_module, "GAP", 60, raising=False)
    cut = await finding.repositories(ANN, "name", "", "")
    assert (len(cut.rows), cut.after) == (20, "open/a19")
    assert await finding.repositories(ANN, "name", "open/b", "") == Repositories([], None)


@pytest.mark.parametrize("policy", [Prefixes, Foreseen])
async def test_a_name_that_may_not_be_seen_hides_none_that_may(place: Place, policy: Any) -> None:
    await place.records.write(listed("closed/postgres", "open/postgras", "open/other"))
    finding = finding_of(place.records, policy("open/"))
    found, images = await finding.search(ANN, read_query("postgres"))
    assert [row.name for row in found] == ["open/postgras"]
    assert [row.repository for row in images.rows] == ["open/postgras"]


@pytest.mark.parametrize("policy", [Prefixes, Foreseen])
async def test_more_images_are_those_that_may_be_seen(
    place: Place, policy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finding_module, "LOOKED_AT", 5)
    await place.records.write(listed(*[f"closed/{number}" for number in range(9)], "open/one"))
    for text in ("tag:v1", "label:env=prod"):
        _, images = await finding_of(place.records, policy("open/")).search(ANN, read_query(text))
        assert not images.more
        if policy is Foreseen:
            assert [row.repository for row in images.rows] == ["open/one"]


@pytest.mark.parametrize("value", ["inf", "-inf", "nan", "1e999"])
async def test_a_cursor_that_no_page_made_is_none(place: Place, value: str) -> None:
    await place.push("app", "v1")
    assert (await place.finding.repositories(None, "updated", "", f"{value} app")).rows == []
    assert (await place.finding.tags("app", f"{value} v1"))[0] == []
