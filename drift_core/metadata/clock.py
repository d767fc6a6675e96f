"""The clock by which everybody who shares a database goes."""

import time

from sqlalchemy import ColumnElement, Connection, Float, cast, extract, func, literal


def now(db: Connection) -> ColumnElement[float]:
    """Returns an expression for this moment, in seconds since the epoch.

    Of several nodes it is the database's clock, since theirs differ: PostgreSQL's ``clock_timestamp()``, which goes on
    within a transaction. A file of SQLite is used on one machine, whose clock it is.
    """
    if db.dialect.name == "postgresql":
        return cast(extract("epoch", func.clock_timestamp()), Float)
    return literal(time.time(), Float)
