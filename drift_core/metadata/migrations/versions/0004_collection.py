"""What nothing reaches, what was removed and can come back, and the runs that removed it."""

import sqlalchemy as sa
from alembic import op

from drift_core.metadata.tables import text

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Creates the tables, and enters what is unreached by now."""
    row_id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    for table in ("manifest_blobs", "manifest_children"):
        # An older version that runs beside this one leaves it out; see `adopt_edges`.
        op.add_column(table, sa.Column("repository_id", row_id, nullable=False, server_default="0"))
        op.execute(
            f"UPDATE {table} SET repository_id ="  # noqa: S608 - two names of above
            f" (SELECT repository_id FROM manifests WHERE manifests.id = {table}.manifest_id)"
        )
        op.drop_index(op.f(f"ix_{table}_digest"), table_name=table)
        columns = ["repository_id", "digest", "manifest_id"]
        op.create_index(op.f(f"ix_{table}_repository_id_digest_manifest_id"), table, columns)
    op.add_column("blobs", sa.Column("wanted_at", sa.Float(), nullable=True))
    op.add_column("blobs", sa.Column("damaged_at", sa.Float(), nullable=True))
    op.add_column("blobs", sa.Column("damage", sa.Text(), nullable=True))
    damaged = sa.text("damaged_at IS NOT NULL")
    op.create_index("ix_blobs_damaged", "blobs", ["digest"], sqlite_where=damaged, postgresql_where=damaged)
    op.create_table(
        "unreached",
        sa.Column("repository_id", row_id, nullable=False),
        sa.Column("kind", text(8), nullable=False),
        sa.Column("digest", text(200), nullable=False),
        sa.Column("since", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["repository_id"],
            ["repositories.id"],
            name=op.f("fk_unreached_repository_id_repositories"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("repository_id", "kind", "digest", name=op.f("pk_unreached")),
    )
    columns = ["kind", "since", "repository_id", "digest"]
    op.create_index(op.f("ix_unreached_kind_since_repository_id_digest"), "unreached", columns)
    op.create_table(
        "trash",
        sa.Column("id", row_id, nullable=False),
        sa.Column("removed_at", sa.Float(), nullable=False),
        sa.Column("repository_id", row_id, nullable=True),
        sa.Column("kind", text(8), nullable=False),
        sa.Column("digest", text(200), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("tag", text(128), nullable=True),
        sa.Column("media_type", text(255), nullable=True),
        sa.Column("subject", text(200), nullable=True),
        sa.Column("content", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(
            ["repository_id"], ["repositories.id"], name=op.f("fk_trash_repository_id_repositories"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trash")),
    )
    op.create_index(op.f("ix_trash_removed_at"), "trash", ["removed_at"])
    op.create_index(op.f("ix_trash_digest"), "trash", ["digest"])
    for column in ("subject", "tag"):
        some = sa.text(f"{column} IS NOT NULL")
        columns = ["repository_id", column]
        op.create_index(f"ix_trash_{column}", "trash", columns, sqlite_where=some, postgresql_where=some)
    op.create_table(
        "purges",
        sa.Column("digest", text(200), nullable=False),
        sa.Column("claimed_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_purges")),
    )
    op.create_table(
        "collections",
        sa.Column("id", row_id, nullable=False),
        sa.Column("began_by", text(16), nullable=False),
        sa.Column("dry_run", sa.Boolean(), nullable=False),
        sa.Column("state", text(16), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("started_at", sa.Float(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.Column("blobs", sa.BigInteger(), nullable=False),
        sa.Column("manifests", sa.BigInteger(), nullable=False),
        sa.Column("bytes_freed", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_collections")),
    )
    now = (
        "extract(epoch FROM clock_timestamp())"
        if op.get_bind().dialect.name == "postgresql"
        else "(julianday('now') - 2440587.5) * 86400.0"
    )
    for statement in (_BLOBS, _MANIFESTS, _UNHELD):
        op.execute(statement.format(now=now))


_BLOBS = """
    INSERT INTO unreached (repository_id, kind, digest, since)
    SELECT held.repository_id, 'blob', held.digest, {now} FROM repository_blobs AS held WHERE NOT EXISTS (
        SELECT 1 FROM manifest_blobs AS named
        WHERE named.repository_id = held.repository_id AND named.digest = held.digest
    )
"""

_MANIFESTS = """
    INSERT INTO unreached (repository_id, kind, digest, since)
    SELECT one.repository_id, 'manifest', one.digest, {now} FROM manifests AS one
    WHERE NOT EXISTS (SELECT 1 FROM tags WHERE tags.manifest_id = one.id)
    AND NOT EXISTS (
        SELECT 1 FROM manifest_children AS named
        WHERE named.repository_id = one.repository_id AND named.digest = one.digest
    )
"""

_UNHELD = """
    INSERT INTO trash (removed_at, kind, digest, size, reason)
    SELECT {now}, 'blob', blobs.digest, blobs.size, 'no repository held it' FROM blobs
    WHERE NOT EXISTS (SELECT 1 FROM repository_blobs AS held WHERE held.digest = blobs.digest)
"""
