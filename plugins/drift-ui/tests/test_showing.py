"""Pages over a registry in memory: whom it is asked for, and what is bounded, whatever an image holds."""

import asyncio
import json
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from drift_ui import documents
from drift_ui.documents import config_of, read_config, read_document
from drift_ui.finding import Finding
from drift_ui.layers import Layers
from drift_ui.permitting import Permitting
from drift_ui.showing import bills, comparing
from drift_ui.showing.bills import Bills
from drift_ui.showing.comparing import Comparing
from drift_ui.showing.files import Files
from drift_ui.showing.manifests import Manifests

from drift_core.api import Denied, Identity, Records, pages
from drift_core.conformance import access_by, services

from .shelf import MANIFEST, Shelf, local
from .test_layers import member, tar_of

ANN = Identity("ann", "test")


def asked(query: dict[str, str] | None = None, identity: Identity | None = ANN, **path: str) -> pages.Asked:
    return pages.Asked(identity, path, query or {}, {}, "registry.test")


def table(blocks: Sequence[pages.Block], title: str) -> pages.Table:
    return next(block for block in blocks if isinstance(block, pages.Table) and block.title.startswith(title))


async def test_pages_read_as_who_asks_and_what_they_ask_for(records: Records) -> None:
    shelf = Shelf()
    layer = tar_of(member("hello"))
    digest = shelf.put("team/app", "v1", layers=[layer])
    finding, registry, access = Finding(records, Permitting(access_by())), local(shelf), access_by()
    await Manifests(finding, registry).show(asked(name="team/app", reference="v1"))
    assert (shelf.asked, shelf.read) == ([ANN], ["v1"])
    await Files(registry, Layers()).show(asked(name="team/app", digest=shelf.blob(layer)))
    images = {"left": "team/app:v1", "right": f"team/app@{digest}"}
    await Comparing(registry, Layers(), access, services("ui").audit).show(asked(images))
    assert set(shelf.asked) == {ANN}
    assert shelf.read == ["v1", "v1", str(digest)]


async def test_what_a_gate_refuses_is_not_shown(records: Records) -> None:
    class Gated(Shelf):
        async def manifest(self, repository: str, reference: Any) -> tuple[str, bytes]:
            if reference == "v1" and self.asked[-1:] == [ANN]:
                raise Denied
            return await super().manifest(repository, reference)

    registry: Any = Gated()
    registry.put("app", "v1")
    with pytest.raises(Denied):
        await Manifests(Finding(records, Permitting(access_by())), registry).show(asked(name="app", reference="v1"))


def bill(shelf: Shelf, content: dict[str, Any]) -> str:
    blob = json.dumps(content).encode()
    kind = "application/spdx+json"
    layers = [{"mediaType": kind, "digest": shelf.blob(blob), "size": len(blob)}]
    return str(shelf.manifest_of("app", "bill", MANIFEST, {"artifactType": kind, "layers": layers}, 1.0))


async def test_bills_are_looked_through_as_far_as_they_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bills, "MOST_PACKAGES", 10)
    monkeypatch.setattr(bills, "SHOWN", 3)
    shelf = Shelf()
    digest = bill(shelf, {"spdxVersion": "SPDX-2.3", "packages": [{"name": f"p{number}"} for number in range(20)]})
    blocks = await Bills(local(shelf)).show(asked(name="app", digest=digest))
    (facts, *_) = blocks
    assert isinstance(facts, pages.Facts)
    assert dict(facts.rows)["Packages"] == 10
    assert "the first 10" in str(dict(facts.rows)["Not all"])
    assert [row[0] for row in table(blocks, "Packages").rows] == ["p0", "p1", "p2"]
    blocks = await Bills(local(shelf)).show(asked({"name": "P9"}, name="app", digest=digest))
    assert [row[0] for row in table(blocks, "Packages").rows] == ["p9"]


async def test_one_bill_is_in_memory_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf()
    digest = bill(shelf, {"spdxVersion": "SPDX-2.3"})
    page = Bills(local(shelf))
    now, most = 0, 0

    async def counted(*arguments: Any) -> bytes:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        content = await documents.read_blob(*arguments)
        now -= 1
        return content

    monkeypatch.setattr(bills, "read_blob", counted)
    await asyncio.gather(*(page.show(asked(name="app", digest=digest)) for _ in range(3)))
    assert most == 1


async def test_the_files_of_images_are_compared_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf()
    for side in ("left", "right"):
        layers = [tar_of(*(member(f"{side}{layer}{number}") for number in range(10))) for layer in range(3)]
        shelf.put("app", side, layers=layers)
    page = Comparing(local(shelf), Layers(), access_by(), services("ui").audit)
    query = {"left": "app:left", "right": "app:right", "files": "1"}
    assert len(table(await page.show(asked(query)), "Files").rows) == 60
    monkeypatch.setattr(comparing, "MOST_FILES", 15)
    monkeypatch.setattr(comparing, "SHOWN", 4)
    found = table(await page.show(asked(query)), "Files")
    assert (found.title, len(found.rows)) == (
        "Files (the first 4 of 30 differences, of the first 15 files of each)",
        4,
    )


def test_a_configuration_is_read_within_bounds() -> None:
    content = {
        "history": [{"created_by": "RUN"}] * 1500,
        "config": {"Labels": {f"k{number}": "v" for number in range(6000)}},
    }
    config = config_of(json.dumps(content).encode())
    assert (len(config.history), len(config.labels)) == (1000, 5000)


async def test_what_is_large_is_decoded_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf()
    digest = shelf.put("app", "small")
    large = shelf.put("app", "large", labels={"a": "b" * 70_000}, annotations={"a": "b" * 70_000})
    threads: list[bool] = []
    table_of = documents.table_of

    def noted(value: Any) -> dict[str, Any]:
        threads.append(threading.current_thread() is threading.main_thread())
        return table_of(value)

    monkeypatch.setattr(documents, "table_of", noted)
    for one, here in ((digest, True), (large, False)):
        threads.clear()
        registry = local(shelf)
        await read_config(registry, "app", await read_document(registry, "app", one))
        assert set(threads) == {here}
