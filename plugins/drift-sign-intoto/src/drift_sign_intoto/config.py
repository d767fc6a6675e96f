"""The keys of ``[signing]`` that attestations need beside those of cosign's signatures."""

from typing import Annotated

from drift_sign_cosign.config import SigningConfig as CosignSigningConfig
from msgspec import Meta

from drift_core.api import Struct

Text = Annotated[str, Meta(min_length=1)]


class InTotoConfig(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[signing.in_toto]``: which attestations count, and what is attested.

    ``predicate_types`` are the URIs of those that count; none is any. SLSA provenance has to be by one of ``builders``
    and from one of ``sources``, in which ``*`` is any text; none is any. A source is compared without its ``git+``.

    ``predicate_path`` is a JSON file of what the signer attests, and ``predicate_type`` the URI that says what it is.
    """

    predicate_types: tuple[Text, ...] = ()
    builders: tuple[Text, ...] = ()
    sources: tuple[Text, ...] = ()
    predicate_path: Text | None = None
    predicate_type: Text | None = None


class SigningConfig(CosignSigningConfig, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[signing]``: the keys of all formats, whom cosign trusts, and what attestations have beside it."""

    in_toto: InTotoConfig = InTotoConfig()

    def private_files(self) -> tuple[str, ...]:
        """See `SigningKeys`; the predicate is one of them."""
        path = self.in_toto.predicate_path
        return (*super().private_files(), *([] if path is None else [path]))
