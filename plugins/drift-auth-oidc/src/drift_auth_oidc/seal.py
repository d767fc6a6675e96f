"""Seals what browsers and tables keep for the server and must neither read nor change."""

import time
from collections.abc import Callable

from cryptography.fernet import Fernet, InvalidToken
from sqlalchemy import Connection, insert, select
from sqlalchemy.exc import IntegrityError

from drift_auth_oidc import tables
from drift_core.api import Records


class Seal:
    """Encrypts and authenticates by a key that all servers with the same database share."""

    def __init__(self, key: str, clock: Callable[[], float] = time.time) -> None:
        self._fernet = Fernet(key)
        self._clock = clock

    def close(self, content: bytes) -> str:
        """Returns ``content`` sealed, safe in a cookie."""
        return self._fernet.encrypt_at_time(content, int(self._clock())).decode().rstrip("=")

    def open(self, sealed: str, seconds: int | None = None) -> bytes | None:
        """Returns what was sealed, or None where it was not by this key, or is older than ``seconds``."""
        try:
            padded = sealed.encode() + b"=" * (-len(sealed) % 4)
            if seconds is None:
                return self._fernet.decrypt(padded)
            return self._fernet.decrypt_at_time(padded, seconds, int(self._clock()))
        except (InvalidToken, ValueError):
            return None


async def open_seal(records: Records) -> Seal:
    """Returns the seal of this database; its key is made at the first start. Raises `Unavailable`."""

    def known(db: Connection) -> str | None:
        return db.execute(select(tables.seal.c.key)).scalar_one_or_none()

    def made(db: Connection) -> str:
        if (key := known(db)) is None:
            key = Fernet.generate_key().decode()
            db.execute(insert(tables.seal).values(id=1, key=key))
        return key

    try:
        return Seal(await records.read(known) or await records.write(made))
    except IntegrityError:
        # Another server was faster.
        return Seal(await records.write(made))
