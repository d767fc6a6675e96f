"""Counts the names of lists in blocks, and says of packages which are games and for which versions of Proton."""

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0002", "0001"

NAMES = 500
"""Names of a block to begin with, which leaves room for others."""


def upgrade() -> None:
    """Creates the table of blocks and counts what is listed; adds two columns to the packages."""
    op.create_table(
        "bolt__blocks",
        sa.Column("kind", sa.String(8), primary_key=True),
        sa.Column("first", sa.String(64), primary_key=True),
        sa.Column("entries", sa.BigInteger, nullable=False),
    )
    numbered = (
        "SELECT kind, name, row_number() OVER (PARTITION BY kind ORDER BY name) - 1 AS place, "
        "count(*) OVER (PARTITION BY kind) AS total FROM bolt__entries WHERE listed"
    )
    # The first block of all begins before every name.
    op.execute(
        "INSERT INTO bolt__blocks (kind, first, entries) "  # noqa: S608 - nothing of it is from outside
        "SELECT kind, CASE WHEN place = 0 THEN '' ELSE name END, "
        f"CASE WHEN total - place < {NAMES} THEN total - place ELSE {NAMES} END "
        f"FROM ({numbered}) AS numbered WHERE place % {NAMES} = 0"
    )
    op.add_column("bolt__packages", sa.Column("is_game", sa.Boolean, nullable=False, server_default=sa.true()))
    op.add_column("bolt__packages", sa.Column("protons", sa.Text, nullable=False, server_default=""))
    _describe_packages()


def _describe_packages() -> None:
    db = op.get_bind()
    names = ("repository", "tag", "document", "is_game", "protons")
    columns: list[Any] = [sa.column(name) for name in names]
    packages = sa.table("bolt__packages", *columns)
    known = sa.select(packages.c.repository, packages.c.tag, packages.c.document)
    for repository, tag, document in db.execute(known).all():
        gaming: dict[str, Any] = json.loads(document)["gaming"]
        own = (packages.c.repository == repository, packages.c.tag == tag)
        protons = "".join(f"\n{one}\n" for one in gaming["proton_versions"])
        # PostgreSQL has no text with a zero in it.
        values = {"is_game": gaming["is_game"], "protons": protons.replace("\0", "")}
        db.execute(sa.update(packages).where(*own).values(**values))
