"""Keeps what was given out: sessions of browsers, tokens of `drift login`, and tokens of jobs."""

import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Literal

import msgspec
from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, delete, insert, select, update

from drift_auth_oidc import tables
from drift_auth_oidc.person import Known, Person
from drift_auth_oidc.seal import Seal
from drift_core.api import Audit, AuditEvent, Records, Snapshot

Kind = Literal["session", "cli", "workload"]

PREFIXES: dict[Kind, str] = {"session": "", "cli": "drift_cli_", "workload": "drift_ci_"}
"""How a secret begins, so that scanners and other plugins know whose it is."""

REMEMBERED = 4096
"""Grants that each worker remembers."""

TOUCH_SECONDS = 60.0
"""How exact the time of the last use is."""


class Grant(Struct, frozen=True, kw_only=True):
    """One of them, without its secret; times are in seconds since the epoch.

    ``checked`` is when the provider last said that the person may log in; ``sealed`` has the token to ask it again.
    """

    id: str
    kind: Kind
    person: Person
    label: str
    created: float
    seen: float
    checked: float
    expires: float
    sealed: str | None = None


class Grants:
    """Finds a grant by its secret; whatever was revoked is gone from every process within 0.25 s.

    ``idle_seconds`` is how long a session lives without a request. ``clock`` is `time.time`, or that of a test.
    """

    def __init__(
        self,
        records: Records,
        seal: Seal,
        audit: Audit,
        idle_seconds: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.clock = clock
        self._records = records
        self._seal = seal
        self._audit = audit
        self._idle = idle_seconds
        self._revision = Snapshot(records, tables.counter, tables.counter)
        self._remembered: OrderedDict[str, tuple[int, Grant]] = OrderedDict()

    async def issue(
        self,
        kind: Kind,
        known: Known,
        seconds: float,
        label: str,
        *,
        replaces: str | None = None,
        spend: Callable[[Connection], float] | None = None,
    ) -> tuple[str, Grant]:
        """Returns a new secret, which is nowhere kept, and its grant, after both are durable.

        In the same transaction the session with the secret ``replaces`` ends, and ``spend`` takes away what is given
        for it, and returns when the provider was last asked.
        """
        secret = PREFIXES[kind] + secrets.token_urlsafe(32)
        now = self.clock()
        grant = Grant(
            id=secrets.token_hex(8),
            kind=kind,
            person=known.person,
            label=printable(label),
            created=now,
            seen=now,
            checked=now,
            expires=now + seconds,
            sealed=None if known.access_token is None else self._seal.close(known.access_token.encode()),
        )

        def change(db: Connection) -> Grant:
            made = grant if spend is None else msgspec.structs.replace(grant, checked=spend(db))
            db.execute(delete(tables.grants).where(tables.grants.c.expires < now))
            if replaces is not None and db.execute(delete(tables.grants).where(_is(replaces))).rowcount:
                tables.revise(db)
            db.execute(insert(tables.grants).values(hash=_hash(secret), **_row(made)))
            self._audit.record(db, _issued(made))
            return made

        return secret, await self._records.write(change)

    async def find(self, secret: str, kinds: tuple[Kind, ...]) -> Grant | None:
        """Returns the grant of a secret, None for one that is unknown, revoked, expired, or of another kind."""
        key = _hash(secret)
        revision = await self._revision.get()
        remembered = self._remembered.get(key)
        if remembered is not None and remembered[0] == revision:
            grant = remembered[1]
            self._remembered.move_to_end(key)
            if self._alive(grant):
                return await self._touched(key, grant) if grant.kind in kinds else None
        # Or another worker has seen the session meanwhile.
        grant = await self._load(key)
        if grant is None or not self._alive(grant) or grant.kind not in kinds:
            return None
        return await self._touched(key, grant)

    def lives(self, db: Connection, identifier: str) -> bool:
        """Returns whether the grant with this id is still good, for a change in the same transaction."""
        row = db.execute(select(tables.grants).where(of_id(identifier))).first()
        return row is not None and self._alive(_grant(row))

    def opened(self, sealed: str | None) -> str | None:
        """Returns a provider's token, None where there is none, or it was sealed by another key."""
        opened = None if sealed is None else self._seal.open(sealed)
        return None if opened is None else opened.decode()

    async def confirm(self, grant: Grant, person: Person) -> Grant:
        """Returns the grant with what the provider says of its person now."""
        confirmed = msgspec.structs.replace(grant, person=person, checked=self.clock())
        values = {"person": _json(person), "checked": confirmed.checked}

        def change(db: Connection) -> None:
            db.execute(update(tables.grants).where(tables.grants.c.id == grant.id).values(**values))
            tables.revise(db)

        await self._records.write(change)
        return confirmed

    async def revoke(self, wanted: ColumnElement[bool], reason: str, by: Person | None = None) -> list[Grant]:
        """Returns the grants that this has ended, of those that ``wanted`` says; ``by`` None is the server."""

        def change(db: Connection) -> list[Grant]:
            ended = [_grant(row) for row in db.execute(select(tables.grants).where(wanted))]
            if ended:
                db.execute(delete(tables.grants).where(tables.grants.c.id.in_([grant.id for grant in ended])))
                tables.revise(db)
            for grant in ended:
                self._audit.record(db, _ended(grant, reason, by))
            return ended

        ended = await self._records.write(change)
        await self._revision.refresh()
        return ended

    async def listed(self, wanted: ColumnElement[bool]) -> list[Grant]:
        """Returns what is still good of what ``wanted`` says, the newest first."""
        good = tables.grants.c.expires > self.clock()
        query = select(tables.grants).where(wanted, good).order_by(tables.grants.c.created.desc())
        found = await self._records.read(lambda db: [_grant(row) for row in db.execute(query)])
        return [grant for grant in found if self._alive(grant)]

    async def _load(self, key: str) -> Grant | None:
        def query(db: Connection) -> tuple[int, Grant | None]:
            revision = tables.counter(db)
            row = db.execute(select(tables.grants).where(tables.grants.c.hash == key)).first()
            return revision, None if row is None else _grant(row)

        revision, grant = await self._records.read(query)
        if grant is not None:
            self._remember(key, revision, grant)
        return grant

    def _remember(self, key: str, revision: int, grant: Grant) -> None:
        self._remembered[key] = (revision, grant)
        if len(self._remembered) > REMEMBERED:
            self._remembered.popitem(last=False)

    def _alive(self, grant: Grant) -> bool:
        now = self.clock()
        return now < grant.expires and (grant.kind != "session" or now < grant.seen + self._idle)

    async def _touched(self, key: str, grant: Grant) -> Grant:
        now = self.clock()
        if now - grant.seen < min(TOUCH_SECONDS, self._idle / 4):
            return grant
        seen = msgspec.structs.replace(grant, seen=now)
        if (remembered := self._remembered.get(key)) is not None:
            self._remember(key, remembered[0], seen)
        await self._records.write(
            lambda db: db.execute(update(tables.grants).where(tables.grants.c.hash == key).values(seen=now))
        )
        return seen


def printable(label: str) -> str:
    """Returns what is shown, and kept, of what a program or a provider says of itself."""
    return "".join(letter for letter in label[:255] if letter.isprintable())


def described(grant: Grant) -> dict[str, Any]:
    """Returns what is shown of a grant, as JSON."""
    return {
        "id": grant.id,
        "kind": grant.kind,
        "name": grant.person.name,
        "label": grant.label,
        "created": grant.created,
        "last_seen": grant.seen,
        "expires": grant.expires,
    }


def of_person(person: Person) -> ColumnElement[bool]:
    """Returns the condition for everything that was given to a person."""
    return (tables.grants.c.provider == person.provider) & (tables.grants.c.subject == person.subject)


def of_provider(provider: str) -> ColumnElement[bool]:
    """Returns the condition for everything that was given to people of a provider."""
    return tables.grants.c.provider == provider


def of_kind(kind: Kind) -> ColumnElement[bool]:
    """Returns the condition for everything of a kind."""
    return tables.grants.c.kind == kind


def of_id(identifier: str) -> ColumnElement[bool]:
    """Returns the condition for one grant."""
    return tables.grants.c.id == identifier


def named(name: str) -> ColumnElement[bool]:
    """Returns the condition for everything that was given to whoever has this name."""
    return tables.grants.c.name == name


def _is(secret: str) -> ColumnElement[bool]:
    return tables.grants.c.hash == _hash(secret)


def _hash(secret: str) -> str:
    # Plain, since what is hashed has 256 random bits.
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _json(person: Person) -> str:
    return msgspec.json.encode(person).decode()


def _row(grant: Grant) -> dict[str, Any]:
    return {
        **{name: getattr(grant, name) for name in Grant.__struct_fields__ if name != "person"},
        "provider": grant.person.provider,
        "subject": grant.person.subject,
        "name": grant.person.name,
        "person": _json(grant.person),
    }


def _grant(row: Any) -> Grant:
    values = {name: getattr(row, name) for name in Grant.__struct_fields__ if name != "person"}
    return Grant(person=msgspec.json.decode(row.person, type=Person), **values)


def _issued(grant: Grant) -> AuditEvent:
    return AuditEvent(
        type="Login" if grant.kind == "session" else "TokenIssued",
        identity=grant.person.identity(),
        resource_type="Session" if grant.kind == "session" else "Token",
        resource_id=grant.id,
        parameters={"kind": grant.kind, "provider": grant.person.provider, "label": grant.label},
    )


def _ended(grant: Grant, reason: str, by: Person | None) -> AuditEvent:
    return AuditEvent(
        type="Logout" if grant.kind == "session" else "TokenRevoked",
        identity=None if by is None else by.identity(),
        resource_type="Session" if grant.kind == "session" else "Token",
        resource_id=grant.id,
        parameters={"kind": grant.kind, "name": grant.person.name, "reason": reason},
    )
