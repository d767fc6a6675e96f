"""Who is trusted, and whether one of them has made a signature."""

from collections.abc import Callable, Mapping
from datetime import datetime

from cryptography import x509
from msgspec import Struct
from msgspec.structs import replace

from drift_core.api import Judgement, KeyInfo, StartError, TrustStore
from drift_sign_cosign.algorithms import Used, check, fingerprint
from drift_sign_cosign.artifact import Sealed
from drift_sign_cosign.certificates import Store, at, check_chain, is_self_signed, oidc_issuer, subjects, validity
from drift_sign_cosign.config import SigningConfig, TrustedIdentity
from drift_sign_cosign.globs import matches
from drift_sign_cosign.keyless import Keyless, load_keyless
from drift_sign_cosign.keys import (
    Trusted,
    is_ours,
    load_certificates,
    load_distrusted,
    load_verification_key,
    unique,
)
from drift_sign_cosign.refusal import Refused
from drift_sign_cosign.revocation import load_revocation_list

SIGSTORE = "sigstore"
"""The name of the trust store that ``trusted_root`` is."""


class Trust(Struct, frozen=True):
    """The keys, and the authorities with those whom they vouch for.

    ``distrusted`` are the names of keys by their fingerprints: no certificate makes up for that.
    """

    keys: tuple[Trusted, ...] = ()
    stores: Mapping[str, Store] = {}
    identities: tuple[TrustedIdentity, ...] = ()
    keyless: Keyless | None = None
    distrusted: Mapping[str, str] = {}

    def infos(self) -> list[KeyInfo]:
        """Returns the keys that are trusted, and the authorities of the stores."""
        keys = [key.info for key in self.keys if key.trusted]
        return keys + [
            KeyInfo(
                name=f"{store.name}: {one.subject.rfc4514_string()}",
                kind="authority",
                expires_at=one.not_valid_after_utc.timestamp(),
            )
            for store in self.stores.values()
            for one in (*store.roots, *store.intermediates)
        ]

    def judge(self, sealed: Sealed, check_payload: Callable[[bytes], float | None], now: float) -> Judgement:
        """Returns the judgement on a signature: it is proved, and only then is what was signed looked at.

        ``check_payload`` returns when the signer says it signed, in seconds since the epoch, or None; it raises
        `Refused`. ``now`` is in seconds since the epoch. Blocks for about 0.1 ms per trusted key.
        """
        try:
            proven = self.prove(sealed, now)
        except Refused as refusal:
            return Judgement(good=False, reason=refusal.reason, valid_until=self._next_beginning(sealed, now))
        try:
            claimed = check_payload(sealed.payload)
        except Refused as refusal:
            return replace(proven, good=False, reason=refusal.reason)
        return proven if claimed is None or proven.signed_at is not None else replace(proven, signed_at=claimed)

    def prove(self, sealed: Sealed, now: float) -> Judgement:
        """Returns who has made a signature, whatever was signed; ``now`` is in seconds since the epoch.

        Where a certificate came along it has to be good, whichever key it is for: nobody falls back to the key. A
        keyless signature was good when it had to be, and does not end.

        Raises:
            Refused: nobody who is trusted has, or the certificate is not good at ``now``.
        """
        if not sealed.certificates:
            return self._by_key(sealed, at(now))
        if self.keyless is not None and sealed.bundle is not None:
            return self._keyless(self.keyless, sealed.bundle, sealed)
        return self._by_certificate(sealed, at(now))

    def _by_key(self, sealed: Sealed, now: datetime) -> Judgement:
        if not self.keys:
            raise Refused("no key is trusted")
        for key in self.keys:
            algorithm = check(key.public, sealed.signature, sealed.message)
            if algorithm is None:
                continue
            if not key.trusted:
                raise Refused(f"the key {key.key_id} is not trusted")
            self._check_trusted(key.fingerprint)
            certificate = key.certificate
            return Judgement(
                good=True,
                signer=f"key {key.fingerprint}",
                key_id=key.key_id,
                algorithm=algorithm,
                fingerprint=key.fingerprint,
                self_signed=certificate is not None and is_self_signed(certificate),
                valid_until=None if certificate is None else validity(certificate, now).timestamp(),
            )
        raise Refused("no trusted key has made the signature")

    def _keyless(self, keyless: Keyless, bundle: bytes, sealed: Sealed) -> Judgement:
        leaf = sealed.certificates[0]
        key = fingerprint(leaf.public_key()).hex()
        self._check_trusted(key)
        return Judgement(
            good=True,
            signer=keyless.prove(bundle, sealed, lambda certificate: self._signer(SIGSTORE, certificate)),
            algorithm=_made_by(leaf, sealed),
            fingerprint=key,
            trust_stores=(SIGSTORE,),
            # The log proves that it was within minutes of this moment.
            signed_at=leaf.not_valid_before_utc.timestamp(),
        )

    def _by_certificate(self, sealed: Sealed, now: datetime) -> Judgement:
        leaf, *others = sealed.certificates
        key = fingerprint(leaf.public_key()).hex()
        self._check_trusted(key)
        names = {identity.trust_store for identity in self.identities}
        stores = [store for store in self.stores.values() if store.name in names]
        if not stores:
            raise Refused("no identity is trusted")
        refusals: list[Refused] = []
        vouching: list[str] = []
        signer: str | None = None
        until: list[float] = []
        for store in stores:
            try:
                ends = check_chain(store, leaf, others, now)
                found = self._signer(store.name, leaf)
            except Refused as refusal:
                refusals.append(refusal)
                continue
            signer = signer or found
            # What a store is trusted with under another name it is not under this one.
            if found == signer:
                vouching.append(store.name)
                until.append(ends.timestamp())
        if not vouching:
            raise Refused("; ".join(dict.fromkeys(map(str, refusals))))
        # A policy may ask for the store that is the next to vouch no more, or for one that is yet to begin.
        later = self._next_beginning(sealed, now.timestamp()) if refusals else None
        return Judgement(
            good=True,
            signer=signer,
            algorithm=_made_by(leaf, sealed),
            fingerprint=key,
            trust_stores=tuple(vouching),
            valid_until=min([*until, *([] if later is None else [later])]),
        )

    def _check_trusted(self, key: str) -> None:
        """Raises `Refused` where the key of a fingerprint is distrusted."""
        name = self.distrusted.get(key)
        if name is not None:
            raise Refused(f"the key {name} is not trusted")

    def _signer(self, store: str, leaf: x509.Certificate) -> str:
        """Returns whose certificate it is, of those whom the store's authorities vouch for. Raises `Refused`."""
        issuer = oidc_issuer(leaf)
        for trusted in self.identities:
            if trusted.trust_store == store and trusted.issuer in (None, issuer):
                for name in subjects(leaf):
                    if matches(trusted.subject, name):
                        return f"identity {name} {issuer or ''}".rstrip()
        raise Refused("the identity in the certificate is not trusted")

    def _next_beginning(self, sealed: Sealed, now: float) -> float | None:
        """Returns when the next begins to be valid of all that is not yet, in seconds since the epoch; or None."""
        certificates = [*sealed.certificates, *(key.certificate for key in self.keys)]
        for store in self.stores.values():
            certificates += (*store.roots, *store.intermediates)
        begins = [one.not_valid_before_utc for one in certificates if one is not None]
        begins += [one.revoked.last_update_utc for store in self.stores.values() for one in store.revocations]
        return min((moment.timestamp() for moment in begins if moment > at(now)), default=None)


def load_trust(config: SigningConfig) -> Trust:
    """Returns what a configuration trusts; reads all of its files, and takes some milliseconds for each.

    Raises:
        StartError: a file cannot be used, two entries have the same name or key, or an identity is one of a trust store
            that there is not.
    """
    keys = tuple(load_verification_key(entry) for entry in config.verification_keys if is_ours(entry))
    unique([key.key_id for key in keys], "verification keys are called")
    unique([key.fingerprint for key in keys], "verification keys have the fingerprint")
    unique([store.name for store in config.trust_stores], "trust stores are called")
    stores = {entry.name: _load_store(entry) for entry in config.trust_stores}
    keyless = None if config.cosign.trusted_root is None else load_keyless(config.cosign.trusted_root)
    known = {*stores, *([SIGSTORE] if keyless is not None else [])}
    for identity in config.cosign.identities:
        if identity.trust_store not in known:
            message = f"signing.cosign.identities: there is no trust store {identity.trust_store!r}"
            raise StartError(message)
    distrusted = {load_distrusted(entry): entry.key_id for entry in config.verification_keys if not entry.trusted}
    return Trust(keys, stores, config.cosign.identities, keyless, distrusted)


def _load_store(entry: TrustStore) -> Store:
    if entry.name == SIGSTORE:
        message = f"signing.trust_stores: {SIGSTORE!r} is the name of signing.cosign.trusted_root"
        raise StartError(message)
    return Store(
        entry.name,
        tuple(one for path in entry.root_certificate_paths for one in load_certificates(path)),
        tuple(one for path in entry.intermediate_certificate_paths for one in load_certificates(path)),
        tuple(map(load_revocation_list, entry.crl_urls)),
    )


def _made_by(leaf: x509.Certificate, sealed: Sealed) -> Used:
    algorithm = check(leaf.public_key(), sealed.signature, sealed.message)
    if algorithm is None:
        raise Refused("the key of the certificate has not made the signature")
    return algorithm
