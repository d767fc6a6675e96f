"""What Bolt's second client asks of ``/v2``: features, a search for images, and how an image gets on with games.

An image says it by the annotation `GAMING` of its manifest or index; images without it are none of these packages.
The client never logs in, so anybody may ask, and is shown what anybody may pull.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec
from litestar import Request, Response, get
from litestar.params import Parameter
from msgspec import Meta, Struct, field
from sqlalchemy import Connection, delete, insert, select

from drift_bolt.artifacts import CREATED, DESCRIPTION, OCI_INDEX, TITLE
from drift_bolt.model import U32, U64
from drift_bolt.problems import OURS, Unknown
from drift_bolt.tables import packages
from drift_bolt.validation import LONGEST_TEXT, findable
from drift_core.api import Digest, Event, LocalRegistry, Records, RegistryError, Scope

if TYPE_CHECKING:
    from drift_bolt.bolt import Bolt

GAMING: Final = "dev.bolt.gaming"
"""The annotation with `GamingMetadata` as JSON."""

INDEXES: Final = (OCI_INDEX, "application/vnd.docker.distribution.manifest.list.v2+json")

SHOWN: Final = 50
"""Packages of an answer, and how many are looked at to find them: those that were tagged last."""
LOOKED: Final = 2000

PARTS: Final = 4
"""Parts of the longest name that can be asked for."""

LARGEST_ANNOTATION: Final = 32 << 10
LARGEST_SIZE: Final = (1 << 63) - 1

LONGEST_MACHINE: Final = 64
MOST_MACHINES: Final = 32
"""Characters of a machine's name, and machines of a package."""

Word = Annotated[str | None, Parameter(max_length=256)]

Tier = Literal["Competitive", "Balanced", "Quality", "Streaming"]


class Requirements(Struct, frozen=True, kw_only=True):
    """What a GPU of one vendor has to have."""

    min_vram_mb: U32
    min_compute_capability: str | None = None
    driver_version: str | None = None
    features: tuple[str, ...]


class GpuRequirements(Struct, frozen=True, kw_only=True):
    """By vendor, and what the drivers have to offer."""

    nvidia: Requirements | None = None
    amd: Requirements | None = None
    intel: Requirements | None = None
    vulkan_required: bool
    directx_version: str | None = None
    opengl_version: str | None = None


class AntiCheat(Struct, frozen=True, kw_only=True):
    """Which of them let the game run."""

    battleye: bool
    eac: bool
    vac: bool
    denuvo: bool
    notes: tuple[str, ...]


class GamingMetadata(Struct, frozen=True, kw_only=True):
    """How an image gets on with games."""

    is_game: bool
    proton_compatible: bool
    proton_versions: tuple[str, ...]
    gpu_requirements: GpuRequirements
    steam_app_id: U32 | None = None
    wine_version: str | None = None
    dxvk_version: str | None = None
    performance_tier: Tier
    anti_cheat: AntiCheat


class Features(Struct, frozen=True, kw_only=True):
    """What this registry can do for Bolt; all are needed."""

    package_signing: bool = True
    vulnerability_scanning: bool = False
    gaming_optimization: bool = True
    p2p_distribution: bool = False
    ghostwire_integration: bool = False
    multi_arch_support: bool = True


class Security(Struct, frozen=True, kw_only=True):
    """Only whether there is a signature: whose, and whether it is good, a client verifies."""

    signed: bool
    signature_algorithm: str | None = None
    public_key_fingerprint: str | None = None
    vulnerability_scan: None = None
    attestation: None = None


class Optimization(Struct, frozen=True, kw_only=True):
    """Machines that there is an image for; nothing is measured here."""

    cpu_architecture: tuple[str, ...]
    optimized_for: tuple[str, ...] = ()
    size_optimized: bool = False
    performance_optimized: bool = False
    startup_time_ms: None = None
    memory_usage_mb: None = None
    benchmarks: tuple[()] = ()


class Ecosystem(Struct, frozen=True, kw_only=True):
    """Services that this registry is no part of."""

    ghostforge_compatible: bool = False
    ghostwire_routing: bool = False
    ghostbay_optimized: bool = False
    cluster_ready: bool = False
    mesh_networking: bool = False


class Package(Struct, frozen=True, kw_only=True):
    """BoltPackage; ``size_bytes`` is of the layers of an image, and of the manifests of an index."""

    name: str
    version: str
    description: str
    registry: str = ""
    manifest_digest: str
    size_bytes: U64
    created_at: datetime
    updated_at: datetime
    gaming: GamingMetadata | None
    security: Security = field(default_factory=lambda: Security(signed=False))
    optimization: Optimization
    ecosystem: Ecosystem = field(default_factory=Ecosystem)


class _Wanted(Struct, frozen=True):
    query: str
    games: bool
    proton: str | None
    gpu: str | None
    tier: str | None


async def on_event(registry: LocalRegistry, records: Records, event: Event) -> None:
    """Takes note of what the tags of an image name now."""
    left = await registry.tagged(event.repository, event.tags)
    gone = [tag for tag in event.tags if tag not in left]
    found: dict[str, Package] = {}
    for tag, digest in left.items():
        package = await _package(registry, event, tag, digest)
        if package is None:
            gone.append(tag)
        else:
            found[tag] = package
    known = await records.read(partial(_known, repository=event.repository, tags=gone))
    if found or known:
        await records.write(partial(_note, repository=event.repository, found=found, gone=known, at=event.at))


async def _package(registry: LocalRegistry, event: Event, tag: str, digest: Digest) -> Package | None:
    """Returns what a manifest says of itself, None where it says nothing that can be read."""
    try:
        media_type, content = await registry.manifest(event.repository, digest)
    except RegistryError as error:
        if error.status >= OURS:
            # It cannot be read now; the event is told again.
            raise
        return None
    if GAMING.encode() not in content:
        return None
    try:
        return _described(event, tag, str(digest), media_type, msgspec.json.decode(content, type=dict[str, Any]))
    except (ValueError, TypeError, AttributeError, RecursionError):
        # What somebody pushes must not keep the events behind it from being told.
        return None


def _described(event: Event, tag: str, digest: str, media_type: str, manifest: Mapping[str, Any]) -> Package | None:
    """Returns the package of a manifest. Raises what Python does where a value is not of the type that it has to be."""
    annotations: Mapping[str, Any] = manifest.get("annotations") or {}
    said = str(annotations.get(GAMING, ""))
    if len(said) > LARGEST_ANNOTATION:
        return None
    gaming = msgspec.json.decode(said, type=GamingMetadata)
    about = str(annotations.get(DESCRIPTION) or annotations.get(TITLE) or "")
    parts: list[dict[str, Any]] = manifest.get("manifests" if media_type in INDEXES else "layers") or []
    platforms: list[Mapping[str, Any]] = [one for part in parts if isinstance(one := part.get("platform"), dict)]
    machines = {str(one.get("architecture", ""))[:LONGEST_MACHINE] for one in platforms} - {"", "unknown"}
    return Package(
        name=event.repository,
        version=tag,
        # PostgreSQL has no text with a zero in it.
        description=about[:LONGEST_TEXT].replace("\0", ""),
        manifest_digest=digest,
        size_bytes=max(0, min(LARGEST_SIZE, sum(int(part.get("size", 0)) for part in parts))),
        created_at=_time(annotations.get(CREATED), event.at),
        updated_at=datetime.fromtimestamp(event.at, UTC),
        gaming=gaming,
        optimization=Optimization(cpu_architecture=tuple(sorted(machines)[:MOST_MACHINES])),
    )


def _time(text: object, otherwise: float) -> datetime:
    try:
        found = datetime.fromisoformat(str(text))
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        # The second is for a first or last day that is another one in UTC.
        return datetime.fromtimestamp(otherwise, UTC)


def _known(db: Connection, repository: str, tags: Sequence[str]) -> Sequence[str]:
    own = (packages.c.repository == repository, packages.c.tag.in_(tags))
    return db.execute(select(packages.c.tag).where(*own)).scalars().all()


def _note(db: Connection, repository: str, found: Mapping[str, Package], gone: Sequence[str], at: float) -> None:
    every = [*found, *gone]
    db.execute(delete(packages).where(packages.c.repository == repository, packages.c.tag.in_(every)))
    for tag, package in found.items():
        gaming = package.gaming
        assert gaming is not None  # noqa: S101 - others are not noted
        gpus = gaming.gpu_requirements
        vendors = [name for name in ("nvidia", "amd", "intel") if getattr(gpus, name) is not None]
        db.execute(
            insert(packages).values(
                repository=repository,
                tag=tag,
                digest=package.manifest_digest,
                text=f"{repository}\n{package.description}".casefold(),
                is_game=gaming.is_game,
                proton=gaming.proton_compatible,
                protons="".join(f"\n{one}\n" for one in gaming.proton_versions).replace("\0", ""),
                tier=gaming.performance_tier,
                vendors=f" {' '.join(vendors)} ",
                document=msgspec.json.encode(package).decode(),
                tagged_at=at,
            )
        )


def _search(db: Connection, wanted: _Wanted) -> list[tuple[str, str]]:
    """Returns repository and tag of what is wanted among the packages that were tagged last, the newest first."""
    if not all(findable(word) for word in (wanted.query, wanted.proton, wanted.gpu, wanted.tier)):
        return []
    newest = select(packages).order_by(packages.c.tagged_at.desc()).limit(LOOKED).subquery()
    query = select(newest.c.repository, newest.c.tag)
    query = query.where(newest.c.text.contains(wanted.query.casefold(), autoescape=True))
    if wanted.games:
        query = query.where(newest.c.is_game)
    if wanted.proton:
        named = newest.c.protons.contains(f"\n{wanted.proton}\n", autoescape=True)
        query = query.where(newest.c.proton, named)
    if wanted.gpu:
        query = query.where(newest.c.vendors.contains(f" {wanted.gpu.casefold()} ", autoescape=True))
    if wanted.tier:
        query = query.where(newest.c.tier == wanted.tier)
    return [(row[0], row[1]) for row in db.execute(query.order_by(newest.c.tagged_at.desc()))]


def _packages(db: Connection, chosen: Sequence[tuple[str, str]]) -> list[Package]:
    """Returns packages in the order of ``chosen``, without those that are gone."""
    found: list[Package] = []
    for repository, tag in chosen:
        own = (packages.c.repository == repository, packages.c.tag == tag)
        row = db.execute(select(packages.c.document).where(*own)).scalar_one_or_none()
        found += [] if row is None else [msgspec.json.decode(row, type=Package)]
    return found


def _latest(db: Connection, repository: str) -> Package | None:
    if not findable(repository):
        return None
    own = select(packages.c.document).where(packages.c.repository == repository)
    row = db.execute(own.order_by(packages.c.tagged_at.desc()).limit(1)).scalar_one_or_none()
    return None if row is None else msgspec.json.decode(row, type=Package)


def routes(feature: "Bolt") -> Sequence[Any]:
    """Returns the handlers, which are public: they themselves look at what anybody may pull."""

    @get("/features", public=True, answers=Features)
    async def features() -> Response[bytes]:
        """Answers what this registry can do for Bolt."""
        return _answer(Features())

    @get("/search", public=True, answers=list[Package])
    async def search(
        request: Request[Any, Any, Any],
        q: Annotated[str, Meta(max_length=256)] = "",
        gaming: bool = False,
        proton: Word = None,
        gpu: Word = None,
        tier: Word = None,
    ) -> Response[bytes]:
        """Answers images that say how they get on with games; with ``gaming`` those that are games.

        ``proton`` is a version of it, such as ``9.0``.
        """
        wanted = _Wanted(q, gaming, proton, gpu, tier)
        found = await feature.records.read(partial(_search, wanted=wanted))
        # Before the first `SHOWN` are taken: what somebody may not pull takes no place.
        names = list(dict.fromkeys(repository for repository, _ in found))
        may = dict(zip(names, await feature.pullable(request.auth, names), strict=True))
        chosen = [one for one in found if may[one[0]]][:SHOWN]
        shown = await feature.records.read(partial(_packages, chosen=chosen))
        registry = str(request.base_url).rstrip("/")
        return _answer([await _signed(feature.registry, package, registry) for package in shown])

    names = [[f"part{number}" for number in range(1, parts + 1)] for parts in range(1, PARTS + 1)]

    @get(
        ["/gaming/" + "/".join(f"{{{part}:str}}" for part in some) + "/compatibility" for some in names],
        public=True,
        answers=GamingMetadata,
    )
    async def compatibility(request: Request[Any, Any, Any]) -> Response[bytes]:
        """Answers what the newest tag of an image says."""
        name = "/".join(str(request.path_params[part]) for part in names[-1] if part in request.path_params)
        found = await feature.records.read(partial(_latest, repository=name))
        if found is None or not (await feature.pullable(request.auth, [name]))[0]:
            raise Unknown(f"nothing is known of {name} and games", name=name[:256])
        return _answer(found.gaming)

    return [features, search, compatibility]


async def _signed(registry: LocalRegistry, package: Package, host: str) -> Package:
    """Returns a package with where it is, and whether there is a signature beside it."""
    digest = Digest.parse(package.manifest_digest)
    beside = f"{digest.algorithm}-{digest.encoded}.sig"
    signed = bool(await registry.tagged(package.name, [beside]))
    if not signed:
        async for referrer in registry.referrers(package.name, digest):
            kind = (referrer.artifact_type or "").lower()
            if "signature" in kind or "sigstore" in kind or "cosign" in kind:
                signed = True
                break
    return msgspec.structs.replace(package, registry=host, security=Security(signed=signed))


def pulls_of(names: Sequence[str]) -> list[Scope]:
    """Returns what is needed to pull from repositories."""
    return [Scope("repository", name, "pull") for name in names]


def _answer(content: Any) -> Response[bytes]:
    return Response(msgspec.json.encode(content), media_type="application/json", headers={"cache-control": "no-store"})
