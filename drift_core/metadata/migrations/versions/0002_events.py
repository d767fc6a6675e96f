"""Events for subscribers, and leases for background work."""

import sqlalchemy as sa
from alembic import op

from drift_core.metadata.tables import text

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Creates the tables."""
    row_id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "events",
        sa.Column("id", row_id, nullable=False),
        sa.Column("repository", text(255), nullable=False),
        sa.Column("action", text(32), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "leases",
        sa.Column("name", text(255), nullable=False),
        sa.Column("holder", text(255), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
    )
    op.create_table(
        "subscriptions",
        sa.Column("subscriber", text(255), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("subscriber", name=op.f("pk_subscriptions")),
    )
    op.create_table(
        "parked_events",
        sa.Column("subscriber", text(255), nullable=False),
        sa.Column("event_id", row_id, nullable=False),
        sa.ForeignKeyConstraint(["event_id"], ["events.id"], name=op.f("fk_parked_events_event_id_events")),
        sa.ForeignKeyConstraint(
            ["subscriber"],
            ["subscriptions.subscriber"],
            name=op.f("fk_parked_events_subscriber_subscriptions"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("subscriber", "event_id", name=op.f("pk_parked_events")),
    )
    op.create_index(op.f("ix_parked_events_event_id"), "parked_events", ["event_id"], unique=False)
