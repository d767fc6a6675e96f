"""Remembers which layers tags name, and says on which base an image stands, and whether that has moved on."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial

from msgspec import Struct
from sqlalchemy import Connection, RowMapping, and_, delete, insert, or_, select, update

from drift_core.api import Digest, Records
from drift_optimize.bases import BASE_NAME, Base, KnownImage, Outdated, chain_ids, find_base, outdated
from drift_optimize.images import Image
from drift_optimize.tables import images

LONGEST_PLATFORM = 255

KEPT = 20
"""How many images that a tag once named are remembered."""


class Standing(Struct, frozen=True):
    """On what the image of one platform stands, None for nothing known; ``outdated`` are bases that have moved on."""

    platform: str
    base: Base | None
    outdated: Sequence[Outdated]


class Lineage:
    """Knows the images that were worked on since ``enable_base_image_optimization`` is set."""

    def __init__(self, records: Records) -> None:
        self._records = records

    async def note(self, tag: str, image: Image) -> None:
        """Remembers what a tag names."""
        known = KnownImage(
            f"{image.repository}:{tag}",
            image.repository,
            tag,
            Digest(image.descriptor.digest),
            chain_ids(image.diff_ids)[-1],
            _created(image),
            platform=_platform(image),
        )
        await self._records.write(partial(_note, known=known))

    async def standing(self, image: Image) -> Standing:
        """Returns on what an image stands."""
        annotations = _local(image.document.get("annotations") or {})
        names = {name} if (name := annotations.get(BASE_NAME)) else set[str]()

        def read(db: Connection) -> Standing:
            base = find_base(image.diff_ids, _by_chain(db, chain_ids(image.diff_ids)[:-1]))
            tags = _named(db, names | {one.reference for one in (base.images if base else ())})
            found = outdated(image.diff_ids, base, tags, annotations, _platform(image))
            return Standing(_platform(image), base, found)

        return await self._records.read(read)


def _note(db: Connection, known: KnownImage) -> None:
    tag = and_(images.c.repository == known.repository, images.c.tag == known.tag, images.c.platform == known.platform)
    db.execute(update(images).where(tag, images.c.digest != known.digest).values(current=False))
    db.execute(delete(images).where(tag, images.c.digest == known.digest))
    db.execute(
        insert(images).values(
            repository=known.repository,
            tag=known.tag,
            platform=known.platform,
            digest=str(known.digest),
            chain_id=str(known.chain_id),
            created=known.created,
            current=True,
        )
    )
    newest = select(images.c.id).where(tag).order_by(images.c.id.desc()).limit(KEPT)
    db.execute(delete(images).where(tag, images.c.id.not_in(newest)))


def _by_chain(db: Connection, chains: Sequence[Digest]) -> Mapping[Digest, Sequence[KnownImage]]:
    found: dict[Digest, list[KnownImage]] = {}
    for row in db.execute(select(images).where(images.c.chain_id.in_(chains))).mappings():
        found.setdefault(Digest(row["chain_id"]), []).append(_known(row))
    return found


def _named(db: Connection, references: set[str]) -> list[KnownImage]:
    parts = [reference.rpartition(":") for reference in references]
    same = [and_(images.c.repository == name, images.c.tag == tag) for name, _, tag in parts]
    return [_known(row) for row in db.execute(select(images).where(or_(*same))).mappings()] if same else []


def _known(row: RowMapping) -> KnownImage:
    return KnownImage(
        f"{row['repository']}:{row['tag']}",
        row["repository"],
        row["tag"],
        Digest(row["digest"]),
        Digest(row["chain_id"]),
        row["created"],
        bool(row["current"]),
        row["platform"],
    )


def _platform(image: Image) -> str:
    """Returns the platform that the configuration states, whatever anybody wrote there."""
    named = "/".join(str(image.platform[key]) for key in ("os", "architecture", "variant") if key in image.platform)
    return "".join(char for char in named if char.isprintable())[:LONGEST_PLATFORM]


def _created(image: Image) -> float | None:
    try:
        return datetime.fromisoformat(image.config["created"]).timestamp()
    except (KeyError, TypeError, ValueError):
        return None


def _local(annotations: Mapping[str, str]) -> Mapping[str, str]:
    """Returns annotations with the base's name as it would be here, without the registry that it was pulled from."""
    name = annotations.get(BASE_NAME, "")
    host, _, path = name.partition("/")
    return {**annotations, BASE_NAME: path} if path and ("." in host or ":" in host) else annotations
