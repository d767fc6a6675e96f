"""What came of each layer: one row for each form of it, so that no layer is worked on twice."""

import time
from collections.abc import Mapping
from typing import Literal

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, RowMapping, and_, delete, func, insert, select

from drift_core.api import Descriptor, Digest
from drift_optimize.tables import layers

Kind = Literal["compression", "deduplication", "layer_squashing", "base_image_optimization"]
State = Literal["optimized", "skipped", "failed"]


class Result(Struct, frozen=True, kw_only=True):
    """What came of one layer; sizes in bytes, ``created_at`` in seconds since the epoch.

    ``claim`` stands for what the image says of the layer: its kind, its annotations and what it unpacks to.
    ``descriptor`` is that of the new form with its own annotations alone, None where there is none; ``message`` says
    why. ``diff_id`` is what the layer was proved to unpack to, None where nobody looked. ``table`` is a table of
    contents that belongs beside it.
    """

    digest: Digest
    form: str
    kind: Kind
    state: State
    size: int
    claim: str = ""
    diff_id: Digest | None = None
    descriptor: Descriptor | None = None
    table: Descriptor | None = None
    message: str = ""
    milliseconds: int = 0
    created_at: float = 0.0


class Stats(Struct, frozen=True, kw_only=True):
    """Sums over all layers that were looked at; sizes in bytes. ``optimization_results`` are by kind."""

    total_layers: int
    optimized_layers: int
    total_original_size: int
    total_optimized_size: int
    total_savings: int
    compression_ratio: float
    optimization_results: Mapping[str, Mapping[str, int]]


def known(db: Connection, digest: Digest, form: str, claim: str = "") -> Result | None:
    """Returns what came of a layer of which an image said the same, or None where nobody has looked at it."""
    own = select(layers).where(layers.c.digest == digest, layers.c.form == form, layers.c.claim == claim)
    row = db.execute(own).mappings().one_or_none()
    return None if row is None else _result(row)


def canonical(db: Connection, diff_id: Digest, form: str) -> Result | None:
    """Returns the first form that was made of any layer that unpacks to ``diff_id``, or None."""
    own = and_(layers.c.diff_id == diff_id, layers.c.form == form, layers.c.state == "optimized")
    first = select(layers).where(own).order_by(layers.c.created_at, layers.c.digest).limit(1)
    row = db.execute(first).mappings().one_or_none()
    return None if row is None else _result(row)


def save(db: Connection, result: Result) -> None:
    """Writes what came of a layer, in the place of what was known."""
    own = and_(layers.c.digest == result.digest, layers.c.form == result.form, layers.c.claim == result.claim)
    descriptor = result.descriptor
    db.execute(delete(layers).where(own))
    db.execute(
        insert(layers).values(
            digest=str(result.digest),
            form=result.form,
            claim=result.claim,
            kind=result.kind,
            state=result.state,
            diff_id=None if result.diff_id is None else str(result.diff_id),
            size=result.size,
            descriptor=_written(descriptor),
            table_descriptor=_written(result.table),
            optimized_digest=None if descriptor is None else descriptor.digest,
            optimized_size=None if descriptor is None else descriptor.size,
            message=result.message,
            milliseconds=result.milliseconds,
            created_at=time.time(),
        )
    )


def stats(db: Connection) -> Stats:
    """Returns the sums; reads every row."""
    made = layers.c.state == "optimized"
    sums = db.execute(
        select(layers.c.kind, func.count(), func.sum(layers.c.size), func.sum(layers.c.optimized_size))
        .where(made)
        .group_by(layers.c.kind)
    ).all()
    total, size = db.execute(select(func.count(), func.coalesce(func.sum(layers.c.size), 0))).one()
    original, optimized = sum(int(row[2]) for row in sums), sum(int(row[3]) for row in sums)
    return Stats(
        total_layers=total,
        optimized_layers=sum(row[1] for row in sums),
        total_original_size=int(size),
        total_optimized_size=int(size) - original + optimized,
        total_savings=original - optimized,
        compression_ratio=round(optimized / original, 4) if original else 1.0,
        optimization_results={row[0]: {"count": row[1], "total_savings": int(row[2]) - int(row[3])} for row in sums},
    )


def _written(descriptor: Descriptor | None) -> str | None:
    return None if descriptor is None else msgspec.json.encode(descriptor).decode()


def _read(text: str | None) -> Descriptor | None:
    return None if text is None else msgspec.json.decode(text, type=Descriptor)


def _result(row: RowMapping) -> Result:
    return Result(
        digest=Digest(row["digest"]),
        form=row["form"],
        claim=row["claim"],
        kind=row["kind"],
        state=row["state"],
        size=row["size"],
        diff_id=None if row["diff_id"] is None else Digest(row["diff_id"]),
        descriptor=_read(row["descriptor"]),
        table=_read(row["table_descriptor"]),
        message=row["message"],
        milliseconds=row["milliseconds"],
        created_at=row["created_at"],
    )
