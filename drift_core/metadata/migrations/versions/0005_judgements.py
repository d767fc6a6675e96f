"""What verifiers found in the artifacts that may sign a manifest."""

import sqlalchemy as sa
from alembic import op

from drift_core.metadata.tables import text

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Creates the table."""
    row_id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "judgements",
        sa.Column("manifest_id", row_id, nullable=False),
        sa.Column("subject", text(200), nullable=False),
        sa.Column("trust", text(64), nullable=False),
        sa.Column("judged_at", sa.Float(), nullable=False),
        sa.Column("claimed", sa.Boolean(), nullable=False),
        sa.Column("good", sa.Boolean(), nullable=False),
        sa.Column("found", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["manifest_id"], ["manifests.id"], name=op.f("fk_judgements_manifest_id_manifests"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("manifest_id", "subject", "trust", name=op.f("pk_judgements")),
    )
