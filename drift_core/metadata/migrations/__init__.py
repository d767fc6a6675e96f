"""Brings a database to the newest form, and refuses one that a newer Drift has written."""

import errno
import os
import shutil
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import DatabaseError

from drift_core.errors import DatabaseTooNew, StartError
from drift_core.metadata.database import create_engine

NEARLY_FULL = 1 << 20
"""Free bytes below which a failure of the database is put down to the full disk."""


def migrate(url: str) -> None:
    """Creates or upgrades the database at ``url``; call it before any worker opens the database.

    Raises:
        DatabaseTooNew: it holds a migration that this version does not know; nothing was changed.
        StartError: it cannot be opened or written.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    scripts = ScriptDirectory.from_config(config)
    known = {script.revision for script in scripts.walk_revisions()}
    engine = create_engine(url)
    try:
        with engine.connect().execution_options(drift_write=True) as connection, connection.begin():
            present = set(MigrationContext.configure(connection).get_current_heads())
            if present - known:
                unknown = ", ".join(sorted(present - known))
                message = f"the database {url} was written by a newer Drift (migration {unknown}); upgrade Drift"
                raise DatabaseTooNew(message)
            if present != set(scripts.get_heads()):
                config.attributes["connection"] = connection
                command.upgrade(config, "heads")
    except DatabaseError as error:
        message = f"the database {url} cannot be used: {error.orig}{_circumstances(engine.url.database)}"
        raise StartError(message) from error
    finally:
        engine.dispose()


def _circumstances(database: str | None) -> str:
    """Returns what SQLite does not say by itself: its errors for a full or read-only disk name neither."""
    folder = Path(database or ".").parent
    if not os.access(folder, os.W_OK):
        return f"; {folder} is read-only"
    if shutil.disk_usage(folder).free < NEARLY_FULL:
        return f"; no space is left in {folder}: {os.strerror(errno.ENOSPC)}"
    return ""
