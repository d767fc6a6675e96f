"""Makes the tables: what was given out, logins that were used, devices that wait, and the key of the seal."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0001", None


def upgrade() -> None:
    """Makes the tables, and the counter of their changes."""
    counter = op.create_table(
        "auth_oidc__revision",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("counter", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(counter, [{"id": 1, "counter": 0}])
    op.create_table(
        "auth_oidc__seal",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("key", sa.String(64), nullable=False),
    )
    op.create_table(
        "auth_oidc__grants",
        sa.Column("hash", sa.String(64), primary_key=True),
        sa.Column("id", sa.String(32), nullable=False, unique=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("provider", sa.String(64), nullable=False),
        sa.Column("subject", sa.String(255), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("person", sa.Text, nullable=False),
        sa.Column("label", sa.String(255), nullable=False),
        sa.Column("sealed", sa.Text, nullable=True),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("seen", sa.Float, nullable=False),
        sa.Column("checked", sa.Float, nullable=False),
        sa.Column("expires", sa.Float, nullable=False),
    )
    op.create_index("auth_oidc__grants_expires", "auth_oidc__grants", ["expires"])
    op.create_index("auth_oidc__grants_subject", "auth_oidc__grants", ["provider", "subject"])
    op.create_index("auth_oidc__grants_name", "auth_oidc__grants", ["name"])
    op.create_table(
        "auth_oidc__states",
        sa.Column("hash", sa.String(64), primary_key=True),
        sa.Column("expires", sa.Float, nullable=False),
    )
    op.create_index("auth_oidc__states_expires", "auth_oidc__states", ["expires"])
    op.create_table(
        "auth_oidc__devices",
        sa.Column("hash", sa.String(64), primary_key=True),
        sa.Column("user_code", sa.String(16), nullable=False, unique=True),
        sa.Column("label", sa.String(255), nullable=False),
        sa.Column("address", sa.String(64), nullable=False),
        sa.Column("network", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("session", sa.String(32), nullable=True),
        sa.Column("person", sa.Text, nullable=True),
        sa.Column("sealed", sa.Text, nullable=True),
        sa.Column("checked", sa.Float, nullable=False),
        sa.Column("interval", sa.Integer, nullable=False),
        sa.Column("polled", sa.Float, nullable=False),
        sa.Column("expires", sa.Float, nullable=False),
    )
    op.create_index("auth_oidc__devices_expires", "auth_oidc__devices", ["expires"])
