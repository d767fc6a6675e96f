"""Keeps the sessions that clients may resume, for all processes and nodes, each for one use.

That a ticket is taken out of the table before anybody acts on it protects against replay (RFC 8446 section 8.1):
early data is decrypted with the key of a ticket, and the second copy of a first flight finds none.
"""

import hashlib
import time
from functools import partial
from typing import Any, Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Connection, delete, insert, select

from drift_core.api import Records, Unavailable
from drift_quic_aioquic.engine import Ticket
from drift_quic_aioquic.tables import tickets

MOST: Final = 20_000
"""Tickets in the table; the oldest go first."""

PRUNE_EVERY: Final = 64
"""Tickets that a process keeps between two looks at what is too old or too many."""

NONCE: Final = bytes(12)
"""Each key encrypts one ticket."""


class Tickets:
    """The table. Where the database fails clients get a full handshake, and the log says why."""

    def __init__(self, records: Records, log: Any) -> None:
        self._records = records
        self._log = log
        self._kept = 0

    async def keep(self, ticket: Ticket) -> None:
        """Writes a ticket that a client was given."""
        self._kept += 1
        prune = self._kept % PRUNE_EVERY == 1
        try:
            await self._records.write(partial(keep, ticket=ticket, prune=prune), concurrent=True)
        except Unavailable as error:
            self._log.warning("a session cannot be resumed later", reason=error.message)

    async def take(self, identity: bytes) -> Ticket | None:
        """Returns a ticket and removes it, None for one that is unknown, used or too old."""
        try:
            return await self._records.write(partial(take, identity=identity), concurrent=True)
        except Unavailable as error:
            self._log.warning("a session cannot be resumed", reason=error.message)
            return None


def keep(db: Connection, ticket: Ticket, *, prune: bool) -> None:
    """Writes a ticket, and removes those that are too old or too many."""
    name, key = _derived(ticket.identity)
    now = time.time()
    if prune:
        db.execute(delete(tickets).where(tickets.c.expires_at < now))
        newest = select(tickets.c.created_at).order_by(tickets.c.created_at.desc()).offset(MOST - PRUNE_EVERY).limit(1)
        db.execute(delete(tickets).where(tickets.c.created_at <= newest.scalar_subquery()))
    sealed = AESGCM(key).encrypt(NONCE, msgspec.msgpack.encode(ticket), None)
    db.execute(insert(tickets).values(id=name, sealed=sealed, created_at=now, expires_at=ticket.not_after))


def take(db: Connection, identity: bytes) -> Ticket | None:
    """Removes a ticket and returns it, if it is still good."""
    name, key = _derived(identity)
    sealed = db.execute(select(tickets.c.sealed).where(tickets.c.id == name)).scalar()
    # Whoever has removed the row has the ticket; of two that have read it one removes nothing.
    if sealed is None or not db.execute(delete(tickets).where(tickets.c.id == name)).rowcount:
        return None
    try:
        ticket = msgspec.msgpack.decode(AESGCM(key).decrypt(NONCE, sealed, None), type=Ticket)
    except InvalidTag:
        return None
    return ticket if ticket.not_before <= time.time() <= ticket.not_after else None


def _derived(identity: bytes) -> tuple[bytes, bytes]:
    """Returns the name of a row, and the key that only who knows the identity has."""
    return hashlib.sha256(b"name" + identity).digest(), hashlib.sha256(b"key" + identity).digest()[:16]
