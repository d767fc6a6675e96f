"""The pages of the console, asked directly: what is found and shown, ratings, removal, and the rights of the routes."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from drift_bolt import pages as ours
from drift_bolt.bolt import Bolt
from drift_bolt.config import BoltConfig
from drift_bolt.model import ProfileUpload
from drift_bolt.problems import Invalid, Unknown
from drift_bolt.profile_toml import from_toml

from drift_core.api import EVERYTHING, Denied, Identity, Records, SupportsPages, pages
from drift_core.conformance import MemoryAuthenticator, MemoryIssuer, access_by, services

from . import samples
from .shelf import Shelf
from .test_publishing import plugin, publish_plugin

ANN, BOB = Identity("ann", "test"), Identity("bob", "test")


class Judged(Shelf):
    """A registry that believes the signatures of some versions."""

    def __init__(self) -> None:
        super().__init__()
        self.good: set[tuple[str, str]] = set()

    async def is_verified(self, repository: str, reference: str) -> bool:
        return (repository, reference) in self.good


@pytest.fixture
def shelf() -> Any:
    return Judged()


@pytest.fixture
def feature(records: Records, shelf: Any) -> Bolt:
    """A feature of a registry in which somebody has to log in, and has no right by that alone."""
    access = access_by([MemoryAuthenticator({}, MemoryIssuer({}))], [Nobody()])
    lent = services("bolt", records=records, access=access)
    bolt = Bolt(BoltConfig(enabled=True, enable_plugin_sandbox=False), lent)
    assert isinstance(bolt, SupportsPages)
    bolt.use(shelf)
    return bolt


class Nobody:
    """Lets nobody do anything, so that only who owns something may change it."""

    async def decide(self, identity: Identity | None, scopes: Any) -> Any:
        from drift_core.api import Verdict  # noqa: PLC0415

        return [Verdict(False, f"{identity} may not") for _ in scopes]


def asked(
    name: str = "", who: Identity | None = ANN, form: Mapping[str, str] | None = None, **query: str
) -> pages.Asked:
    return pages.Asked(who, {"name": name}, query, form or {}, "registry.example")


def page_of(feature: Bolt, path: str) -> pages.Page:
    (page,) = [one for one in feature.pages() if one.path == path]
    return page


def table(blocks: Any, title: str) -> pages.Table:
    (found,) = [one for one in blocks if isinstance(one, pages.Table) and one.title == title]
    return found


def names(found: pages.Table) -> list[str]:
    return [row[0].text for row in found.rows if isinstance(row[0], pages.Link)]


async def publish(feature: Bolt, name: str, who: Identity = ANN, **about: Any) -> None:
    sent = {"profile": samples.profile(name, priority=7), "metadata": samples.metadata(**about)}
    await feature.publish_profile(msgspec.convert(sent, ProfileUpload), who)


async def test_profiles_are_listed_and_found(feature: Bolt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "SHOWN", 2)
    page = page_of(feature, "/bolt/profiles")
    assert (page.menu, page.acts) == ("Bolt", {})
    assert table(await page.show(asked()), "Profiles").rows == []
    for number in range(3):
        await publish(feature, f"profile-{number}", tags=[f"tag-{number}"], compatible_games=[f"Game {number}"])
    blocks = await page.show(asked())
    figures = blocks[0]
    assert isinstance(figures, pages.Figures)
    assert [one.value for one in figures.figures] == [3, pages.Link("Plugins", "/bolt/plugins")]
    found = table(blocks, "Profiles")
    row = found.rows[0]
    assert row[0] == pages.Link("profile-0", "/bolt/profiles/profile-0")
    assert row[1:8] == ("1.0.0", "ann", "own example", "Game 0", "tag-0", 0, "no rating")
    assert found.more == pages.Link("More", "/bolt/profiles?page=2")
    second = table(await page.show(asked(page="2")), "Profiles")
    assert (names(second), second.more) == (["profile-2"], None)
    for query, expected in (
        ({"query": "PROFILE-1"}, ["profile-1"]),
        ({"tags": "tag-2, tag-0", "sort_by": "created_at"}, ["profile-2", "profile-0"]),
        ({"game": "game 1", "author": "ann"}, ["profile-1"]),
        ({"author": "nobody"}, []),
        ({"page": "x", "query": " "}, ["profile-0", "profile-1"]),
    ):
        assert names(table(await page.show(asked(**query)), "Profiles")) == expected, query
    with pytest.raises(Invalid):
        await page.show(asked(sort_by="name"))
    more = table(await page.show(asked(query="profile")), "Profiles").more
    assert more == pages.Link("More", "/bolt/profiles?query=profile&page=2")


async def test_one_profile(feature: Bolt, shelf: Any) -> None:
    for tags in (["old"], ["new", "both"]):
        await publish(feature, "shown", tags=tags)
    shelf.good.add(("bolt/profiles/shown", "1.1.0"))
    page = page_of(feature, "/bolt/profiles/{name}")
    blocks = await page.show(asked("shown"))
    facts = blocks[0]
    assert isinstance(facts, pages.Facts)
    rows = dict(facts.rows)
    assert (rows["Version"], rows["Tags"], rows["Signed"]) == ("1.1.0", "new, both", pages.State("verified", "good"))
    assert rows["Pull it by"] == pages.Copied("oras pull registry.example/bolt/profiles/shown:1.1.0")
    assert rows["Digest"] == pages.Copied(shelf.named["bolt/profiles/shown"]["1.1.0"])
    (text,) = [one for one in blocks if isinstance(one, pages.Text)]
    assert text.code
    assert from_toml(text.text.encode()).priority == 7
    versions = table(blocks, "Versions").rows
    assert versions[1][0] == pages.Link("1.0.0", "/bolt/profiles/shown?version=1.0.0")
    assert [row[1] for row in versions] == ["ann", "ann"]
    facts = (await page.show(asked("shown", version="1.0.0")))[0]
    assert isinstance(facts, pages.Facts)
    rows = dict(facts.rows)
    assert (rows["Version"], rows["Tags"], rows["Signed"]) == ("1.0.0", "old", pages.State("not verified"))
    for question in (asked("none"), asked("shown", version="9.0.0")):
        with pytest.raises(Unknown):
            await page.show(question)


async def test_plugins(feature: Bolt, shelf: Any) -> None:
    for platform in ("linux-x86_64", "linux-aarch64"):
        await publish_plugin(feature.publisher, shelf, plugin("helper", dependencies=["other"]), platform)
    shelf.good.add(("bolt/plugins/helper", "0.1.0"))
    every = page_of(feature, "/bolt/plugins")
    assert every.menu is None, "the list of profiles leads there"
    (row,) = table(await every.show(asked()), "Plugins").rows
    assert row[4:7] == ("GpuOptimization", "linux-x86_64, linux-aarch64", pages.State("verified", "good"))
    blocks = await page_of(feature, "/bolt/plugins/{name}").show(asked("helper"))
    facts = blocks[0]
    assert isinstance(facts, pages.Facts)
    rows = dict(facts.rows)
    assert (rows["Asks for"], rows["Depends on"], rows["Type"]) == ("GpuAccess", "other", "GpuOptimization")
    libraries = table(blocks, "Libraries").rows
    assert [(row[0], row[1]) for row in libraries] == [
        ("linux-aarch64", pages.Size(len("linux-aarch64"))),
        ("linux-x86_64", pages.Size(len("linux-x86_64"))),
    ]


async def test_ratings_and_removal(feature: Bolt) -> None:
    await publish(feature, "rated")
    page = page_of(feature, "/bolt/profiles/{name}")
    rate, remove = page.acts["rate"], page.acts["remove"]
    await rate.do(asked("rated", form={"rating": "2", "comment": ""}))
    await rate.do(asked("rated", BOB, {"rating": "5", "comment": "good"}))
    done = await rate.do(asked("rated", form={"rating": "4"}))
    assert done.message == "rated has 4.5 of 2."
    for form in ({}, {"rating": "6"}, {"rating": "x"}, {"rating": "4", "comment": "x" * 2001}):
        with pytest.raises(Invalid):
            await rate.do(asked("rated", form=form))
    with pytest.raises(Denied, match="belongs to ann"):
        await remove.do(asked("rated", BOB))
    assert (await remove.do(asked("rated"))).then == "/bolt/profiles"
    for act, form in ((rate, {"rating": "4"}), (remove, {})):
        with pytest.raises(Unknown):
            await act.do(asked("rated", form=form))


MATCHES = [
    ("/bolt/{kind}", None, "GET", "/v1/{kind}"),
    ("/bolt/{kind}/{name}", None, "GET", "/v1/{kind}/{name:str}"),
    ("/bolt/{kind}/{name}", None, "GET", "/v1/{kind}/{name:str}/versions"),
    ("/bolt/{kind}/{name}", "rate", "POST", "/v1/{kind}/{name:str}/ratings"),
    ("/bolt/{kind}/{name}", "remove", "DELETE", "/v1/{kind}/{name:str}"),
]
"""Each page and act, and the route that does the same."""


async def test_each_needs_what_its_route_needs(feature: Bolt) -> None:
    known: set[tuple[str, str | None]] = set()
    for kind in ("profiles", "plugins"):
        for path, act, method, route in MATCHES:
            page = page_of(feature, path.replace("{kind}", kind))
            needed = page.needs if act is None else page.acts[act].needs
            assert needed == option(feature, method, route.replace("{kind}", kind), "scope"), (path, act)
            known.add((page.path, act))
    assert known == {(page.path, act) for page in feature.pages() for act in (None, *page.acts)}


async def test_what_is_launched_or_handed_in_needs_its_right(feature: Bolt) -> None:
    assert option(feature, "POST", "/v1/containers", "scope") == EVERYTHING
    for method, path, right in (("GET", "profiles", "read"), ("POST", "submit", "write")):
        scope = option(feature, method, f"/v1/repository/{path}", "scope")
        assert str(scope) == f"bolt:profiles:{right}"


def option(feature: Bolt, method: str, path: str, name: str) -> Any:
    (handler,) = [
        handler
        for router in feature.routes()
        for route in router.routes
        if route.path == path
        for handler in route.route_handlers
        if method in handler.http_methods
    ]
    assert not handler.opt.get("public")
    return handler.opt.get(name)
