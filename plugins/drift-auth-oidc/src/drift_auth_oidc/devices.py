"""Lets somebody who is logged in in a browser log in a device without one: `drift login` (RFC 8628)."""

import hashlib
import secrets
from typing import Literal

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, delete, func, insert, select, update

from drift_auth_oidc import tables
from drift_auth_oidc.grants import Grant, Grants, printable
from drift_auth_oidc.person import Known, Person
from drift_core.api import Records, TooManyRequests, network_of

DEVICE_SECONDS = 600
"""How long a device waits."""

INTERVAL = 5
"""Seconds between its questions; each that comes too early adds as many."""

LETTERS = "BCDFGHJKLMNPQRSTVWXZ"
"""Those of user codes (section 6.1): no vowels, so that no word comes out."""

MOST_WAITING, MOST_OF_NETWORK = 1000, 20
"""Devices that may wait at once, and those of one network, which is what one client has for itself."""

Refusal = Literal["authorization_pending", "slow_down", "access_denied", "expired_token"]


class Waiting(Struct, frozen=True):
    """A device that waits, as the person who confirms it sees it."""

    user_code: str
    label: str
    address: str


class Devices:
    """Every device that waits for a token; one is given once."""

    def __init__(self, records: Records, grants: Grants, token_seconds: float) -> None:
        self._records = records
        self._grants = grants
        self._token_seconds = token_seconds

    async def begin(self, label: str, address: str) -> tuple[str, str]:
        """Returns the device code, which is secret, and the user code. Raises `TooManyRequests`."""
        now = self._grants.clock()
        device_code = secrets.token_urlsafe(32)
        letters = "".join(secrets.choice(LETTERS) for _ in range(8))
        network = network_of(address)[:64]
        user_code = f"{letters[:4]}-{letters[4:]}"

        def change(db: Connection) -> None:
            db.execute(delete(tables.devices).where(tables.devices.c.expires < now))
            waiting = select(func.count()).select_from(tables.devices)
            own = waiting.where(tables.devices.c.network == network)
            if db.execute(waiting).scalar_one() >= MOST_WAITING or db.execute(own).scalar_one() >= MOST_OF_NETWORK:
                raise TooManyRequests("too many devices wait for a login", DEVICE_SECONDS)
            db.execute(
                insert(tables.devices).values(
                    hash=_hash(device_code),
                    user_code=user_code,
                    label=printable(label),
                    address=address[:64],
                    network=network,
                    state="pending",
                    checked=now,
                    interval=INTERVAL,
                    polled=now - INTERVAL,
                    expires=now + DEVICE_SECONDS,
                )
            )

        await self._records.write(change)
        return device_code, user_code

    async def find(self, user_code: str) -> Waiting | None:
        """Returns the device that waits with this code, as somebody may type it."""
        code, now = _tidy(user_code), self._grants.clock()
        query = select(tables.devices).where(tables.devices.c.user_code == code, tables.devices.c.expires > now)
        row = await self._records.read(lambda db: db.execute(query).first())
        return Waiting(row.user_code, row.label, row.address) if row is not None and row.state == "pending" else None

    async def decide(self, user_code: str, session: Grant, *, allow: bool) -> bool:
        """Lets the device log in as the person of ``session``, or not; returns whether it was still waiting."""
        values = {
            "state": "allowed" if allow else "denied",
            "session": session.id,
            "person": msgspec.json.encode(session.person).decode(),
            "sealed": session.sealed,
            "checked": session.checked,
        }
        pending = (
            (tables.devices.c.user_code == _tidy(user_code))
            & (tables.devices.c.state == "pending")
            & (tables.devices.c.expires > self._grants.clock())
        )
        change = update(tables.devices).where(pending).values(**values)
        return await self._records.write(lambda db: db.execute(change).rowcount) == 1

    async def poll(self, device_code: str) -> tuple[str, Grant] | Refusal:
        """Returns the device's token and its grant, or the error of RFC 8628 section 3.5."""
        key, now = tables.devices.c.hash == _hash(device_code), self._grants.clock()
        row = await self._records.read(lambda db: db.execute(select(tables.devices).where(key)).first())
        if row is None or row.expires < now:
            return "expired_token"
        if row.state == "allowed":
            return await self._redeem(device_code, row.person, row.sealed, row.label)
        if row.state == "denied":
            await self._records.write(lambda db: db.execute(delete(tables.devices).where(key)))
            return "access_denied"
        early = now - row.polled < row.interval - 0.5
        values = {"polled": now, "interval": row.interval + INTERVAL if early else row.interval}
        await self._records.write(lambda db: db.execute(update(tables.devices).where(key).values(**values)))
        return "slow_down" if early else "authorization_pending"

    async def _redeem(
        self, device_code: str, person: str, sealed: str | None, label: str
    ) -> tuple[str, Grant] | Refusal:
        key = tables.devices.c.hash == _hash(device_code)

        def spend(db: Connection) -> float:
            row = db.execute(select(tables.devices.c.checked, tables.devices.c.session).where(key)).first()
            # Whoever logs out everywhere has ended the session, and must find no token afterwards.
            if row is None or not self._grants.lives(db, row.session):
                raise SpentError
            db.execute(delete(tables.devices).where(key))
            return row.checked

        known = Known(msgspec.json.decode(person, type=Person), self._grants.opened(sealed))
        try:
            return await self._grants.issue("cli", known, self._token_seconds, label, spend=spend)
        except SpentError:
            return "expired_token"


class SpentError(Exception):
    """The device has got its token already, or the session that allowed it is over."""


def _hash(device_code: str) -> str:
    return hashlib.sha256(device_code.encode("utf-8", "surrogatepass")).hexdigest()


def _tidy(user_code: str) -> str:
    letters = "".join(letter for letter in user_code.upper() if letter in LETTERS)[:8]
    return f"{letters[:4]}-{letters[4:]}"
