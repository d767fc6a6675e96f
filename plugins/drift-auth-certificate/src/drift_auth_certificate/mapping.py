"""Maps what a certificate says of its owner (RFC 5280 sections 4.1.2.6 and 4.2.1.6) to an identity."""

import re
from collections.abc import Callable, Sequence
from typing import Final

from cryptography.x509 import (
    Certificate,
    DNSName,
    ExtensionNotFound,
    ObjectIdentifier,
    RFC822Name,
    SubjectAlternativeName,
    UniformResourceIdentifier,
)
from cryptography.x509.oid import NameOID

from drift_auth_certificate.config import Attribute, CertificateConfig, Group, Rule
from drift_core.api import Identity, Unauthorized

VALUE: Final = re.compile(r"[^\x00-\x1f\x7f]{1,255}")
"""What is taken as a name or a group; anything else in a certificate counts as not there."""


def _subject(kind: ObjectIdentifier) -> Callable[[Certificate], list[str]]:
    def values(certificate: Certificate) -> list[str]:
        found = [attribute.value for attribute in certificate.subject.get_attributes_for_oid(kind)]
        return [value for value in found if isinstance(value, str)]

    return values


def _alternative(
    kind: type[DNSName] | type[RFC822Name] | type[UniformResourceIdentifier],
) -> Callable[[Certificate], list[str]]:
    def values(certificate: Certificate) -> list[str]:
        try:
            extension = certificate.extensions.get_extension_for_class(SubjectAlternativeName)
        except ExtensionNotFound:
            return []
        return extension.value.get_values_for_type(kind)

    return values


READERS: Final[dict[Attribute | Group, Callable[[Certificate], list[str]]]] = {
    "subject.CN": _subject(NameOID.COMMON_NAME),
    "subject.O": _subject(NameOID.ORGANIZATION_NAME),
    "subject.OU": _subject(NameOID.ORGANIZATIONAL_UNIT_NAME),
    "san.dns": _alternative(DNSName),
    "san.email": _alternative(RFC822Name),
    "san.uri": _alternative(UniformResourceIdentifier),
}


class Owners:
    """Says whose a certificate is."""

    def __init__(self, config: CertificateConfig) -> None:
        self._config = config
        self._rules = [(_glob(rule.match), rule) for rule in config.rules]

    def of(self, certificate: Certificate) -> Identity | None:
        """Returns the owner, or None for a certificate that is nobody's.

        Raises ValueError where it is malformed, and `Unauthorized` where it has the name of a robot of another plugin.
        """
        values = _read(certificate, self._config.name_from)
        if not self._rules:
            return self._identity(certificate, values[0], Rule(match="*")) if len(values) == 1 else None
        for glob, rule in self._rules:
            for value in values:
                if glob.fullmatch(value):
                    return self._identity(certificate, value, rule)
        return None

    def _identity(self, certificate: Certificate, value: str, rule: Rule) -> Identity:
        groups = frozenset(group for part in self._config.groups_from for group in _read(certificate, part))
        name = self._config.name_prefix + value if rule.name is None else rule.name
        if name.startswith("robot$"):
            raise Unauthorized("the certificate has the name of a robot")
        return Identity(name, "certificate", groups.union(rule.groups), frozenset(rule.roles), delegated=True)


def _read(certificate: Certificate, attribute: Attribute | Group) -> Sequence[str]:
    return [value for value in READERS[attribute](certificate) if VALUE.fullmatch(value)]


def _glob(match: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in match.split("*")), re.DOTALL)
