"""Makes the tables of jobs, layers and images."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0001", None

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Creates the tables."""
    op.create_table(
        "optimize__jobs",
        sa.Column("id", ROW_ID, primary_key=True),
        sa.Column("repository", sa.String(255), nullable=False),
        sa.Column("digest", sa.String(200), nullable=False),
        sa.Column("tag", sa.Text),
        sa.Column("again", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("state", sa.String(12), nullable=False),
        sa.Column("due_at", sa.Float, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("began_at", sa.Float),
        sa.Column("ended_at", sa.Float),
        sa.Column("noted_at", sa.Float),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("bytes_done", sa.BigInteger, nullable=False),
        sa.Column("bytes_total", sa.BigInteger, nullable=False),
        sa.Column("saved", sa.BigInteger, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
    )
    op.create_index("optimize__ix_jobs_repository_digest", "optimize__jobs", ["repository", "digest"], unique=True)
    op.create_index("optimize__ix_jobs_state_due_at", "optimize__jobs", ["state", "due_at"])
    op.create_index("optimize__ix_jobs_ended_at", "optimize__jobs", ["ended_at"])
    op.create_table(
        "optimize__layers",
        sa.Column("digest", sa.String(200), primary_key=True),
        sa.Column("form", sa.String(64), primary_key=True),
        sa.Column("claim", sa.String(64), primary_key=True),
        sa.Column("kind", sa.String(24), nullable=False),
        sa.Column("state", sa.String(12), nullable=False),
        sa.Column("diff_id", sa.String(200)),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("descriptor", sa.Text),
        sa.Column("table_descriptor", sa.Text),
        sa.Column("optimized_digest", sa.String(200)),
        sa.Column("optimized_size", sa.BigInteger),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("milliseconds", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
    )
    op.create_index("optimize__ix_layers_diff_id_form", "optimize__layers", ["diff_id", "form"])
    op.create_table(
        "optimize__images",
        sa.Column("id", ROW_ID, primary_key=True),
        sa.Column("repository", sa.String(255), nullable=False),
        sa.Column("tag", sa.String(128), nullable=False),
        sa.Column("platform", sa.String(255), nullable=False),
        sa.Column("digest", sa.String(200), nullable=False),
        sa.Column("chain_id", sa.String(200), nullable=False),
        sa.Column("created", sa.Float),
        sa.Column("current", sa.Boolean, nullable=False),
    )
    op.create_index("optimize__ix_images_repository_tag", "optimize__images", ["repository", "tag"])
    op.create_index("optimize__ix_images_chain_id", "optimize__images", ["chain_id"])
