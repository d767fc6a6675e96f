"""What the console uses of `LocalRegistry`, over images in memory."""

import json
from collections.abc import AsyncIterator, Collection, Mapping
from typing import Any, Self

from drift_core.api import BlobUnknown, Descriptor, Digest, Event, Identity, ManifestUnknown, Tag

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


class Shelf:
    """A registry whose tags, manifests and blobs a test sets."""

    max_manifest_size = 4 << 20

    def __init__(self) -> None:
        self.tags_of: dict[str, dict[str, tuple[Digest, float]]] = {}
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.blobs: dict[str, bytes] = {}
        self.verified: set[str] = set()
        self.events = 0
        # By whom it was asked, and for which manifests.
        self.asked: list[Identity | None] = []
        self.read: list[str] = []

    def put(
        self,
        repository: str,
        tag: str,
        *,
        labels: Mapping[str, Any] | None = None,
        layers: Collection[bytes] = (b"layer",),
        annotations: Mapping[str, Any] | None = None,
        platform: str = "linux/amd64",
        at: float = 1000.0,
    ) -> Digest:
        """Keeps an image under a tag."""
        os_name, _, architecture = platform.partition("/")
        config = json.dumps({"os": os_name, "architecture": architecture, "config": {"Labels": labels or {}}}).encode()
        parts = [{"mediaType": LAYER, "digest": self.blob(layer), "size": len(layer)} for layer in layers]
        fields = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": self.blob(config), "size": len(config)},
            "layers": parts,
            "annotations": annotations or {},
        }
        return self.manifest_of(repository, tag, MANIFEST, fields, at)

    def manifest_of(self, repository: str, tag: str, media_type: str, fields: Mapping[str, Any], at: float) -> Digest:
        content = json.dumps(fields).encode()
        digest = Digest.of(content)
        self.manifests[digest] = (media_type, content)
        self.tags_of.setdefault(repository, {})[tag] = (digest, at)
        return digest

    def blob(self, content: bytes) -> str:
        digest = Digest.of(content)
        self.blobs[digest] = content
        return str(digest)

    def event(self, action: Any, repository: str, *tags: str, at: float = 1000.0, **fields: Any) -> Event:
        """Returns the next event."""
        self.events += 1
        return Event(id=self.events, at=at, action=action, repository=repository, tags=tags, **fields)

    # Of `LocalRegistry`.

    async def tagged(self, repository: str, tags: Collection[str]) -> dict[str, Digest]:
        known = self.tags_of.get(repository, {})
        return {tag: known[tag][0] for tag in tags if tag in known}

    def on_behalf(self, identity: Identity | None) -> Self:
        self.asked.append(identity)
        return self

    async def manifest(self, repository: str, reference: Digest | str) -> tuple[str, bytes]:
        self.read.append(reference)
        named = self.tags_of.get(repository, {}).get(reference)
        digest = reference if named is None else named[0]
        if repository not in self.tags_of or digest not in self.manifests:
            raise ManifestUnknown
        return self.manifests[digest]

    async def is_verified(self, repository: str, reference: str) -> bool:
        del repository
        return reference in self.verified

    async def repositories(self) -> AsyncIterator[str]:
        for repository in sorted(self.tags_of):
            yield repository

    async def tags(self, repository: str) -> AsyncIterator[Tag]:
        for name, (digest, at) in sorted(self.tags_of[repository].items()):
            yield Tag(name, digest, at, at)

    async def referrers(self, repository: str, subject: Digest) -> AsyncIterator[Descriptor]:
        del repository
        for digest, (media_type, content) in self.manifests.items():
            fields = json.loads(content)
            if fields.get("subject", {}).get("digest") == subject:
                yield Descriptor(
                    media_type, digest, len(content), fields.get("artifactType"), fields.get("annotations")
                )

    async def held_blobs(self, repository: str, digests: Collection[Digest]) -> set[str]:
        del repository
        return {digest for digest in digests if digest in self.blobs}

    async def blob_bytes(self, digest: Digest) -> AsyncIterator[bytes]:
        if digest not in self.blobs:
            raise BlobUnknown
        content = self.blobs[digest]
        for start in range(0, len(content), 1000):
            yield content[start : start + 1000]


def local(shelf: Shelf) -> Any:
    """Returns the shelf as a `LocalRegistry`, whose ``blob`` is a method of another meaning here."""

    class Local(Shelf):
        def blob(self, *arguments: Any) -> Any:  # type: ignore[override]
            return shelf.blob_bytes(arguments[1])

    found = Local()
    found.__dict__ = shelf.__dict__
    return found
