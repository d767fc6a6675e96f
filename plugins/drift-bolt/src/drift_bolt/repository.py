"""What Bolt's repository of profiles wants of an address: all of them in one object, and a way to hand one in.

Bolt asks ``URL/profiles`` and ``URL/submit``, where the URL is one of its settings: that of this registry with
``/v1/repository`` behind it. It shows what it gets, and skips an entry that it cannot read.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec
from litestar import Response, get, post
from msgspec import Struct
from sqlalchemy import Connection

from drift_bolt import catalog, finding
from drift_bolt.catalog import Entry
from drift_bolt.model import (
    GpuVendor,
    OptimizationProfile,
    ProfileUpload,
    ProfileUploadMetadata,
    SystemRequirements,
)
from drift_bolt.views import moment

if TYPE_CHECKING:
    from drift_bolt.bolt import Bolt

SHOWN: Final = 200
"""Profiles of the one answer: those of the highest score."""

VENDORS: Final[Mapping[str, GpuVendor]] = {"nvidia": "Nvidia", "amd": "Amd", "intel": "Intel", "any": "Any"}
"""The vendors that Bolt knows here, by what authors write, which is free text."""


class Requirements(Struct, frozen=True, kw_only=True):
    """What a machine needs."""

    min_cpu_cores: int | None
    min_memory_gb: int | None
    required_gpu_vendor: GpuVendor | None
    min_gpu_memory_gb: int | None


class Metadata(Struct, frozen=True, kw_only=True):
    """What is known of a profile."""

    author: str
    version: str
    created_at: datetime
    updated_at: datetime
    downloads: int
    rating: float
    verified: bool
    tags: tuple[str, ...]
    compatible_games: tuple[str, ...]
    min_requirements: Requirements


class Offered(Struct, frozen=True, kw_only=True):
    """A profile in the object of all."""

    profile: OptimizationProfile
    metadata: Metadata


class Submission(Struct, frozen=True, kw_only=True):
    """A profile that is handed in; ``description`` is for one that has none of its own."""

    profile: OptimizationProfile
    author_email: str
    description: str
    tags: tuple[str, ...]
    compatible_games: tuple[str, ...]


class Submitted(Struct, frozen=True):
    """What a submission has become."""

    profile: str
    version: str


def upload_of(sent: Submission) -> ProfileUpload:
    """Returns what is handed in as Bolt's registry client would upload it."""
    profile = sent.profile
    if not profile.description:
        profile = msgspec.structs.replace(profile, description=sent.description)
    metadata = ProfileUploadMetadata(
        author_email=sent.author_email,
        tags=sent.tags,
        compatible_games=sent.compatible_games,
        system_requirements=SystemRequirements(supported_os=()),
    )
    return ProfileUpload(profile=profile, metadata=metadata)


def offered(entry: Entry, document: str, *, verified: bool) -> Offered:
    """Returns the latest version of a profile as it is in the object of all."""
    upload = msgspec.json.decode(document, type=ProfileUpload)
    needed = upload.metadata.system_requirements
    requirements = Requirements(
        min_cpu_cores=needed.min_cpu_cores,
        min_memory_gb=needed.min_memory_gb,
        required_gpu_vendor=VENDORS.get((needed.required_gpu_vendor or "").casefold()),
        min_gpu_memory_gb=needed.min_gpu_memory_gb,
    )
    metadata = Metadata(
        author=entry.author,
        version=entry.version,
        created_at=moment(entry.created_at),
        updated_at=moment(entry.updated_at),
        downloads=entry.downloads,
        rating=entry.rating,
        verified=verified,
        tags=upload.metadata.tags,
        compatible_games=upload.metadata.compatible_games,
        min_requirements=requirements,
    )
    return Offered(profile=upload.profile, metadata=metadata)


def routes(feature: "Bolt") -> Sequence[Any]:
    """Returns the handlers, which need what lists and uploads need."""
    from drift_bolt.routes import Asked, answer, may, read_json  # noqa: PLC0415 - has these routes among its own

    @get("/repository/profiles", scope=may("profile", "read"), answers=dict[str, Offered])
    async def profiles(request: Asked) -> Response[bytes]:
        """Answers the profiles of the highest score by name."""
        await feature.note(request.user)
        found = await feature.records.read(_best)
        verified = await feature.all_verified(feature.registry, [entry for entry, _ in found])
        return answer(
            {entry.name: offered(entry, document, verified=entry.name in verified) for entry, document in found}
        )

    @post("/repository/submit", status_code=200, scope=may("profile", "write"), body=Submission, answers=Submitted)
    async def submit(request: Asked) -> Response[bytes]:
        """Publishes the next version of a profile."""
        await feature.note(request.user)
        sent = upload_of(await read_json(request, Submission))
        version = await feature.publish_profile(sent, request.user)
        return answer(Submitted(sent.profile.name, version.version))

    return [profiles, submit]


def _best(db: Connection) -> list[tuple[Entry, str]]:
    found = finding.best(db, "profile", SHOWN)
    return [(entry, catalog.published(db, entry, None)[0].document) for entry in found]
