"""Brings a database to the newest form, and refuses one that a newer Drift, or a newer plugin, has written."""

import errno
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DatabaseError

from drift_core.errors import DatabaseTooNew, PluginError, StartError
from drift_core.metadata.branch import Branch
from drift_core.metadata.database import create_engine
from drift_core.metadata.locks import exclusive

HERE = Path(__file__).parent

LOCK = "migrations"

NEARLY_FULL = 1 << 20
"""Free bytes below which a failure of the database is put down to the full disk."""


def migrate(url: str, branches: Sequence[Branch] = ()) -> None:
    """Creates or upgrades the database at ``url``; call it before any worker opens the database.

    Several nodes may do it at once: the first does it, and the others find it done.

    Raises:
        DatabaseTooNew: it holds a migration that this version does not know; nothing was changed.
        PluginError: a migration of a plugin fails, or makes a table with a name that is not the plugin's; it is undone.
        StartError: the database cannot be opened or written.
    """
    engine = create_engine(url, migrating=True)
    try:
        with engine.connect().execution_options(drift_write=True) as connection:
            with connection.begin():
                exclusive(connection, LOCK)
                _upgrade(connection, _config(str(HERE / "versions"), "alembic_version"), "Drift")
                _check_references(connection, "the migration of Drift")
            for branch in branches:
                with connection.begin():
                    exclusive(connection, LOCK)
                    _upgrade_branch(connection, branch)
    except DatabaseError as error:
        message = f"the database {_shown(engine)} cannot be used: {error.orig}{_circumstances(engine)}"
        raise StartError(message) from error
    finally:
        engine.dispose()


def _config(versions: str, version_table: str) -> Config:
    config = Config(attributes={"version_table": version_table})
    # "%" is special to the parser behind this.
    config.set_main_option("script_location", str(HERE).replace("%", "%%"))
    config.set_main_option("version_locations", versions.replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    return config


def _upgrade(connection: Connection, config: Config, writer: str) -> None:
    scripts = ScriptDirectory.from_config(config)
    known = {script.revision for script in scripts.walk_revisions()}
    options = {"version_table": config.attributes["version_table"]}
    present = set(MigrationContext.configure(connection, opts=options).get_current_heads())
    if present - known:
        unknown = ", ".join(sorted(present - known))
        message = f"the database {_shown(connection.engine)} was written by a newer {writer} (migration {unknown}); "
        raise DatabaseTooNew(f"{message}upgrade {writer}")
    if present != set(scripts.get_heads()):
        config.attributes["connection"] = connection
        command.upgrade(config, "heads")


def _upgrade_branch(connection: Connection, branch: Branch) -> None:
    before = _foreign(connection, branch)
    version_table = f"{branch.prefix}alembic_version"
    try:
        _upgrade(connection, _config(branch.folder(), version_table), branch.distribution)
    except StartError:
        raise
    except Exception as error:
        reason = error.orig if isinstance(error, DatabaseError) else f"{type(error).__name__}: {error}"
        message = f"the plugin {branch.plugin} of {branch.distribution} cannot make its tables: {reason}"
        raise PluginError(f"{message}{_circumstances(connection.engine)}") from error
    changed = before ^ _foreign(connection, branch)
    named = f"the plugin {branch.plugin} of {branch.distribution}"
    if changed:
        kind, name, *_ = min(changed, key=lambda row: (row[0] != "table", row))
        raise PluginError(f"{named} changes the {kind} {name}; the names of its tables begin with {branch.prefix}")
    _check_references(connection, named)


def _foreign(connection: Connection, branch: Branch) -> set[tuple[str, ...]]:
    """Returns everything in the database that is not the plugin's: kind, name, table, definition."""
    query = _EVERYTHING[connection.dialect.name]
    rows = (tuple(row) for row in connection.exec_driver_sql(query))
    # SQLite keeps the numbers of rows in a table of its own, which appears with the first that needs it.
    return {row for row in rows if not row[2].startswith((branch.prefix, "sqlite_"))}


_EVERYTHING = {
    "sqlite": "SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_master",
    "postgresql": """
        SELECT 'table', c.relname, c.relname, coalesce(string_agg(
            format('%s %s %s', a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull), ', ' ORDER BY a.attnum
        ), '')
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
        WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p') GROUP BY c.relname
        UNION ALL SELECT 'index', indexname, tablename, indexdef FROM pg_indexes WHERE schemaname = current_schema()
        UNION ALL SELECT 'constraint', o.conname, c.relname, pg_get_constraintdef(o.oid)
        FROM pg_constraint o JOIN pg_class c ON c.oid = o.conrelid WHERE o.connamespace = current_schema()::regnamespace
        UNION ALL SELECT 'trigger', t.tgname, c.relname, pg_get_triggerdef(t.oid)
        FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid WHERE NOT t.tgisinternal
    """.replace("%", "%%"),
}


def _check_references(connection: Connection, culprit: str) -> None:
    if connection.dialect.name != "sqlite":
        return  # the others check while they write
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
    if broken is not None:
        message = f"{culprit} leaves rows of {broken[0]} that refer to nothing in {broken[2]}"
        raise PluginError(message)


def _shown(engine: Engine) -> str:
    return engine.url.render_as_string(hide_password=True)


def _circumstances(engine: Engine) -> str:
    """Returns what SQLite does not say by itself: its errors for a full or read-only disk name neither."""
    if engine.dialect.name != "sqlite":
        return ""
    folder = Path(engine.url.database or ".").parent
    if not os.access(folder, os.W_OK):
        return f"; {folder} is read-only"
    if shutil.disk_usage(folder).free < NEARLY_FULL:
        return f"; no space is left in {folder}: {os.strerror(errno.ENOSPC)}"
    return ""
