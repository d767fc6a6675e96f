"""What is granted until it expires or is revoked: personal access tokens, robots, logins, Docker's refresh tokens."""

import hmac
import re
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, bindparam, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from drift_auth_token import opaque, tables
from drift_auth_token.config import parse_scope
from drift_auth_token.identity import SOURCE, TokenIdentity, account_of, scope_texts
from drift_auth_token.opaque import Opaque
from drift_core.api import Audit, AuditEvent, Denied, Identity, Owner, Records, Scope, Unauthorized

Kind = Literal["pat", "robot", "login", "docker"]
TOKENS: Mapping[Kind, opaque.Kind] = {"pat": "pat", "robot": "robot", "login": "refresh", "docker": "refresh"}
"""Which form the token of a grant has: that of a login or of Docker's protocol only gets others."""

ROBOT = "robot$"
"""What the names of robots begin with, and nobody else's."""

ROBOT_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,126}")

MAX_OF_ONE = 200
"""Most personal access tokens of one owner, logins, and refresh tokens of Docker: each is a row."""

MAX_SPENT = 100
"""How many refresh tokens of one login are remembered after their use; an older one is refused, but ends nothing."""


LONGEST = 255
"""Most characters of a name, of who knows it, and of a title."""


class NameTaken(Exception):
    """There is a robot of this name."""


class TooMany(Exception):
    """The owner has `MAX_OF_ONE` personal access tokens."""


class Grant(Struct, frozen=True, kw_only=True):
    """One grant: to whom (``name``, ``source``, ``groups``, ``roles``), and for what (``scopes``, None for all).

    ``account`` is the source of the identity to which it was given, None where a command gave it to a name. ``title``
    says what it is for. ``parent`` is the grant by which it was made, and with which it ends. ``created``,
    ``expires`` and ``used``, the last use, are in seconds since the epoch.
    """

    id: str
    kind: Kind
    name: str
    source: str
    groups: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()
    scopes: frozenset[Scope] | None = None
    title: str = ""
    parent: str | None = None
    created: float
    created_by: str
    expires: float | None = None
    used: float | None = None
    account: str | None = None

    def identity(self, owner: Owner | None = None) -> TokenIdentity:
        """Returns who asks by it; for ``owner`` see `Grants.owner`."""
        return TokenIdentity(
            self.name,
            self.source,
            self.groups,
            self.roles,
            self.scopes,
            self.kind != "login" or self.parent is not None,
            use="login" if self.kind == "login" else "robot" if self.kind == "robot" else "pat",
            grant=self.id,
            expires=self.expires,
            owner=owner,
        )

    def shown(self) -> dict[str, Any]:
        """Returns it as its owner sees it; times are in seconds since the epoch."""
        return {
            "id": self.id,
            "name": self.name.removeprefix(ROBOT) if self.kind == "robot" else self.title,
            "username": self.name,
            "description": self.title,
            "scopes": scope_texts(self),
            "roles": sorted(self.roles),
            "created_at": self.created,
            "created_by": self.created_by,
            "expires_at": self.expires,
            "last_used_at": self.used,
        }

    def event(self, kind: str, actor: Identity | None, username: str | None = None) -> AuditEvent:
        """Returns what the audit trail keeps of something that ``actor`` did with it."""
        return AuditEvent(
            type=kind,
            identity=actor,
            username=username,
            resource_type="Token",
            resource_id=self.id,
            parameters={
                "kind": self.kind,
                "owner": self.name,
                "title": self.title,
                "scopes": scope_texts(self),
                "expires": self.expires,
            },
        )


class Grants:
    """The table of all grants; every change is in the audit trail with the transaction that makes it."""

    def __init__(self, records: Records, audit: Audit) -> None:
        self._records = records
        self._audit = audit

    async def add(self, grant: Grant, events: Sequence[AuditEvent], by: Identity | None) -> str:
        """Keeps a grant, and returns the token for it, which nothing can show again; the oldest logins make room.

        Raises:
            Denied: somebody of this name gets nothing that lasts, since it cannot be kept.
            NameTaken: there is a robot of this name already.
            TooMany: the owner has too many personal access tokens.
            Unauthorized: the grant ``by`` which somebody makes it, or its parent, was revoked.
        """
        if any(len(text) > LONGEST or "\0" in text for text in (grant.name, grant.source, grant.created_by)):
            raise Denied("a token cannot be kept for a name like yours")
        token, secret = opaque.make(TOKENS[grant.kind], grant.id)

        def change(db: Connection) -> None:
            # Who it is may have been found out before the grant that says so was revoked.
            held = by.grant if isinstance(by, TokenIdentity) else None
            if not all(_holds(db, needed) for needed in {grant.parent, held} if needed):
                raise Unauthorized("the token was revoked", username=grant.name)
            if grant.kind != "robot":
                self._make_room(db, grant)
            robot = grant.name if grant.kind == "robot" else None
            db.execute(insert(tables.grants).values(**_values(grant), secret=secret, robot=robot))
            for event in events:
                self._audit.record(db, event)

        try:
            await self._records.write(change)
        except IntegrityError as error:
            raise NameTaken from error
        return token

    async def redeem(self, token: Opaque, kinds: Collection[Kind]) -> Grant | None:
        """Returns the grant that a token is for, None unless it is good now; both cost the same."""
        row = await self._records.read(partial(_row, grant=token.id))
        expected = "" if row is None else str(row.secret)
        same = hmac.compare_digest(token.secret, expected.rjust(64, "-"))
        grant = None if row is None else _grant(row)
        return grant if grant is not None and same and grant.kind in kinds and _lives(grant) else None

    async def owner(self, grant: Grant) -> Owner | None:
        """Returns whose a grant is: a robot, and what it has got, is whose token has made it, else nobody's."""
        while grant.name.startswith(ROBOT):
            parent = None if grant.parent is None else await self.find(grant.parent)
            if parent is None:
                return None
            grant = parent
        return Owner(grant.name, grant.account, grant.created)

    async def living(self, identifier: str) -> Grant | None:
        """Returns a grant that is still good, None where there is none."""
        row = await self._records.read(partial(_row, grant=identifier))
        grant = None if row is None else _grant(row)
        return grant if grant is not None and _lives(grant) else None

    async def renew(self, token: Opaque, expires: float) -> tuple[Grant, str] | None:
        """Replaces the refresh token of a login, and returns the login and the new one; None where it is not good.

        Who shows one that was replaced already ends the login, for him and for whoever has the newest.
        """
        fresh, secret = opaque.make("refresh", token.id)

        def change(db: Connection) -> Grant | None:
            row = _row(db, token.id)
            grant = None if row is None else _grant(row)
            if row is None or grant is None or grant.kind != "login" or not _lives(grant):
                return None
            # By one statement, so that of two who renew at once, on whatever nodes, one is the second.
            held = tables.grants.c.id == grant.id, tables.grants.c.secret == token.secret
            until = expires if grant.parent is None else grant.expires
            if db.execute(update(tables.grants).where(*held).values(secret=secret, expires=until)).rowcount:
                db.execute(insert(tables.spent).values(secret=token.secret, grant=grant.id, at=time.time()))
                _forget_spent(db, grant.id)
                self._audit.record(db, grant.event("TokenRefreshed", grant.identity()))
                return msgspec.structs.replace(grant, expires=until)
            if db.execute(select(tables.spent.c.grant).where(tables.spent.c.secret == token.secret)).first():
                event = msgspec.structs.replace(
                    grant.event("TokenRevoked", None, grant.name),
                    severity="warning",
                    reason="a refresh token was used twice",
                )
                self._end(db, grant, event)
            return None

        grant = await self._records.write(change)
        return None if grant is None else (grant, fresh)

    async def revoke(
        self, grant: Grant, actor: Identity | None, kind: str = "TokenRevoked", username: str | None = None
    ) -> None:
        """Ends a grant, and those that were made by it, on every worker within a second."""
        await self._records.write(lambda db: self._end(db, grant, grant.event(kind, actor, username)))

    async def revoke_all(self, name: str, username: str | None) -> int:
        """Ends everything that was granted to an identity, and returns how many there were."""

        def change(db: Connection) -> int:
            found = _found(db, tables.grants.c.name == name)
            for grant in found:
                self._end(db, grant, grant.event("TokenRevoked", None, username))
            return len(found)

        return await self._records.write(change)

    async def find(self, grant: str) -> Grant | None:
        """Returns a grant, None where there is none."""
        # PostgreSQL takes no text that has a zero byte in it.
        row = await self._records.read(partial(_row, grant=grant)) if opaque.is_id(grant) else None
        return None if row is None else _grant(row)

    async def listed(self, kind: Kind, name: str | None = None) -> list[Grant]:
        """Returns the grants of one kind, or those of them that one identity has, the oldest first."""
        wanted = [tables.grants.c.kind == kind, *([] if name is None else [tables.grants.c.name == name])]
        return await self._records.read(lambda db: _found(db, *wanted))

    async def robots(self, after: str, most: int) -> list[Grant]:
        """Returns at most so many robots, by name, beginning behind the name ``after``, without ``robot$``."""
        named = tables.grants.c.robot > f"{ROBOT}{after}"
        query = select(tables.grants).where(named).order_by(tables.grants.c.robot).limit(most)
        return await self._records.read(lambda db: [_grant(row) for row in db.execute(query)])

    async def note_uses(self, uses: Mapping[str, float]) -> None:
        """Keeps when grants were last used. Raises `Unavailable`."""
        if not uses:
            return
        rows = [{"grant": grant, "at": at} for grant, at in uses.items()]
        statement = update(tables.grants).where(tables.grants.c.id == bindparam("grant")).values(used=bindparam("at"))

        def change(db: Connection) -> None:
            db.execute(statement, rows)

        await self._records.write(change)

    async def purge(self, before: float) -> None:
        """Forgets what has expired ``before``, in seconds since the epoch."""

        def change(db: Connection) -> None:
            old = select(tables.grants.c.id).where(tables.grants.c.expires < before)
            db.execute(delete(tables.spent).where(tables.spent.c.grant.in_(old)))
            db.execute(delete(tables.grants).where(tables.grants.c.expires < before))

        await self._records.write(change)

    def _make_room(self, db: Connection, grant: Grant) -> None:
        """Ends the oldest logins like ``grant`` where there are `MAX_OF_ONE`. Raises `TooMany` for personal tokens."""
        same = tables.grants.c.name == grant.name, tables.grants.c.kind == grant.kind
        excess = db.execute(select(func.count()).where(*same)).scalar_one() - MAX_OF_ONE + 1
        if excess <= 0:
            return
        if grant.kind == "pat":
            raise TooMany
        # Those that a token made go first: with one that leaked, nobody ends the logins of its owner.
        by_age = tables.grants.c.parent.is_(None), tables.grants.c.created
        oldest = db.execute(select(tables.grants).where(*same).order_by(*by_age).limit(excess)).all()
        for old in map(_grant, oldest):
            event = old.event("TokenRevoked", None, old.name)
            self._end(db, old, msgspec.structs.replace(event, reason=f"there are {MAX_OF_ONE} newer ones"))

    def _end(self, db: Connection, grant: Grant, event: AuditEvent) -> None:
        ended: Sequence[str] = [grant.id]
        while ended:
            # First, since it waits for whoever makes one by it now: see `_holds`.
            db.execute(delete(tables.grants).where(tables.grants.c.id.in_(ended)))
            db.execute(delete(tables.spent).where(tables.spent.c.grant.in_(ended)))
            ended = list(db.execute(select(tables.grants.c.id).where(tables.grants.c.parent.in_(ended))).scalars())
        tables.bump(db)
        self._audit.record(db, event)


def begin(
    kind: Kind, identity: Identity, *, title: str = "", expires: float | None = None, created_by: str | None = None
) -> Grant:
    """Returns a new grant to somebody; one that is made by a token ends with it."""
    held = identity if isinstance(identity, TokenIdentity) else None
    limits = [until for until in (expires, held.expires if held else None) if until is not None]
    return Grant(
        id=opaque.new_id(),
        kind=kind,
        name=identity.name,
        source=SOURCE if kind in ("pat", "robot") else identity.source,
        groups=identity.groups,
        roles=identity.roles,
        scopes=identity.scopes,
        # Programs choose some of them.
        title=title.replace("\0", "")[:LONGEST],
        parent=(held.grant or None) if held else None,
        created=time.time(),
        created_by=created_by or identity.name,
        expires=min(limits) if limits else None,
        account=account_of(identity),
    )


def begin_robot(
    identity: Identity,
    *,
    title: str = "",
    expires: float | None = None,
    maker: Identity | None = None,
    created_by: str | None = None,
) -> Grant:
    """Returns a new robot, which ends with the token by which ``maker`` makes it. Raises `ValueError`.

    ``identity`` is the robot, as yet without the ``robot$`` by which nobody else is called.
    """
    if ROBOT_NAME.fullmatch(identity.name) is None:
        message = f"the name of a robot is {ROBOT_NAME.pattern}"
        raise ValueError(message)
    if not identity.scopes:
        message = "a robot needs at least one scope"
        raise ValueError(message)
    named = msgspec.structs.replace(identity, name=f"{ROBOT}{identity.name}")
    held = maker if isinstance(maker, TokenIdentity) else None
    grant = begin("robot", named, title=title, expires=expires, created_by=created_by)
    if held is None:
        return grant
    limits = [until for until in (expires, held.expires) if until is not None]
    return msgspec.structs.replace(grant, parent=held.grant or None, expires=min(limits) if limits else None)


def ends_in(days: float | None, most: float | None) -> float | None:
    """Returns when something ends that is wanted for ``days``, None for ever, where ``most`` days are allowed."""
    allowed = [limit for limit in (days, most) if limit is not None]
    return time.time() + min(allowed) * 86400 if allowed else None


def _lives(grant: Grant) -> bool:
    return grant.expires is None or grant.expires > time.time()


def _holds(db: Connection, grant: str) -> bool:
    """Returns whether a grant is still good; until the transaction ends, nobody revokes it."""
    row = db.execute(select(tables.grants).where(tables.grants.c.id == grant).with_for_update(read=True)).first()
    return row is not None and _lives(_grant(row))


def _forget_spent(db: Connection, grant: str) -> None:
    of_it = select(tables.spent.c.secret).where(tables.spent.c.grant == grant)
    old = db.execute(of_it.order_by(tables.spent.c.at.desc()).offset(MAX_SPENT)).scalars().all()
    db.execute(delete(tables.spent).where(tables.spent.c.secret.in_(old)))


def _row(db: Connection, grant: str) -> Any:
    return db.execute(select(tables.grants).where(tables.grants.c.id == grant)).first()


def _found(db: Connection, *wanted: Any) -> list[Grant]:
    query = select(tables.grants).where(*wanted).order_by(tables.grants.c.created, tables.grants.c.id)
    return [_grant(row) for row in db.execute(query)]


def _values(grant: Grant) -> dict[str, Any]:
    return msgspec.structs.asdict(grant) | {
        "groups": _text(grant.groups),
        "roles": _text(grant.roles),
        "scopes": None if (scopes := scope_texts(grant)) is None else _text(scopes),
    }


def _text(names: Iterable[str]) -> str:
    return msgspec.json.encode(sorted(names)).decode()


def _grant(row: Any) -> Grant:
    names = {key: frozenset(msgspec.json.decode(getattr(row, key), type=list[str])) for key in ("groups", "roles")}
    scopes = None if row.scopes is None else msgspec.json.decode(row.scopes, type=list[str])
    return Grant(
        id=row.id,
        kind=row.kind,
        name=row.name,
        source=row.source,
        groups=names["groups"],
        roles=names["roles"],
        scopes=None if scopes is None else frozenset(map(parse_scope, scopes)),
        title=row.title,
        parent=row.parent,
        created=row.created,
        created_by=row.created_by,
        expires=row.expires,
        used=row.used,
        account=row.account,
    )
