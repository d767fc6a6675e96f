"""What verifiers found in the artifacts that may sign a manifest: kept for all workers, and gone with the artifact."""

from msgspec import Struct, structs
from sqlalchemy import BindParameter, Connection, and_, bindparam, case, delete, func, literal, or_, select
from sqlalchemy.dialects.postgresql import insert as upsert

from drift_core.metadata.reach import tags_about
from drift_core.metadata.statement import Statement
from drift_core.metadata.tables import judgements, manifest_children, manifests, repositories, tags
from drift_core.model import Descriptor, Digest

KEPT_SECONDS = 86400.0
"""How long what others judged, who trust otherwise, is left beside what is judged now."""


class Artifact(Struct, frozen=True):
    """A manifest that names another as its subject, or has a tag about it; what was found in it is None before.

    ``size`` is in bytes, ``pushed_at`` and ``judged_at`` in seconds since the epoch.
    """

    id: int
    digest: str
    size: int
    pushed_at: float
    judged_at: float | None
    found: bytes | None


_COLUMNS = (
    manifests.c.id,
    manifests.c.digest,
    manifests.c.size,
    manifests.c.pushed_at,
    judgements.c.judged_at,
    judgements.c.found,
)
_JUDGED = manifests.outerjoin(
    judgements,
    and_(
        judgements.c.manifest_id == manifests.c.id,
        judgements.c.subject == bindparam("subject"),
        judgements.c.trust == bindparam("trust"),
    ),
)
_REPOSITORY = select(repositories.c.id).where(repositories.c.name == bindparam("name"))
_IN_REPOSITORY = manifests.c.repository_id.in_(_REPOSITORY)
_TAGS: list[BindParameter[str]] = [bindparam(f"tag{number}") for number in range(len(tags_about("")))]
_ABOUT = Statement(
    select(*_COLUMNS)
    .select_from(_JUDGED.join(tags, tags.c.manifest_id == manifests.c.id))
    .where(_IN_REPOSITORY, tags.c.repository_id == manifests.c.repository_id, tags.c.name.in_(_TAGS))
)
# What is known to be good is not to be hidden by how much there is beside it, nor what is new by what is bad.
_RANK = case((judgements.c.good, 0), (judgements.c.found.is_(None), 1), else_=2)
_REFERRING = Statement(
    select(*_COLUMNS)
    .select_from(_JUDGED)
    .where(
        _IN_REPOSITORY,
        manifests.c.subject == bindparam("subject"),
        or_(judgements.c.claimed.is_(None), judgements.c.claimed),
    )
    .order_by(_RANK, manifests.c.id.desc())
    .limit(bindparam("limit"))
)


def artifacts_of(db: Connection, repository: str, subject: str, trust: str, limit: int) -> list[Artifact]:
    """Returns what may sign ``subject``: what has a tag about it, and up to ``limit`` referrers.

    Known to be good under ``trust`` come first, then those that nobody has judged, then the others, the newest first;
    without what is known to be no signature. Reads a row for each referrer of the manifest.
    """
    names = {f"tag{number}": tag for number, tag in enumerate(tags_about(subject))}
    rows = _ABOUT.rows(db, name=repository, subject=subject, trust=trust, **names)
    rows += _REFERRING.rows(db, name=repository, subject=subject, trust=trust, limit=limit)
    return list({row[0]: Artifact(*row) for row in rows}.values())


_DOCUMENT = Statement(select(manifests.c.media_type, manifests.c.content).where(manifests.c.id == bindparam("id")))


def document_of(db: Connection, artifact: int) -> tuple[str, bytes] | None:
    """Returns media type and content of an artifact's manifest; None where it is gone."""
    row = _DOCUMENT.row(db, id=artifact)
    return None if row is None else (row[0], row[1])


_artifact = manifests.alias("artifact")
_stem = func.replace(manifests.c.digest, ":", "-")
_SIGNED = or_(
    select(_artifact.c.id)
    .where(_artifact.c.repository_id == manifests.c.repository_id, _artifact.c.subject == manifests.c.digest)
    .exists(),
    select(tags.c.name)
    .where(
        tags.c.repository_id == manifests.c.repository_id,
        tags.c.name.in_([_stem.concat(end) for end in (".sig", ".att")]),
    )
    .exists(),
)
_INDEXES = Statement(
    select(manifests.c.media_type, manifests.c.digest, manifests.c.size)
    .join(manifest_children, manifest_children.c.manifest_id == manifests.c.id)
    .where(
        manifest_children.c.repository_id == manifests.c.repository_id,
        manifest_children.c.digest == bindparam("digest"),
        _IN_REPOSITORY,
        _SIGNED,
    )
    .order_by(manifests.c.id.desc())
    .limit(bindparam("limit"))
)


def signed_indexes_of(db: Connection, repository: str, digest: str, limit: int) -> list[Descriptor]:
    """Returns the newest indexes that list a manifest and have anything that may be a signature."""
    rows = _INDEXES.rows(db, name=repository, digest=digest, limit=limit)
    return [Descriptor(media_type, Digest(found), size) for media_type, found, size in rows]


class Judged(Struct, frozen=True):
    """What was found in an artifact: whether it is of any format, and whether any signature in it is good."""

    judged_at: float
    claimed: bool
    good: bool
    found: bytes


def keep(db: Connection, artifact: int, subject: str, trust: str, judged: Judged) -> None:
    """Keeps what was found in an artifact, in place of what was found before; nothing where it is gone."""
    changed = structs.asdict(judged)
    values = {"subject": subject, "trust": trust, **changed}
    there = select(manifests.c.id, *(literal(value) for value in values.values())).where(manifests.c.id == artifact)
    db.execute(
        upsert(judgements)
        .from_select(["manifest_id", *values], there)
        .on_conflict_do_update(index_elements=["manifest_id", "subject", "trust"], set_=changed)
    )
    others = and_(judgements.c.manifest_id == artifact, judgements.c.subject == subject, judgements.c.trust != trust)
    db.execute(delete(judgements).where(others, judgements.c.judged_at < judged.judged_at - KEPT_SECONDS))
