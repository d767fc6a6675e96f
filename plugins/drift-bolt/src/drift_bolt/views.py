"""What the API shows of entries and versions, made of what the database knows."""

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from drift_bolt import artifacts
from drift_bolt.artifacts import platform_of
from drift_bolt.catalog import Entry, File, Version
from drift_bolt.model import (
    BinaryManifest,
    Part,
    PluginDetail,
    PluginMetadata,
    PluginSummary,
    PluginUpload,
    ProfileDetail,
    ProfileManifest,
    ProfileMetadata,
    ProfileSummary,
    ProfileUpload,
)
from drift_bolt.problems import Unknown


def moment(seconds: float) -> datetime:
    """Returns seconds since the epoch as a time in UTC."""
    return datetime.fromtimestamp(seconds, UTC)


def summary(entry: Entry, *, verified: bool) -> ProfileSummary | PluginSummary:
    """Returns an entry as it is in a list of its kind; whether its signatures are good is said of plugins."""
    return profile_summary(entry) if entry.kind == "profile" else plugin_summary(entry, verified=verified)


def profile_summary(entry: Entry) -> ProfileSummary:
    """Returns a profile as it is in a list."""
    return ProfileSummary(
        name=entry.name,
        version=entry.version,
        author=entry.author,
        description=entry.description,
        downloads=entry.downloads,
        rating=entry.rating,
        created_at=moment(entry.created_at),
        updated_at=moment(entry.updated_at),
        tags=entry.summary.tags,
        compatible_games=entry.summary.compatible_games,
    )


def plugin_summary(entry: Entry, *, verified: bool) -> PluginSummary:
    """Returns a plugin as it is in a list."""
    return PluginSummary(
        name=entry.name,
        version=entry.version,
        plugin_type=entry.summary.plugin_type,
        author=entry.author,
        description=entry.description,
        downloads=entry.downloads,
        rating=entry.rating,
        verified=verified,
        supported_platforms=entry.summary.supported_platforms,
    )


def profile_detail(entry: Entry, version: Version, file: File, *, verified: bool) -> ProfileDetail:
    """Returns everything about a version of a profile."""
    upload = msgspec.json.decode(version.document, type=ProfileUpload)
    said = upload.metadata
    metadata = ProfileMetadata(
        author=version.author,
        author_email=said.author_email,
        version=version.version,
        license=said.license,
        repository=said.repository,
        documentation=said.documentation,
        created_at=moment(entry.created_at),
        updated_at=moment(version.created_at),
        downloads=entry.downloads,
        rating=entry.rating,
        rating_count=entry.rating_count,
        verified=verified,
        tags=said.tags,
        compatible_games=said.compatible_games,
        system_requirements=said.system_requirements,
    )
    config = Part(media_type=artifacts.PROFILE_CONFIG, size=file.config_size, digest=file.config_digest)
    layer = Part(media_type=artifacts.PROFILE_TOML, size=file.size, digest=file.digest)
    manifest = ProfileManifest(schema_version="2", media_type=artifacts.OCI_MANIFEST, config=config, layers=[layer])
    return ProfileDetail(profile=upload.profile, metadata=metadata, manifest=manifest)


def plugin_detail(
    entry: Entry, version: Version, files: Sequence[File], platform: str | None, base_url: str, *, verified: bool
) -> PluginDetail:
    """Returns everything about a version of a plugin, for one platform, None for the first. Raises `Unknown`."""
    file = next((one for one in files if platform in (None, one.platform)), None)
    if file is None:
        raise Unknown(
            f"{entry.name} {version.version} is not there for {platform}", platforms=[one.platform for one in files]
        )
    upload = msgspec.json.decode(version.document, type=PluginUpload)
    said = upload.metadata
    system, machine = platform_of(file.platform)
    query = f"?version={version.version}&platform={file.platform}"
    binary = BinaryManifest(
        platform=system,
        architecture=machine,
        size=file.size,
        digest=file.digest,
        download_url=f"{base_url.rstrip('/')}/v1/plugins/{entry.name}/download{query}",
    )
    metadata = PluginMetadata(
        author=version.author,
        author_email=said.author_email,
        license=said.license,
        repository=said.repository,
        documentation=said.documentation,
        created_at=moment(entry.created_at),
        updated_at=moment(version.created_at),
        downloads=entry.downloads,
        rating=entry.rating,
        rating_count=entry.rating_count,
        verified=verified,
        supported_platforms=said.supported_platforms,
    )
    return PluginDetail(manifest=upload.manifest, metadata=metadata, binary_manifest=binary)
