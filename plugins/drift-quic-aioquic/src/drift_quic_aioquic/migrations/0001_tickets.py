"""Makes the tables of tickets and of processes."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0001", None

COUNTS = (
    "active_connections",
    "connections_total",
    "bytes_sent",
    "bytes_received",
    "packets_sent",
    "packets_received",
    "connection_errors",
    "stream_errors",
)


def upgrade() -> None:
    """Creates the tables."""
    op.create_table(
        "quic__tickets",
        sa.Column("id", sa.LargeBinary(32), primary_key=True),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("expires_at", sa.Float, nullable=False),
    )
    op.create_index("quic__ix_tickets_created_at", "quic__tickets", ["created_at"])
    op.create_index("quic__ix_tickets_expires_at", "quic__tickets", ["expires_at"])
    op.create_table(
        "quic__workers",
        sa.Column("node", sa.String(300), primary_key=True),
        sa.Column("worker", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("pid", sa.BigInteger, nullable=False),
        sa.Column("began_at", sa.Float, nullable=False),
        sa.Column("updated_at", sa.Float, nullable=False),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in COUNTS),
    )
