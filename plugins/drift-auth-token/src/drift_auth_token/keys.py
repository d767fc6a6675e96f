"""The keys that sign tokens: made, kept, replaced and published (RFC 7517)."""

import asyncio
import base64
import hashlib
import time
from functools import lru_cache
from itertools import pairwise
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from jwt.algorithms import get_default_algorithms
from msgspec import Struct
from sqlalchemy import Connection, delete, func, insert, select
from sqlalchemy.exc import IntegrityError

from drift_auth_token import tables
from drift_auth_token.config import TokenConfig
from drift_core.api import Records, Unavailable

PUBLISHED_SECONDS = 2.0
"""How long a new key is only published before it signs: every worker knows it by then."""

RSA_BITS = 2048
THUMBPRINTED = ("crv", "e", "k", "kty", "n", "x", "y")
"""Members of a key that count for its thumbprint, sorted: RFC 7638 section 3.2, RFC 8037 section 2."""

SHARED_KID = "shared"


class Key(Struct, frozen=True):
    """A key and the only algorithm that it is for; ``private`` signs, ``public`` verifies.

    It signs from ``begins`` on, and verifies until ``ends``, in seconds since the epoch; None is for ever. ``jwk`` is
    what is published, None for a shared secret.
    """

    kid: str
    algorithm: str
    private: Any
    public: Any
    begins: float
    ends: float | None
    jwk: dict[str, str] | None

    def __repr__(self) -> str:
        return f"Key({self.kid}, {self.algorithm})"


class Keyring(Struct, frozen=True):
    """Every key that may still be needed, the oldest first; ``algorithm`` is the one that signs now."""

    algorithm: str
    keys: tuple[Key, ...]

    def signer(self) -> Key:
        """Returns the key that signs now: the newest that was published for long enough. Raises `Unavailable`."""
        own = [key for key in self.keys if key.algorithm == self.algorithm]
        if not own:
            raise Unavailable(f"there is no key for {self.algorithm} any more")
        ready = [key for key in own if key.begins <= time.time()]
        return ready[-1] if ready else own[0]

    def verifier(self, kid: str) -> Key | None:
        """Returns the key that made a signature, None where it is unknown or has been replaced for long enough."""
        now = time.time()
        return next((key for key in self.keys if key.kid == kid and (key.ends is None or now < key.ends)), None)

    def published(self) -> list[dict[str, str]]:
        """Returns the public keys as JWKs, the newest first."""
        now = time.time()
        alive = [key for key in reversed(self.keys) if key.ends is None or now < key.ends]
        return [key.jwk for key in alive if key.jwk is not None]


class Keys:
    """The table of keys of one configuration."""

    def __init__(self, config: TokenConfig, records: Records) -> None:
        self._config = config
        self._records = records
        longest = max(config.login_seconds, config.token_seconds)
        self._lifetime = longest + config.clock_skew_seconds + PUBLISHED_SECONDS

    async def prepare(self) -> None:
        """Makes a key where there is none of the configured algorithm, or the newest is too old."""
        if self._config.algorithm == "HS256":
            return
        newest = await self._records.read(self._newest)
        if newest is None or newest < time.time() - self._config.rotate_days * 86400:
            await self._make(newest)

    async def rotate(self, *, forget: bool = False) -> None:
        """Makes a new key, which signs in `PUBLISHED_SECONDS`; the older ones verify until their tokens have ended.

        With ``forget`` every older key is forgotten at once, and with it every token that it has signed.
        """
        await self._make(await self._records.read(self._newest), forget=forget)

    async def _make(self, found: float | None, *, forget: bool = False) -> None:
        """Makes a key, unless somebody else has since the newest was ``found``: of all nodes one replaces it."""
        kid, private = await asyncio.to_thread(generate, self._config.algorithm)

        def change(db: Connection) -> None:
            if self._newest(db) != found and not forget:
                return
            last = db.execute(select(func.max(tables.keys.c.generation))).scalar() or 0
            self._drop(db, everything=forget)
            values = {"kid": kid, "algorithm": self._config.algorithm, "private": private, "created": time.time()}
            db.execute(insert(tables.keys).values(generation=last + 1, **values))
            tables.bump(db)

        try:
            await self._records.write(change)
        except IntegrityError:
            # Another node has made the same generation at the same moment: that one counts.
            return

    def load(self, db: Connection) -> Keyring:
        """Returns the keys that are known now; in a thread, since keys are parsed."""
        if self._config.algorithm == "HS256":
            secret = str(self._config.jwt_secret).encode()
            return Keyring("HS256", (Key(SHARED_KID, "HS256", secret, secret, 0.0, None, None),))
        rows = db.execute(select(tables.keys).order_by(tables.keys.c.generation)).all()
        replaced = [*(row.created for row in rows[1:]), None]
        return Keyring(
            self._config.algorithm,
            tuple(
                _parsed(
                    row.private,
                    row.kid,
                    row.algorithm,
                    row.created + PUBLISHED_SECONDS,
                    None if after is None else after + self._lifetime,
                )
                for row, after in zip(rows, replaced, strict=True)
            ),
        )

    def _newest(self, db: Connection) -> float | None:
        own = tables.keys.c.algorithm == self._config.algorithm
        return db.execute(select(tables.keys.c.created).where(own).order_by(tables.keys.c.created.desc())).scalar()

    def _drop(self, db: Connection, *, everything: bool) -> None:
        rows = db.execute(select(tables.keys).order_by(tables.keys.c.generation)).all()
        ended = time.time() - self._lifetime
        replaced = [row.generation for row, after in pairwise(rows) if after.created < ended]
        gone = [row.generation for row in rows] if everything else replaced
        db.execute(delete(tables.keys).where(tables.keys.c.generation.in_(gone)))


def generate(algorithm: str) -> tuple[str, str]:
    """Returns the ``kid`` of a new key, its thumbprint (RFC 7638), and the key in PEM; RSA takes a second."""
    private: Any
    if algorithm == "ES256":
        private = ec.generate_private_key(ec.SECP256R1())
    elif algorithm == "EdDSA":
        private = ed25519.Ed25519PrivateKey.generate()
    else:
        private = rsa.generate_private_key(65537, RSA_BITS)
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return thumbprint(to_jwk(private.public_key(), algorithm)), pem


def to_jwk(public: Any, algorithm: str) -> dict[str, str]:
    """Returns a public key as a JWK."""
    made: Any = get_default_algorithms()[algorithm].to_jwk(public, as_dict=True)
    return {str(name): str(value) for name, value in made.items() if name in THUMBPRINTED}


def thumbprint(jwk: dict[str, str]) -> str:
    """Returns the SHA-256 thumbprint of a key (RFC 7638 section 3)."""
    members = {name: jwk[name] for name in THUMBPRINTED if name in jwk}
    digest = hashlib.sha256(msgspec.json.encode(members)).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


@lru_cache(64)
def _parsed(pem: str, kid: str, algorithm: str, begins: float, ends: float | None) -> Key:
    private: Any = load_pem_private_key(pem.encode(), None)
    public = private.public_key()
    jwk = to_jwk(public, algorithm) | {"kid": kid, "alg": algorithm, "use": "sig"}
    return Key(kid, algorithm, private, public, begins, ends, jwk)
