"""The tables: what has to be done with which image, what came of each layer, and which layers tags name."""

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, MetaData, String, Table, Text, false

metadata = MetaData()
_ROW_ID = BigInteger().with_variant(Integer(), "sqlite")

jobs = Table(
    "optimize__jobs",
    metadata,
    Column("id", _ROW_ID, primary_key=True),
    Column("repository", String(255), nullable=False),
    Column("digest", String(200), nullable=False),
    # The tags by which it was asked for or pushed, with spaces between them, or null.
    Column("tag", Text),
    # Somebody asked while it was worked on.
    Column("again", Boolean, nullable=False, server_default=false()),
    Column("state", String(12), nullable=False),
    # Seconds since the epoch, as all that end in _at.
    Column("due_at", Float, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("began_at", Float),
    Column("ended_at", Float),
    Column("noted_at", Float),
    Column("attempts", Integer, nullable=False),
    Column("bytes_done", BigInteger, nullable=False),
    Column("bytes_total", BigInteger, nullable=False),
    Column("saved", BigInteger, nullable=False),
    Column("message", Text, nullable=False),
    Index("optimize__ix_jobs_repository_digest", "repository", "digest", unique=True),
    Index("optimize__ix_jobs_state_due_at", "state", "due_at"),
    Index("optimize__ix_jobs_ended_at", "ended_at"),
)
"""One row for each manifest; it is pending again when somebody asks for it anew."""

layers = Table(
    "optimize__layers",
    metadata,
    Column("digest", String(200), primary_key=True),
    Column("form", String(64), primary_key=True),
    # A digest of what the image says of the layer, without "sha256:".
    Column("claim", String(64), primary_key=True),
    Column("kind", String(24), nullable=False),
    Column("state", String(12), nullable=False),
    # What the layer unpacks to, once that was proved, or null.
    Column("diff_id", String(200)),
    Column("size", BigInteger, nullable=False),
    # The descriptor of the new form as JSON, or null; its digest and size once more, for sums.
    Column("descriptor", Text),
    # That of its table of contents as JSON, where it has one beside it.
    Column("table_descriptor", Text),
    Column("optimized_digest", String(200)),
    Column("optimized_size", BigInteger),
    Column("message", Text, nullable=False),
    Column("milliseconds", BigInteger, nullable=False),
    Column("created_at", Float, nullable=False),
    Index("optimize__ix_layers_diff_id_form", "diff_id", "form"),
)
"""One row for each layer, form, and what an image says of the layer; ``form`` has all that the work depends on."""

images = Table(
    "optimize__images",
    metadata,
    Column("id", _ROW_ID, primary_key=True),
    Column("repository", String(255), nullable=False),
    Column("tag", String(128), nullable=False),
    Column("platform", String(255), nullable=False),
    Column("digest", String(200), nullable=False),
    Column("chain_id", String(200), nullable=False),
    # Seconds since the epoch, or null where the image does not say it.
    Column("created", Float),
    Column("current", Boolean, nullable=False),
    Index("optimize__ix_images_repository_tag", "repository", "tag"),
    Index("optimize__ix_images_chain_id", "chain_id"),
)
"""What each tag names, and named before, by platform."""
