"""The users in the database: who they are, and every change of them."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec import Struct
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Float,
    MetaData,
    String,
    Table,
    delete,
    insert,
    or_,
    select,
    update,
)

from drift_auth_basic.accounts import Account, Roster
from drift_auth_basic.names import check_name, check_password
from drift_auth_basic.passwords import hash_password
from drift_core.api import Audit, AuditEvent, Records, Snapshot

LOGIN_SECONDS: Final = 300.0
"""How exactly the time of the last login is kept."""

_metadata: Final = MetaData()

users: Final = Table(
    "auth_basic__users",
    _metadata,
    Column("name", String(128).with_variant(String(128, collation="C"), "postgresql"), primary_key=True),
    Column("hashed", String(255), nullable=False),
    Column("disabled", Boolean, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("last_login_at", Float),
)

removed: Final = Table(
    "auth_basic__removed",
    _metadata,
    Column("name", String(128).with_variant(String(128, collation="C"), "postgresql"), primary_key=True),
    Column("removed_at", Float, nullable=False),
)
"""Names that were taken from somebody, and when last: what was given to them is not for who has the name next."""

revision: Final = Table("auth_basic__revision", _metadata, Column("counter", BigInteger, nullable=False))


class User(Struct, frozen=True):
    """One row, without the hash; times are in seconds since the epoch, ``last_login_at`` None is never."""

    name: str
    disabled: bool
    created_at: float
    last_login_at: float | None


class Users:
    """A `Source`; a change has effect at once, and in every other process within a second.

    Each change returns False where the user is not, or already, there.
    """

    def __init__(self, records: Records, audit: Audit) -> None:
        self._records = records
        self._audit = audit
        self._snapshot = Snapshot(records, _revision, _load)

    async def get(self) -> Roster:
        """See `Source.get`. Raises `Unavailable`."""
        return await self._snapshot.get()

    async def every(self) -> list[User]:
        """Returns all users by name."""
        columns = (users.c.name, users.c.disabled, users.c.created_at, users.c.last_login_at)
        query = select(*columns).order_by(users.c.name)
        return await self._records.read(lambda db: [User(*row) for row in db.execute(query)])

    async def add(self, name: str, password: str) -> bool:
        """Makes a user. Raises ValueError for a name or a password that nobody can have."""
        check_name(name)
        check_password(password)
        hashed = await asyncio.to_thread(hash_password, password)

        def change(db: Connection) -> bool:
            if db.execute(select(users.c.name).where(users.c.name == name)).first() is not None:
                return False
            db.execute(insert(users).values(name=name, hashed=hashed, disabled=False, created_at=time.time()))
            self._record(db, "UserCreated", name)
            return True

        return await self._change(change)

    async def set_password(self, name: str, password: str) -> bool:
        """Changes the password. Raises ValueError for one that nobody can have."""
        check_password(password)
        hashed = await asyncio.to_thread(hash_password, password)
        return await self._modify(name, {"hashed": hashed}, "password")

    async def set_disabled(self, name: str, *, disabled: bool) -> bool:
        """Refuses the user's password, and what was given out for them, from now on, or takes it again."""
        return await self._modify(name, {"disabled": disabled}, "disabled" if disabled else "enabled")

    async def remove(self, name: str) -> bool:
        """Forgets a user, but for the name and the time: what was given out for them ends, also where the name is back.

        Clocks of nodes may differ by seconds: who gets a name anew within these seconds may get less than is given.
        """

        def change(db: Connection) -> bool:
            if db.execute(delete(users).where(users.c.name == name)).rowcount == 0:
                return False
            now = time.time()
            if db.execute(update(removed).where(removed.c.name == name).values(removed_at=now)).rowcount == 0:
                db.execute(insert(removed).values(name=name, removed_at=now))
            self._record(db, "UserDeleted", name)
            return True

        return await self._change(change)

    async def logged_in(self, name: str) -> None:
        """Keeps the time of a login, unless that of one shortly before is kept."""
        now = time.time()
        earlier = or_(users.c.last_login_at.is_(None), users.c.last_login_at < now - LOGIN_SECONDS)
        statement = update(users).where(users.c.name == name, earlier).values(last_login_at=now)
        # It is one statement, and no login waits for another.
        await self._records.write(lambda db: db.execute(statement), concurrent=True)

    async def _modify(self, name: str, values: Mapping[str, Any], what: str) -> bool:
        def change(db: Connection) -> bool:
            if db.execute(update(users).where(users.c.name == name).values(**values)).rowcount == 0:
                return False
            self._record(db, "UserModified", name, {"changed": what})
            return True

        return await self._change(change)

    async def _change(self, change: Callable[[Connection], bool]) -> bool:
        done = await self._records.write(change)
        await self._snapshot.refresh()
        return done

    def _record(self, db: Connection, kind: str, name: str, parameters: dict[str, Any] | None = None) -> None:
        db.execute(update(revision).values(counter=revision.c.counter + 1))
        event = AuditEvent(type=kind, resource_type="User", resource_id=name, parameters=parameters or {})
        self._audit.record(db, event)


def _revision(db: Connection) -> object:
    return db.execute(select(revision.c.counter)).scalar_one()


def _load(db: Connection) -> Roster:
    accounts = db.execute(select(users.c.name, users.c.hashed, users.c.disabled)).all()
    gone = {row.name: row.removed_at for row in db.execute(select(removed.c.name, removed.c.removed_at))}
    return Roster.of((Account(*row) for row in accounts), gone)
