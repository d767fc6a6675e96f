"""The migrations make exactly the tables that the code uses, and those of a plugin apart from them."""

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect

from drift_core.errors import DatabaseTooNew, PluginError
from drift_core.metadata.branch import Branch
from drift_core.metadata.database import create_engine
from drift_core.metadata.migrations import migrate
from drift_core.metadata.tables import metadata


def test_migrations_make_the_tables_of_the_code(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'drift.db'}"
    migrate(url)
    engine = create_engine(url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


class History:
    """A package of revisions of a throw-away plugin, and a database."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"sqlite:///{folder / 'drift.db'}"
        self.branch = Branch("tape-deck", "acme-tape", "acme_tape_migrations")
        (folder / self.branch.package).mkdir()

    def revise(self, number: int, upgrade: str) -> None:
        before = None if number == 1 else str(number - 1)
        source = f"from alembic import op\nimport sqlalchemy as sa\nrevision, down_revision = '{number}', {before!r}\n"
        file = self.folder / self.branch.package / f"{number}.py"
        file.write_text(f"{source}def upgrade():\n    {upgrade}\n")

    def migrate(self) -> None:
        migrate(self.url, [self.branch])

    def columns(self) -> dict[str, list[str]]:
        """Returns the columns of every table that is not the core's."""
        engine = create_engine(self.url)
        with engine.connect() as connection:
            found = inspect(connection)
            names = set(found.get_table_names()) - set(metadata.tables) - {"alembic_version"}
            columns = {name: [column["name"] for column in found.get_columns(name)] for name in sorted(names)}
        engine.dispose()
        return columns


TAPES = "op.create_table('tape_deck__tapes', sa.Column('label', sa.String(9), primary_key=True))"


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> History:
    monkeypatch.syspath_prepend(tmp_path)
    history = History(tmp_path)
    history.revise(1, TAPES)
    return history


def test_a_plugin_has_tables_and_a_history_of_its_own(history: History) -> None:
    history.migrate()
    assert history.columns() == {"tape_deck__alembic_version": ["version_num"], "tape_deck__tapes": ["label"]}
    history.revise(2, "op.add_column('tape_deck__tapes', sa.Column('length', sa.Integer))")
    history.migrate()
    history.migrate()
    assert history.columns()["tape_deck__tapes"] == ["label", "length"]


@pytest.mark.parametrize(
    ("upgrade", "reason"),
    [
        ("raise ValueError('no tape')", "cannot make its tables: ValueError: no tape"),
        (TAPES, "cannot make its tables: table tape_deck__tapes already exists"),
        (TAPES.replace("tape_deck__tapes", "tapes"), "changes the table tapes; the names of its tables begin"),
        (
            "op.drop_table('leases')",
            "changes the table leases; the names of its tables begin with tape_deck__",
        ),
        ("op.add_column('manifests', sa.Column('tape', sa.Integer))", "changes the table manifests; "),
        ("op.execute('CREATE INDEX t ON tags (name)')", "changes the index t; "),
        ("op.execute('CREATE TRIGGER t AFTER INSERT ON tags BEGIN DELETE FROM tags; END')", "changes the trigger t; "),
    ],
)
def test_a_bad_migration_of_a_plugin_is_undone(history: History, upgrade: str, reason: str) -> None:
    history.revise(2, f"op.create_table('tape_deck__more', sa.Column('id', sa.Integer))\n    {upgrade}")
    with pytest.raises(PluginError, match="the plugin tape-deck of acme-tape") as raised:
        history.migrate()
    assert reason in str(raised.value)
    migrate(history.url)
    assert history.columns() == {}
    (history.folder / history.branch.package / "2.py").unlink()
    history.migrate()
    assert list(history.columns()) == ["tape_deck__alembic_version", "tape_deck__tapes"]


TRACKS = """op.create_table(
        'tape_deck__tracks',
        sa.Column('number', sa.Integer, primary_key=True),
        sa.Column('label', sa.String(9), sa.ForeignKey('tape_deck__tapes.label', ondelete='CASCADE')),
    )
    op.execute("INSERT INTO tape_deck__tapes VALUES ('one')")
    op.execute("INSERT INTO tape_deck__tracks VALUES (1, 'one')")"""
LONGER = """with op.batch_alter_table('tape_deck__tapes', recreate='always') as table:
        table.add_column(sa.Column('length', sa.Integer))"""


def test_a_table_that_is_made_anew_takes_no_row_of_another_with_it(history: History) -> None:
    history.revise(2, TRACKS)
    history.revise(3, LONGER)
    history.migrate()
    engine = create_engine(history.url)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT * FROM tape_deck__tracks").all() == [(1, "one")]
    engine.dispose()


def test_a_migration_that_leaves_rows_without_what_they_refer_to_is_undone(history: History) -> None:
    history.revise(2, TRACKS)
    history.revise(3, "op.execute('DELETE FROM tape_deck__tapes')")
    with pytest.raises(PluginError, match="leaves rows of tape_deck__tracks that refer to nothing in tape_deck__tapes"):
        history.migrate()


@pytest.mark.parametrize("name", ["a--b", "a__b", "a_-b", "-a", "a-", "a.b", ""])
def test_a_name_whose_prefix_could_be_that_of_another_has_no_tables(name: str) -> None:
    with pytest.raises(PluginError, match="cannot have tables: it is no plain name"):
        Branch(name, "acme-tape", "json")


def test_tables_of_a_newer_plugin_are_refused(history: History) -> None:
    history.revise(2, "pass")
    history.migrate()
    (history.folder / history.branch.package / "2.py").unlink()
    with pytest.raises(DatabaseTooNew, match=r"was written by a newer acme-tape \(migration 2\); upgrade acme-tape"):
        history.migrate()
    migrate(history.url)


def test_migrations_that_are_not_there_are_named(tmp_path: Path) -> None:
    for package in ("acme_nowhere.migrations", "acme_nowhere", "json.decoder"):
        with pytest.raises(PluginError, match=f"there is no package {package}"):
            migrate(f"sqlite:///{tmp_path / 'drift.db'}", [Branch("tape", "acme-tape", package)])
