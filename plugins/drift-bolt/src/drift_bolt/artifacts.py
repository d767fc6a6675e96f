"""Profiles and plugins as OCI artifacts, in repositories of their own: what oras pulls, and what signatures sign."""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from msgspec import Struct

from drift_bolt.catalog import File, Kind
from drift_core.api import Digest, LocalRegistry

PROFILE_TOML: Final = "application/vnd.bolt.profile.v1+toml"
PROFILE: Final = "application/vnd.bolt.profile.v1"
PROFILE_CONFIG: Final = "application/vnd.bolt.profile.config.v1+json"
PLUGIN_BINARY: Final = "application/vnd.bolt.plugin.binary.v1+octet-stream"
PLUGIN: Final = "application/vnd.bolt.plugin.v1"
PLUGIN_MANIFEST: Final = "application/vnd.bolt.plugin.manifest.v1+json"
OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"

SYSTEMS: Final[Mapping[str, str]] = {"macos": "darwin"}
MACHINES: Final[Mapping[str, str]] = {"x86_64": "amd64", "aarch64": "arm64", "i686": "386", "armv7": "arm"}
"""Names in Rust's targets, and what OCI calls them (image specification, "Image Index", as GOOS and GOARCH)."""

TITLE: Final = "org.opencontainers.image.title"
CREATED: Final = "org.opencontainers.image.created"
AUTHORS: Final = "org.opencontainers.image.authors"
DESCRIPTION: Final = "org.opencontainers.image.description"

PREFIX: Final = "bolt/"
_FOLDERS: Final[Mapping[Kind, str]] = {"profile": "profiles", "plugin": "plugins"}


class Document(Struct, frozen=True):
    """A manifest or an index, ready to be pushed."""

    content: bytes
    media_type: str

    @property
    def digest(self) -> Digest:
        """The digest of the content."""
        return Digest.of(self.content)


def repository_of(kind: Kind, name: str) -> str:
    """Returns the repository of a profile or a plugin."""
    return f"{PREFIX}{_FOLDERS[kind]}/{name}"


def named_by(repository: str) -> tuple[Kind, str] | None:
    """Returns whose repository this is, None where it is no one's."""
    for kind, folder in _FOLDERS.items():
        start = f"{PREFIX}{folder}/"
        if repository.startswith(start) and "/" not in repository[len(start) :]:
            return kind, repository[len(start) :]
    return None


def platform_of(text: str) -> tuple[str, str]:
    """Takes a platform such as ``linux-x86_64`` apart: the system, and the machine, "" where none is said."""
    system, _, machine = text.partition("-")
    return system, machine


class Content(Struct, frozen=True):
    """The one file of an artifact and what is said of it; sizes in bytes, ``annotations`` are of the manifest."""

    artifact_type: str
    config_type: str
    config: bytes
    file_type: str
    file_digest: Digest
    file_size: int
    file_name: str
    annotations: Mapping[str, str]


def annotations_of(name: str, description: str, author: str) -> dict[str, str]:
    """Returns what a manifest says of itself for people."""
    now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return {TITLE: name, DESCRIPTION: description, AUTHORS: author, CREATED: now}


async def push(
    registry: LocalRegistry, repository: str, content: Content, chunks: AsyncIterator[bytes], platform: str = ""
) -> File:
    """Pushes an artifact without a tag, and returns what is known of it. Raises what a push would meet."""
    config = Digest.of(content.config)
    await registry.push_blob(repository, content.file_digest, chunks)
    await registry.push_blob(repository, config, once(content.config))
    layer = _described(content.file_type, content.file_digest, content.file_size, {TITLE: content.file_name})
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": content.artifact_type,
        "config": _described(content.config_type, config, len(content.config)),
        "layers": [layer],
        "annotations": dict(content.annotations),
    }
    document = Document(msgspec.json.encode(manifest, enc_hook=str), OCI_MANIFEST)
    await registry.push_manifest(repository, document.content, document.media_type, document.digest, ())
    return File(
        platform=platform,
        digest=str(content.file_digest),
        size=content.file_size,
        config_digest=str(config),
        config_size=len(content.config),
        manifest_digest=str(document.digest),
        manifest_size=len(document.content),
    )


def index_of(files: Sequence[File]) -> Document:
    """Returns the index over the libraries of a plugin: the same files give the same bytes."""
    manifests: list[dict[str, Any]] = []
    for file in files:
        system, machine = platform_of(file.platform)
        platform = {"architecture": MACHINES.get(machine, machine), "os": SYSTEMS.get(system, system)}
        manifest = _described(OCI_MANIFEST, file.manifest_digest, file.manifest_size)
        manifests.append({**manifest, "artifactType": PLUGIN, "platform": platform})
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "artifactType": PLUGIN, "manifests": manifests}
    return Document(msgspec.json.encode(index), OCI_INDEX)


def _described(media_type: str, digest: str, size: int, annotations: Mapping[str, str] | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {"mediaType": media_type, "digest": str(digest), "size": size}
    return {**found, "annotations": dict(annotations)} if annotations else found


async def once(content: bytes) -> AsyncIterator[bytes]:
    """Yields ``content``."""
    yield content
