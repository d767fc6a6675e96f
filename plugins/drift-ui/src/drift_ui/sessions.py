"""Who is logged in: sessions in the database, known by the hash of a secret that only a cookie has."""

import hashlib
import hmac
import time
from collections.abc import Sequence
from functools import partial
from secrets import token_urlsafe
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, delete, insert, select, update

from drift_core.api import Credentials, Denied, Identity, Records
from drift_ui.config import UiConfig
from drift_ui.tables import sessions

COOKIE = "drift-console"
SECRET_LENGTH = 43
NOTE_SECONDS = 60.0
"""How exactly the last use of a session is known."""

MINUTE, HOUR = 60.0, 3600.0
LISTED = 100
"""Sessions of one person that are shown."""


class Session(Struct, frozen=True):
    """A login; times in seconds since the epoch. ``id`` is a hash, by which nobody can use it."""

    id: str
    identity: Identity
    agent: str
    address: str
    created_at: float
    used_at: float


class Sessions:
    """See `UiConfig` for how long one lives. Roles and groups are those of the login."""

    def __init__(self, records: Records, config: UiConfig) -> None:
        self._records = records
        self._idle = config.session_idle_minutes * MINUTE
        self.seconds = config.session_hours * HOUR

    async def begin(self, identity: Identity, credentials: Credentials) -> str:
        """Begins a session, and returns its secret.

        Raises:
            Denied: the credential was handed out to a program, or ends by itself.
        """
        if identity.delegated:
            raise Denied("a token or a certificate does not log in to the console; use the password, or single sign-on")
        secret, now = new_secret(), time.time()
        row = {
            "id": _id(secret),
            "name": identity.name,
            "identity": msgspec.json.encode(_told(identity)).decode(),
            "agent": "".join(filter(str.isprintable, credentials.header("user-agent") or ""))[:255],
            "address": credentials.client_address[:64],
            "created_at": now,
            "used_at": now,
        }
        await self._records.write(partial(_begin, row=row, created=now - self.seconds, used=now - self._idle))
        return secret

    async def find(self, secret: str, *, used: bool = True) -> Session | None:
        """Returns the session of a secret, None where there is none, or it has ended; ``used`` notes it as a use."""
        row = await self._records.read(partial(_find, session=_id(secret)))
        now = time.time()
        if row is None or row.created_at < now - self.seconds or row.used_at < now - self._idle:
            return None
        session = _session(row)
        if used and session.used_at < now - NOTE_SECONDS:
            await self._records.write(partial(_use, session=session.id, now=now))
        return session

    async def alive(self, sessions: Sequence[str]) -> set[str]:
        """Returns those of some sessions, by their ids, that have not ended."""
        if not sessions:
            return set()
        now = time.time()
        query = partial(_alive, ids=sessions, created=now - self.seconds, used=now - self._idle)
        return await self._records.read(query)

    async def of(self, name: str) -> list[Session]:
        """Returns the sessions of a person that have not ended, the newest first."""
        now = time.time()
        rows = await self._records.read(
            partial(_of, name=name, created=now - self.seconds, used=now - self._idle),
        )
        return [_session(row) for row in rows]

    async def end(self, name: str, session: str) -> bool:
        """Ends one session of a person, and returns whether there was one."""
        return await self._records.write(partial(_end, name=name, session=session))

    async def end_all(self, name: str) -> int:
        """Ends every session of a person, and returns how many there were."""
        return await self._records.write(partial(_end_all, name=name))


def new_secret() -> str:
    """Returns a secret that nobody can guess."""
    return token_urlsafe(32)


def csrf_token(secret: str) -> str:
    """Returns what only pages learn that were made for the browser with this secret; the secret does not follow."""
    return hmac.new(secret.encode(), b"drift-console-csrf", hashlib.sha256).hexdigest()


def mark_of(secret: str, text: str) -> str:
    """Returns what proves that the console itself has written a text into an address, for this browser."""
    return hmac.new(secret.encode(), b"drift-console-notice\n" + text.encode(), hashlib.sha256).hexdigest()[:32]


def is_mark_of(secret: str, text: str, mark: str) -> bool:
    """Says whether it does."""
    return hmac.compare_digest(mark_of(secret, text).encode(), mark.encode("utf-8", "replace"))


def check_token(secret: str, shown: str | None) -> None:
    """Raises `Denied` where ``shown`` is not the token of the browser with this secret."""
    if shown is None or not hmac.compare_digest(shown.encode("utf-8", "replace"), csrf_token(secret).encode()):
        raise Denied("the form is too old, or comes from another site; go back, load the page again, and send it again")


def _id(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _told(identity: Identity) -> dict[str, Any]:
    scopes = None if identity.scopes is None else [[one.kind, one.name, one.action] for one in sorted(identity.scopes)]
    groups, roles = sorted(identity.groups), sorted(identity.roles)
    return {"name": identity.name, "source": identity.source, "groups": groups, "roles": roles, "scopes": scopes}


def _session(row: Any) -> Session:
    identity = msgspec.convert(_read(row.identity), Identity)
    return Session(row.id, identity, row.agent, row.address, row.created_at, row.used_at)


def _read(text: str) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(text)
    if found["scopes"] is not None:
        found["scopes"] = [dict(zip(("kind", "name", "action"), scope, strict=True)) for scope in found["scopes"]]
    return found


def _begin(db: Connection, row: dict[str, Any], created: float, used: float) -> None:
    db.execute(delete(sessions).where(sessions.c.used_at < used))
    db.execute(delete(sessions).where(sessions.c.name == row["name"], sessions.c.created_at < created))
    db.execute(insert(sessions).values(row))


def _find(db: Connection, session: str) -> Any:
    return db.execute(select(sessions).where(sessions.c.id == session)).first()


def _not_ended(created: float, used: float) -> ColumnElement[bool]:
    return (sessions.c.created_at >= created) & (sessions.c.used_at >= used)


def _alive(db: Connection, ids: Sequence[str], created: float, used: float) -> set[str]:
    query = select(sessions.c.id).where(sessions.c.id.in_(ids), _not_ended(created, used))
    return set(db.execute(query).scalars())


def _of(db: Connection, name: str, created: float, used: float) -> Sequence[Any]:
    query = select(sessions).where(sessions.c.name == name, _not_ended(created, used))
    return db.execute(query.order_by(sessions.c.created_at.desc()).limit(LISTED)).all()


def _use(db: Connection, session: str, now: float) -> None:
    db.execute(update(sessions).where(sessions.c.id == session).values(used_at=now))


def _end(db: Connection, name: str, session: str) -> bool:
    return bool(db.execute(delete(sessions).where(sessions.c.name == name, sessions.c.id == session)).rowcount)


def _end_all(db: Connection, name: str) -> int:
    return int(db.execute(delete(sessions).where(sessions.c.name == name)).rowcount)
