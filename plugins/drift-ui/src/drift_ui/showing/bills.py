"""The page of a software bill of materials: SPDX and CycloneDX, as far as they are JSON and not too large."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any, cast

from drift_core.api import LocalRegistry, pages
from drift_ui.documents import Document, NotReadable, decoded, list_of, read_blob, read_document, table_of
from drift_ui.showing.places import BILL, manifest_path, may_pull, resolved

LARGEST = 16 << 20
"""Bytes of a bill that is read."""

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

    def own(self) -> list[pages.Page]:
        """Returns the one page."""
        return [pages.Page(BILL, "Bill of materials", self.show, needs=may_pull)]

    async def show(self, asked: pages.Asked) -> Sequence[pages.Block]:
        """See `Page`."""
        name = asked.path["name"]
        digest = await resolved(self._registry, name, asked.path["digest"])
        document = await read_document(self._registry, name, digest)
        if not is_bill(document) or not document.layers:
            raise NotReadable("this is no bill of materials in JSON")
        content = await read_blob(self._registry, name, document.layers[0].digest, LARGEST)
        title, rows, total = await asyncio.to_thread(_read, content)
        facts: list[tuple[str, pages.Cell]] = [("Format", title), ("Packages", total)]
        facts.append(("Artifact", pages.Link(str(digest), manifest_path(name, str(digest)))))
        if document.subject:
            facts.append(("Of", pages.Link(document.subject, manifest_path(name, document.subject))))
        words = asked.query.get("name", "")[:200].lower()
        shown = [row for row in rows if words in row[0].lower()][:SHOWN]
        columns = ("Package", "Version", "Licence", "Identifier")
        find = pages.Form("", "Find", (pages.Field("name", "Package", value=words),))
        return (pages.Facts("", facts), find, pages.Table("Packages", columns, shown, "There is no such package."))


def _read(content: bytes) -> tuple[str, list[tuple[str, str, str, str]], int]:
    """Returns the format, name, version, licence and identifier of each package, and how many there are."""
    fields = table_of(decoded(content))
    if "spdxVersion" in fields:
        rows = list(_spdx(fields.get("packages")))
        return str(fields["spdxVersion"])[:100], rows, len(rows)
    if fields.get("bomFormat") == "CycloneDX":
        rows = list(_cyclonedx(fields.get("components")))
        return f"CycloneDX {fields.get('specVersion', '')}"[:100], rows, len(rows)
    raise NotReadable("it is neither SPDX 2 nor CycloneDX")


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


def _tables(value: Any) -> list[dict[str, Any]]:
    return [cast("dict[str, Any]", one) for one in list_of(value) if isinstance(one, dict)]


def _first(value: Any, *names: str) -> Any:
    fields = table_of(value)
    return next((fields[name] for name in names if fields.get(name)), "")


def _texts(*values: Any) -> tuple[str, str, str, str]:
    name, version, licence, locator = (value[:500] if isinstance(value, str) else "" for value in values)
    return name, version, licence, locator
