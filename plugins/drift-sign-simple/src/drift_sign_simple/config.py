"""The keys of ``[signing]`` that this format needs: OpenPGP keys are no PEM, so that it has lists of its own."""

from typing import Annotated, Literal

from msgspec import Meta

from drift_core.api import Secret, SigningKeys, Struct

EntryName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]+$", max_length=128)]
FilePath = Annotated[str, Meta(min_length=1)]
Prefix = Annotated[str, Meta(pattern=r"^[A-Za-z0-9.\-_\[\]:/]*[A-Za-z0-9_\]]$")]


class SimpleSigningKey(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[[signing.simple.signing_keys]]``: a file with one OpenPGP secret key, armored or binary.

    ``password`` is that of an encrypted key.
    """

    key_id: EntryName
    key_path: FilePath
    password: Secret | None = None


class SimpleVerificationKey(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[[signing.simple.verification_keys]]``: a file with one or several OpenPGP certificates, armored or binary.

    What a certificate signed that is not ``trusted`` is refused by its name.
    """

    key_id: EntryName
    key_path: FilePath
    trusted: bool = True


class Remap(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[[signing.simple.remap]]``: what is below ``prefix`` counts if it was signed for the same below another.

    Both are ``host[:port]``, or that with the beginning of a repository's name, as for ``remapIdentity`` in
    containers-policy.json(5). Without a ``registry_name`` the ``prefix`` is the beginning of a repository's name.
    """

    prefix: Prefix
    signed_prefix: Prefix


class SimpleConfig(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[signing.simple]``: its keys, and what a signature has to say about where the image is.

    With ``identity = "repository"`` the reference that was signed has to be the repository, whatever its tag: below
    ``registry_name``, or below any host where there is none. With ``"ignore"`` a signature counts for the digest
    wherever it was made, and ``remap`` says nothing. The first entry of ``remap`` counts that fits.
    """

    signing_keys: tuple[SimpleSigningKey, ...] = ()
    verification_keys: tuple[SimpleVerificationKey, ...] = ()
    identity: Literal["repository", "ignore"] = "repository"
    remap: tuple[Remap, ...] = ()


class SigningConfig(SigningKeys, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[signing]``: of what all formats share this one needs ``registry_name`` only, and leaves the keys to others."""

    simple: SimpleConfig = SimpleConfig()
