"""The keys of ``[signing]`` that the formats of cosign need."""

from typing import Annotated, Literal

from msgspec import Meta

from drift_core.api import SigningKeys, Struct

Layout = Literal["bundle", "legacy"]


class TrustedIdentity(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[[signing.cosign.identities]]``: whose certificates count, of all that an authority has issued.

    ``subject`` is an e-mail address, a URI or a host name of the certificate, in which ``*`` is any text. ``issuer`` is
    the OIDC issuer that Fulcio writes into its certificates; None is any, or none. ``trust_store`` is one of
    ``[[signing.trust_stores]]``, or ``sigstore`` for ``trusted_root``.
    """

    subject: Annotated[str, Meta(min_length=1)]
    issuer: str | None = None
    trust_store: str = "default"


class CosignConfig(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[signing.cosign]``: what is written, and what a signature has to say about where the image is.

    ``layouts`` are those that are signed: as long as a bundle is there cosign looks at no legacy signature, so that
    both are written. With ``docker_reference = "ignore"`` a signature counts for the digest in whatever repository it
    was made, as cosign takes it.

    ``trusted_root`` is the ``trusted_root.json`` of a Sigstore instance, for keyless signatures.
    """

    layouts: Annotated[tuple[Layout, ...], Meta(min_length=1)] = ("legacy", "bundle")
    docker_reference: Literal["repository", "ignore"] = "repository"
    identities: tuple[TrustedIdentity, ...] = ()
    trusted_root: str | None = None


class SigningConfig(SigningKeys, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[signing]``: the keys of all formats, and what cosign has beside them."""

    cosign: CosignConfig = CosignConfig()

    def trusted_files(self) -> tuple[str, ...]:
        """See `SigningKeys`; the trusted root is one of them."""
        root = self.cosign.trusted_root
        return (*super().trusted_files(), *([] if root is None else [root]))
