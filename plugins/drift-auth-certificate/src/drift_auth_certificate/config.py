"""The keys of ``[auth.certificate]``."""

from typing import Annotated, Literal

from msgspec import Meta

from drift_core.api import Struct

Attribute = Literal["subject.CN", "san.dns", "san.email", "san.uri"]
Group = Literal["subject.O", "subject.OU"]


class Rule(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Who shows a certificate whose attribute fits ``match``, in which ``*`` is any text.

    ``name`` None is the prefix and the attribute; a name is taken as it is written, without the prefix.
    """

    match: Annotated[str, Meta(min_length=1)]
    name: Annotated[str, Meta(min_length=1, max_length=128)] | None = None
    groups: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()


class CertificateConfig(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """How a certificate that the transport has verified becomes a name.

    ``name_from`` is the attribute that names its owner, behind ``name_prefix``, so that nobody's certificate makes them
    a user of another authenticator. With ``rules``, the first that fits one of the values says who it is, and a
    certificate that none fits is nobody's; without, exactly one value of the attribute is needed. ``groups_from`` are
    parts of the subject whose values are groups. A certificate that is nobody's is refused, or with
    ``unmapped = "next"`` left to the next authenticator, as if it had not been shown.
    """

    name_from: Attribute = "subject.CN"
    name_prefix: str = "cert:"
    groups_from: tuple[Group, ...] = ()
    rules: tuple[Rule, ...] = ()
    unmapped: Literal["refuse", "next"] = "refuse"
