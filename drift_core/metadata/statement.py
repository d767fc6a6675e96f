"""A statement of SQL that SQLAlchemy compiles once, and the database's driver runs.

To prepare one each time takes SQLAlchemy longer than the database takes to run it.
"""

from collections.abc import Iterable
from typing import Any

from msgspec import Struct
from sqlalchemy import ClauseElement, Connection
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.exc import DBAPIError


class _Form(Struct, frozen=True):
    """What a driver gets; ``names`` is the order of the parameters, None for a driver that takes them by name."""

    text: str
    names: tuple[str, ...] | None
    constants: dict[str, Any]


class Statement:
    """For values that drivers take and give as they are: text, numbers, bytes, None; ``columns`` are an insert's.

    Each method raises `sqlalchemy.exc.DBAPIError`, as SQLAlchemy does.
    """

    def __init__(self, clause: ClauseElement, *columns: str) -> None:
        self._clause = clause
        self._columns = columns
        self._forms: dict[str, _Form] = {}

    def rows(self, db: Connection, **values: Any) -> list[tuple[Any, ...]]:
        """Returns every row."""
        found: list[tuple[Any, ...]] = self._run(db, values).fetchall()
        return found

    def row(self, db: Connection, **values: Any) -> tuple[Any, ...] | None:
        """Returns the first row, or None."""
        found: tuple[Any, ...] | None = self._run(db, values).fetchone()
        return found

    def value(self, db: Connection, **values: Any) -> Any:
        """Returns the first column of the first row, or None."""
        found = self._run(db, values).fetchone()
        return None if found is None else found[0]

    def run(self, db: Connection, **values: Any) -> None:
        """Changes something."""
        self._run(db, values).close()

    def run_many(self, db: Connection, every: Iterable[dict[str, Any]]) -> None:
        """Changes something for each of several sets of values."""
        for values in every:
            self._run(db, values).close()

    def _run(self, db: Connection, values: dict[str, Any]) -> Any:
        if not db.in_transaction():
            db.begin()
        dialect = db.dialect
        form = self._forms.get(dialect.name) or self._compiled(dialect)
        if form.constants:
            values = form.constants | values
        parameters = values if form.names is None else [values[name] for name in form.names]
        cursor: Any = db.connection.cursor()
        base: Any = dialect.loaded_dbapi.Error
        try:
            cursor.execute(form.text, parameters)
        except base as error:
            raise DBAPIError.instance(form.text, None, error, base, dialect=dialect) from error
        return cursor

    def _compiled(self, dialect: Dialect) -> _Form:
        compiled: Any = self._clause.compile(dialect=dialect, column_keys=list(self._columns) or None)
        names = tuple(compiled.positiontup) if compiled.positional else None
        constants = {name: value for name, value in compiled.params.items() if value is not None}
        form = self._forms[dialect.name] = _Form(str(compiled), names, constants)
        return form
