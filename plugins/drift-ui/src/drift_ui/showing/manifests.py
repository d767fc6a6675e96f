"""The page of a manifest: what it is made of, what is said of it, and its bytes."""

from collections.abc import Mapping, Sequence

from drift_core.api import Descriptor, Digest, LocalRegistry, pages
from drift_ui.documents import INDEXES, Document, ImageConfig, read_config
from drift_ui.finding import Finding
from drift_ui.indexing import is_verified
from drift_ui.showing.bills import is_bill
from drift_ui.showing.places import (
    MANIFEST,
    bill_path,
    layer_path,
    manifest_path,
    may_pull,
    read_named,
    repository_path,
    short,
    with_query,
)

DEPTH = 3
"""How far from the manifest a referrer of a referrer is still shown."""

MOST_REFERRERS = 100
MOST_ROWS = 500
"""Rows of one table, of which a manifest may have any number."""

SHOWN_RAW = 256 << 10
"""Bytes of a manifest that are shown as they are."""


class Manifests:
    """Reads the registry itself: what is shown is what a client would get."""

    def __init__(self, finding: Finding, registry: LocalRegistry) -> None:
        self._finding = finding
        self._registry = registry

    def own(self) -> list[pages.Page]:
        """Returns the one page."""
        return [pages.Page(MANIFEST, "Manifest", self.show, needs=may_pull)]

    async def show(self, asked: pages.Asked) -> Sequence[pages.Block]:
        """See `Page`."""
        name, reference = asked.path["name"], asked.path["reference"]
        registry = self._registry.on_behalf(asked.identity)
        digest, document = await read_named(registry, name, reference)
        config = await read_config(registry, name, document)
        verified = await is_verified(registry, name, str(digest))
        # A signature is none of what is named by itself.
        blocks: list[pages.Block] = [
            await self._facts(asked, name, reference, digest, document, config, verified=verified)
        ]
        blocks += _children(name, document)
        blocks += _layers(name, document, config)
        blocks += _config(config)
        blocks += _texts("Annotations", document.annotations)
        blocks.append(await _referrers(registry, name, digest))
        raw = document.content[:SHOWN_RAW].decode("utf-8", "replace")
        return [*blocks, pages.Text(raw, "Manifest as it is stored", code=True)]

    async def _facts(
        self,
        asked: pages.Asked,
        name: str,
        reference: str,
        digest: Digest,
        document: Document,
        config: ImageConfig,
        *,
        verified: bool,
    ) -> pages.Block:
        by = f"{asked.host}/{name}" + (f"@{digest}" if reference == digest else f":{reference}")
        tags = ", ".join(row.tag for row in await self._finding.tags_of(name, str(digest)))
        rows: list[tuple[str, pages.Cell]] = [
            ("Repository", pages.Link(name, repository_path(name))),
            ("Digest", pages.Copied(str(digest))),
            ("Media type", document.media_type),
            ("Kind", document.kind or None),
            ("Tags", tags or None),
            ("Size", pages.Size(document.size)),
            ("Platform", config.platform or None),
            ("Created", config.created or None),
            ("Author", config.author or None),
            ("Signatures", pages.State("verified", "good") if verified else pages.State("not verified")),
            ("Pull", pages.Copied(f"docker pull {by}")),
            ("Compare", pages.Link("with another image", with_query("/compare", left=f"{name}@{digest}"))),
        ]
        if document.subject:
            rows.insert(4, ("Says something of", pages.Link(document.subject, manifest_path(name, document.subject))))
        if is_bill(document):
            rows.append(("Contents", pages.Link("Show the bill of materials", bill_path(name, str(digest)))))
        return pages.Facts("", rows)


async def _referrers(registry: LocalRegistry, name: str, digest: Digest) -> pages.Block:
    rows: list[Sequence[pages.Cell]] = []
    await _walk(registry, name, digest, 0, rows)
    columns = ("Artifact", "Digest", "Size", "Annotations")
    return pages.Table("What refers to it", columns, rows, "No signature, bill of materials or other artifact does.")


async def _walk(
    registry: LocalRegistry, name: str, digest: Digest, depth: int, rows: list[Sequence[pages.Cell]]
) -> None:
    async for found in registry.referrers(name, digest):
        if len(rows) >= MOST_REFERRERS:
            return
        rows.append(_referrer(name, found, depth))
        if depth + 1 < DEPTH:
            await _walk(registry, name, Digest.parse(found.digest), depth + 1, rows)


def _referrer(name: str, found: Descriptor, depth: int) -> Sequence[pages.Cell]:
    text = "↳ " * depth + (found.artifact_type or found.media_type)
    said = ", ".join(f"{key}={value[:100]}" for key, value in sorted((found.annotations or {}).items())[:10])
    link = pages.Link(text, manifest_path(name, found.digest))
    return (link, short(found.digest), pages.Size(found.size), said or None)


def _children(name: str, document: Document) -> Sequence[pages.Block]:
    if document.media_type not in INDEXES:
        return ()
    rows = [
        (
            pages.Link(child.platform or child.artifact_type or child.media_type, manifest_path(name, child.digest)),
            short(child.digest),
            pages.Size(child.size),
            ", ".join(f"{key}={value[:100]}" for key, value in sorted(child.annotations.items())[:10]) or None,
        )
        for child in document.children[:MOST_ROWS]
    ]
    columns = ("Platform", "Digest", "Size of the manifest", "Annotations")
    return (pages.Table("Manifests of this index", columns, rows, "It names no manifest."),)


def _layers(name: str, document: Document, config: ImageConfig) -> Sequence[pages.Block]:
    if document.media_type in INDEXES:
        return ()
    steps = [step for step in config.history if not step.empty]
    # Only where there are as many steps as layers is it known which made which.
    commands = [step.command for step in steps] if len(steps) == len(document.layers) else []
    rows = [
        (
            place + 1,
            pages.Link(layer.digest[:19], layer_path(name, layer.digest)) if document.is_image else layer.digest[:19],
            pages.Size(layer.size),
            commands[place] if commands else layer.annotations.get("org.opencontainers.image.title"),
            layer.media_type,
        )
        for place, layer in enumerate(document.layers[:MOST_ROWS])
    ]
    columns = ("#", "Layer", "Size", "Made by", "Media type")
    found: list[pages.Block] = [pages.Table("Layers", columns, rows, "It has no layers.")]
    if config.history and not commands:
        history = [
            (step.command, step.created, "no layer" if step.empty else "") for step in config.history[:MOST_ROWS]
        ]
        found.append(pages.Table("History", ("Command", "Created", "Remark"), history))
    return found


def _config(config: ImageConfig) -> Sequence[pages.Block]:
    found: list[pages.Block] = []
    if config.settings:
        found.append(pages.Facts("Configuration", list(config.settings)))
    return [*found, *_texts("Labels", config.labels)]


def _texts(title: str, found: Mapping[str, str]) -> Sequence[pages.Block]:
    rows = sorted(found.items())[:MOST_ROWS]
    return (pages.Table(title, ("Name", "Value"), rows),) if rows else ()
