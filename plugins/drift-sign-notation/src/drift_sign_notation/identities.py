"""Who of those with a trusted certificate may sign: specification, "Trust Policy", section "Trusted Identities"."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from cryptography.x509 import Name, ObjectIdentifier
from cryptography.x509.oid import NameOID

from drift_sign_notation.refusal import Refused

ANYBODY: Final = "*"
PREFIX: Final = "x509.subject:"
NEEDED: Final = frozenset(
    {NameOID.COUNTRY_NAME, NameOID.STATE_OR_PROVINCE_NAME, NameOID.ORGANIZATION_NAME},
)
"""What an identity has to have at least: C, ST and O."""

PART: Final = re.compile(r"(?:[^\\,]|\\.)+", re.DOTALL)
"""What is between commas that are not escaped: RFC 4514 section 3."""

Subject = Mapping[ObjectIdentifier, str]


class Identities:
    """Those that a policy trusts; ``texts`` is as in the policy. Raises `Refused`, with the reason for its author."""

    def __init__(self, texts: Sequence[str]) -> None:
        if not texts:
            raise Refused("there are no trusted identities")
        if ANYBODY in texts and len(texts) > 1:
            raise Refused(f"the identity {ANYBODY} stands alone")
        self._subjects = None if ANYBODY in texts else [_identity(text) for text in texts]

    def check(self, subject: Name) -> None:
        """Raises `Refused` unless the subject of a certificate has all that one of the identities has."""
        if self._subjects is None:
            return
        found = _attributes(subject)
        if not any(wanted.items() <= found.items() for wanted in self._subjects):
            raise Refused("the subject of the certificate is no trusted identity")


def read_name(text: str) -> Name:
    """Returns a distinguished name of RFC 4514, in which blanks may follow a comma, and S stands for ST too.

    Raises `Refused`.
    """
    parts = PART.findall(text)
    if ",".join(parts) != text:
        raise Refused("a distinguished name is malformed")
    try:
        return Name.from_rfc4514_string(",".join(_part(part) for part in parts))
    except ValueError:
        raise Refused("a distinguished name is malformed, or has an unknown attribute") from None


def _part(text: str) -> str:
    bare = text.strip(" ")
    if bare.endswith("\\"):
        bare += " "
    return f"ST={bare[2:]}" if bare.startswith("S=") else bare


def _identity(text: str) -> Subject:
    if not text.startswith(PREFIX):
        raise Refused(f"a trusted identity is {ANYBODY}, or begins with {PREFIX}")
    identity = _attributes(read_name(text.removeprefix(PREFIX)))
    if not identity.keys() >= NEEDED or not all(identity.values()):
        raise Refused("a trusted identity has C, ST and O at least, and no empty attribute")
    return identity


def _attributes(name: Name) -> Subject:
    pairs = [(attribute.oid, attribute.value) for attribute in name]
    attributes = {oid: value for oid, value in pairs if isinstance(value, str)}
    if len(attributes) != len(pairs) or len(name.rdns) != len(pairs):
        raise Refused("a distinguished name has an attribute twice, or several at one place")
    return attributes
