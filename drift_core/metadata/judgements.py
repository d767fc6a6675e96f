"""What verifiers found in the artifacts that may sign a manifest: kept for all workers, and gone with the artifact."""

from msgspec import Struct
from sqlalchemy import BindParameter, Connection, bindparam, literal, select
from sqlalchemy.dialects.postgresql import insert as upsert

from drift_core.metadata.reach import tags_about
from drift_core.metadata.statement import Statement
from drift_core.metadata.tables import judgements, manifest_children, manifests, repositories, tags
from drift_core.model import Descriptor, Digest


class Artifact(Struct, frozen=True):
    """A manifest that names another as its subject, or has a tag about it; what was found in it is None before.

    ``size`` is in bytes, ``pushed_at`` and ``judged_at`` in seconds since the epoch. ``trust`` is that of which
    ``found`` was made.
    """

    id: int
    digest: str
    size: int
    pushed_at: float
    trust: str | None
    judged_at: float | None
    found: bytes | None


_COLUMNS = (
    manifests.c.id,
    manifests.c.digest,
    manifests.c.size,
    manifests.c.pushed_at,
    judgements.c.trust,
    judgements.c.judged_at,
    judgements.c.found,
)
_JUDGED = manifests.outerjoin(
    judgements, (judgements.c.manifest_id == manifests.c.id) & (judgements.c.subject == bindparam("subject"))
)
_IN_REPOSITORY = manifests.c.repository_id.in_(
    select(repositories.c.id).where(repositories.c.name == bindparam("name"))
)
_TAGS: list[BindParameter[str]] = [bindparam(f"tag{number}") for number in range(len(tags_about("")))]
_ABOUT = Statement(
    select(*_COLUMNS)
    .select_from(_JUDGED.join(tags, tags.c.manifest_id == manifests.c.id))
    .where(_IN_REPOSITORY, tags.c.repository_id == manifests.c.repository_id, tags.c.name.in_(_TAGS))
)
_REFERRING = Statement(
    select(*_COLUMNS)
    .select_from(_JUDGED)
    .where(_IN_REPOSITORY, manifests.c.subject == bindparam("subject"))
    .order_by(manifests.c.digest)
    .limit(bindparam("limit"))
)


def artifacts_of(db: Connection, repository: str, subject: str, limit: int) -> list[Artifact]:
    """Returns what may sign ``subject``: what has a tag about it, and up to ``limit`` referrers in order of digest."""
    names = {f"tag{number}": tag for number, tag in enumerate(tags_about(subject))}
    rows = _ABOUT.rows(db, name=repository, subject=subject, **names)
    rows += _REFERRING.rows(db, name=repository, subject=subject, limit=limit)
    return list({row[0]: Artifact(*row) for row in rows}.values())


_DOCUMENT = Statement(select(manifests.c.media_type, manifests.c.content).where(manifests.c.id == bindparam("id")))


def document_of(db: Connection, artifact: int) -> tuple[str, bytes] | None:
    """Returns media type and content of an artifact's manifest; None where it is gone."""
    row = _DOCUMENT.row(db, id=artifact)
    return None if row is None else (row[0], row[1])


_INDEXES = Statement(
    select(manifests.c.media_type, manifests.c.digest, manifests.c.size)
    .join(manifest_children, manifest_children.c.manifest_id == manifests.c.id)
    .where(
        manifest_children.c.repository_id == manifests.c.repository_id,
        manifest_children.c.digest == bindparam("digest"),
        _IN_REPOSITORY,
    )
    .order_by(manifests.c.id.desc())
    .limit(bindparam("limit"))
)


def indexes_of(db: Connection, repository: str, digest: str, limit: int) -> list[Descriptor]:
    """Returns the newest indexes that list a manifest."""
    rows = _INDEXES.rows(db, name=repository, digest=digest, limit=limit)
    return [Descriptor(media_type, Digest(found), size) for media_type, found, size in rows]


def keep(db: Connection, artifact: int, subject: str, trust: str, judged_at: float, found: bytes) -> None:
    """Keeps what was found in an artifact, in place of what was found before; nothing where it is gone."""
    values = {"subject": subject, "trust": trust, "judged_at": judged_at, "found": found}
    there = select(manifests.c.id, *(literal(value) for value in values.values())).where(manifests.c.id == artifact)
    changed = {name: values[name] for name in ("trust", "judged_at", "found")}
    db.execute(
        upsert(judgements)
        .from_select(["manifest_id", *values], there)
        .on_conflict_do_update(index_elements=["manifest_id", "subject"], set_=changed)
    )
