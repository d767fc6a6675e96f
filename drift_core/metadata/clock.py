"""The clock by which everybody who shares a database goes."""

from typing import Any

from sqlalchemy import Float
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement


class now(FunctionElement[float]):  # noqa: N801 - it is written like a function of SQL
    """An expression for this moment, in seconds since the epoch.

    Of several nodes it is the database's clock, since theirs differ: PostgreSQL's ``clock_timestamp()``, which goes on
    within a transaction. A file of SQLite is used on one machine, whose clock it is, in milliseconds.
    """

    type = Float()
    inherit_cache = True


@compiles(now, "postgresql")
def _postgresql(*_: Any, **__: Any) -> str:
    return "CAST(extract(epoch FROM clock_timestamp()) AS double precision)"


@compiles(now, "sqlite")
def _sqlite(*_: Any, **__: Any) -> str:
    # The Julian day of the epoch, and the seconds of a day.
    return "((julianday('now') - 2440587.5) * 86400.0)"
