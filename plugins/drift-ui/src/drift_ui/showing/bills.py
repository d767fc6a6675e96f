"""The page of a software bill of materials: SPDX and CycloneDX, as far as they are JSON and not too large."""

import asyncio
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, cast

from drift_core.api import LocalRegistry, pages
from drift_ui.documents import Document, NotReadable, decoded, list_of, read_blob, table_of
from drift_ui.showing.places import BILL, manifest_path, may_pull, read_named

LARGEST = 16 << 20
"""Bytes of a bill that is read."""

MOST_PACKAGES = 50_000
"""Packages of a bill that are looked through."""

AT_ONCE = 1
"""Bills that are in memory at a time: each is many times as large there."""

SHOWN = 1000
KINDS = ("spdx", "cyclonedx")


def is_bill(document: Document) -> bool:
    """Says whether an artifact is a bill of materials, by the media types that it states."""
    types = [document.kind, *(layer.media_type for layer in document.layers[:1])]
    return any(kind in one.lower() and "json" in one.lower() for one in types for kind in KINDS)


class Bills:
    """Shows what an image is made of, as an artifact says that refers to it."""

    def __init__(self, registry: LocalRegistry) -> None:
        self._registry = registry
        self._turn = asyncio.Semaphore(AT_ONCE)

    def own(self) -> list[pages.Page]:
        """Returns the one page."""
        return [pages.Page(BILL, "Bill of materials", self.show, needs=may_pull)]

    async def show(self, asked: pages.Asked) -> Sequence[pages.Block]:
        """See `Page`."""
        name = asked.path["name"]
        registry = self._registry.on_behalf(asked.identity)
        digest, document = await read_named(registry, name, asked.path["digest"])
        if not is_bill(document) or not document.layers:
            raise NotReadable("this is no bill of materials in JSON")
        words = asked.query.get("name", "")[:200].lower()
        async with self._turn:
            content = await read_blob(registry, name, document.layers[0].digest, LARGEST)
            title, shown, total = await asyncio.to_thread(_read, content, words)
        facts: list[tuple[str, pages.Cell]] = [("Format", title), ("Packages", total)]
        if total == MOST_PACKAGES:
            facts.append(("Not all", pages.State(f"only the first {total:,} were looked through", "warning")))
        facts.append(("Artifact", pages.Link(str(digest), manifest_path(name, str(digest)))))
        if document.subject:
            facts.append(("Of", pages.Link(document.subject, manifest_path(name, document.subject))))
        columns = ("Package", "Version", "Licence", "Identifier")
        find = pages.Form("", "Find", (pages.Field("name", "Package", value=words),))
        return (pages.Facts("", facts), find, pages.Table("Packages", columns, shown, "There is no such package."))


def _read(content: bytes, words: str) -> tuple[str, list[tuple[str, str, str, str]], int]:
    """Returns the format; name, version, licence and identifier of packages named so; and how many were looked at."""
    fields = table_of(decoded(content))
    if "spdxVersion" in fields:
        title, found = str(fields["spdxVersion"]), _spdx(fields.get("packages"))
    elif fields.get("bomFormat") == "CycloneDX":
        title, found = f"CycloneDX {fields.get('specVersion', '')}", _cyclonedx(fields.get("components"))
    else:
        raise NotReadable("it is neither SPDX 2 nor CycloneDX")
    shown: list[tuple[str, str, str, str]] = []
    total = 0
    for total, row in enumerate(islice(found, MOST_PACKAGES), 1):  # noqa: B007 - the last is how many there were
        if words in row[0].lower() and len(shown) < SHOWN:
            shown.append(row)
    return title[:100], shown, total


def _spdx(packages: Any) -> Iterator[tuple[str, str, str, str]]:
    for package in _tables(packages):
        references = _tables(package.get("externalRefs"))
        locator = next((one.get("referenceLocator") for one in references if one.get("referenceType") == "purl"), "")
        licence = package.get("licenseConcluded")
        licence = package.get("licenseDeclared") if licence in (None, "NOASSERTION") else licence
        yield _texts(package.get("name"), package.get("versionInfo"), licence, locator)


def _cyclonedx(components: Any) -> Iterator[tuple[str, str, str, str]]:
    for component in _tables(components):
        said = [
            one.get("expression") or _first(one.get("license"), "id", "name")
            for one in _tables(component.get("licenses"))
        ]
        licence = ", ".join(str(text) for text in said if text)
        yield _texts(component.get("name"), component.get("version"), licence, component.get("purl"))


def _tables(value: Any) -> Iterator[dict[str, Any]]:
    return (cast("dict[str, Any]", one) for one in list_of(value) if isinstance(one, dict))


def _first(value: Any, *names: str) -> Any:
    fields = table_of(value)
    return next((fields[name] for name in names if fields.get(name)), "")


def _texts(*values: Any) -> tuple[str, str, str, str]:
    name, version, licence, locator = (value[:500] if isinstance(value, str) else "" for value in values)
    return name, version, licence, locator
