"""The table `[signing]`: keys, whom to trust, and what a signature has to be so that an image may be pulled."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from msgspec import Meta, Struct
from msgspec.structs import replace

from drift_core.config import Secret

EntryName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]+$", max_length=128)]
FilePath = Annotated[str, Meta(min_length=1)]
SigningAlgorithm = Literal[
    "ecdsa-p256-sha256",
    "ecdsa-p384-sha384",
    "ecdsa-p521-sha512",
    "ed25519",
    "ed25519ph",
    "rsa-pkcs1-sha256",
    "rsa-pkcs1-sha384",
    "rsa-pkcs1-sha512",
    "rsa-pss-sha256",
    "rsa-pss-sha384",
    "rsa-pss-sha512",
]
"""By the names of policies; ``ed25519ph`` is what cosign makes with a key for ``ed25519``."""


class SigningKey(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[[signing.signing_keys]]``: a private key in a PEM file, and the PEM file with its certificate and the chain.

    ``algorithm`` None is what the key is for. ``password`` is that of an encrypted key. ``formats`` are those that use
    it, none is every one that can.
    """

    key_id: EntryName
    formats: tuple[str, ...] = ()
    algorithm: SigningAlgorithm | None = None
    key_path: FilePath
    certificate_path: FilePath | None = None
    password: Secret | None = None


class VerificationKey(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[[signing.verification_keys]]``: a public key, or a certificate of which the key is taken, in a PEM file.

    With ``certificate_path`` the key counts only while that certificate is valid. What a key signed that is not
    ``trusted`` is refused by its name. ``formats`` are those that trust it, none is every one that can.
    """

    key_id: EntryName
    formats: tuple[str, ...] = ()
    algorithm: SigningAlgorithm | None = None
    public_key_path: FilePath
    certificate_path: FilePath | None = None
    trusted: bool = True


class TrustStore(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[[signing.trust_stores]]``: PEM files with the authorities whose certificates count.

    ``crl_urls`` are ``file://`` URLs of revocation lists in PEM or DER; nothing is fetched.
    """

    name: EntryName
    root_certificate_paths: Annotated[tuple[FilePath, ...], Meta(min_length=1)]
    intermediate_certificate_paths: tuple[FilePath, ...] = ()
    crl_urls: tuple[Annotated[str, Meta(pattern="^file:///")], ...] = ()


class SigningKeys(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """What every format reads of ``[signing]``; the Struct of a format has its own table beside these keys.

    ``registry_name`` is the registry's public ``host[:port]``, which some formats sign or compare.
    """

    registry_name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9.\-\[\]:]+$")] | None = None
    signing_keys: tuple[SigningKey, ...] = ()
    verification_keys: tuple[VerificationKey, ...] = ()
    trust_stores: tuple[TrustStore, ...] = ()

    def of(self, name: str) -> Self:
        """Returns the same without the keys that are for other formats than the one of that name."""
        signing = tuple(key for key in self.signing_keys if not key.formats or name in key.formats)
        trusted = tuple(key for key in self.verification_keys if not key.formats or name in key.formats)
        return replace(self, signing_keys=signing, verification_keys=trusted)

    def private_files(self) -> tuple[str, ...]:
        """Returns the paths of all files that are about signing."""
        return tuple(_paths((key.key_path, key.certificate_path) for key in self.signing_keys))

    def trusted_files(self) -> tuple[str, ...]:
        """Returns the paths of all files that say whom to trust."""
        keys = ((key.public_key_path, key.certificate_path) for key in self.verification_keys)
        stores = (
            (
                *store.root_certificate_paths,
                *store.intermediate_certificate_paths,
                *(url.removeprefix("file://") for url in store.crl_urls),
            )
            for store in self.trust_stores
        )
        return (*_paths(keys), *_paths(stores))


class SigningPolicy(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[signing.verification_policy]``: what a manifest needs so that it may be pulled.

    Nothing is needed unless ``require_signatures``; ``enforcement`` is to refuse a pull, or only to count and log it.
    ``required_signatures_count`` are by as many signers. A signature counts if its format and algorithm are allowed;
    if one of ``trust_stores`` vouches for its certificate, while a bare key needs no more than to be a verification
    key, unless ``require_certificate_chain``; if it is by one of ``signers`` (globs of key ids and of what certificates
    say; none is anybody who is trusted); and if it is not older than ``max_signature_age_hours`` (0 is any age), by
    what it says itself, or else since it was pushed.

    With ``cover_children`` a signature of an index counts for what the index lists. ``exempt_pushers`` lets those who
    may push to the repository pull what is not signed, since clients fetch what they sign.
    """

    require_signatures: bool = False
    enforcement: Literal["enforce", "warn"] = "enforce"
    required_signatures_count: Annotated[int, Meta(ge=1, le=100)] = 1
    allowed_signature_formats: tuple[str, ...] = ("cosign", "notary-v2", "simple")
    allowed_algorithms: tuple[SigningAlgorithm, ...] = ("ecdsa-p256-sha256", "rsa-pss-sha256", "ed25519")
    trust_stores: tuple[str, ...] = ("default",)
    require_certificate_chain: bool = False
    allow_self_signed: bool = True
    signers: tuple[str, ...] = ()
    max_signature_age_hours: Annotated[float, Meta(ge=0)] = 720.0
    cover_children: bool = True
    exempt_pushers: bool = True


class VerificationPolicy(SigningPolicy, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The same, with ``[[signing.verification_policy.repositories]]``: ``match``, and what is otherwise there.

    The first counts whose ``match`` is a glob of the repository's name.
    """

    repositories: tuple[dict[str, Any], ...] = ()


def _paths(groups: Any) -> Iterator[str]:
    return (path for group in groups for path in group if path is not None)
