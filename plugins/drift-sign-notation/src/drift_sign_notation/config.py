"""The keys of ``[signing]`` that this format reads; other formats read the same table."""

from typing import Annotated, Literal

from msgspec import Meta

from drift_core.api import SigningKeys, Struct

Text = Annotated[str, Meta(min_length=1)]


class RevokedConfig(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[[signing.notation.revoked]]``: ``issuer`` as in RFC 4514, ``serial`` in hex, as openssl prints both."""

    issuer: Text
    serial: Annotated[str, Meta(pattern=r"^(0x)?[0-9a-fA-F]+(:[0-9a-fA-F]+)*$", max_length=64)]


class NotationConfig(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[signing.notation]``: how is signed, and whose signatures are good.

    ``trust_policy`` is the path of a ``trustpolicy.json`` as the notation client has it; None trusts whoever has a
    certificate of any trust store, at level strict. ``revoked`` are certificates that are in no list. ``envelope`` is
    what is written; both are read. ``lifetime_hours`` is how long a signature made here is good, None as long as its
    certificates are.
    """

    trust_policy: Text | None = None
    revoked: tuple[RevokedConfig, ...] = ()
    envelope: Literal["jws", "cose"] = "jws"
    lifetime_hours: Annotated[float, Meta(gt=0)] | None = None


class SigningConfig(SigningKeys, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[signing]``: the keys of every format, and the table of this one.

    Of this format are keys with a ``certificate_path``: for a signing key the whole chain, from its certificate to the
    root. The certificate of a verification key, an authority's or a signer's own, is a trust store named ``key_id``. A
    signature carries its whole chain, so that ``intermediate_certificate_paths`` are for other formats.
    """

    notation: NotationConfig = NotationConfig()
