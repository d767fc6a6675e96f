"""Reads trust policies as the notation client has them: specification, "Trust Policy"."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Final, Literal

from msgspec import Meta, ValidationError, convert, field

from drift_core.api import Struct
from drift_sign_notation.identities import ANYBODY, Identities
from drift_sign_notation.refusal import Refused
from drift_sign_notation.strictly import read_object
from drift_sign_notation.trust import TrustStore

Check = Literal["authenticity", "expiry", "authenticTimestamp", "revocation"]
"""What is checked beside the integrity of a signature, which always is."""

Action = Literal["enforce", "log", "skip"]
"""What comes of a check that fails: a refusal, a warning, or that it is not made."""

EVERYWHERE: Final = "*"
KIND: Final = "ca:"
"""How the name of a trust store begins in a policy; those of other kinds are not supported."""

LEVELS: Final[dict[str, dict[Check, Action]]] = {
    "strict": {
        "authenticity": "enforce",
        "expiry": "enforce",
        "authenticTimestamp": "enforce",
        "revocation": "enforce",
    },
    "permissive": {"authenticity": "enforce", "expiry": "log", "authenticTimestamp": "log", "revocation": "log"},
    "audit": {"authenticity": "log", "expiry": "log", "authenticTimestamp": "log", "revocation": "log"},
    "skip": {},
}


class SignatureVerification(Struct, forbid_unknown_fields=True, frozen=True, rename="camel"):
    """``signatureVerification`` of a statement; ``override`` changes what a level does."""

    level: Literal["strict", "permissive", "audit", "skip"]
    override: dict[Check, Action] = field(default_factory=dict[Check, Action])


class Statement(Struct, forbid_unknown_fields=True, frozen=True, rename="camel"):
    """One statement of the file; ``registry_scopes`` are repositories with the registry's name, or ``*`` alone."""

    name: Annotated[str, Meta(min_length=1)]
    registry_scopes: Annotated[tuple[str, ...], Meta(min_length=1)]
    signature_verification: SignatureVerification
    trust_stores: tuple[str, ...] = ()
    trusted_identities: tuple[str, ...] = ()


class Document(Struct, forbid_unknown_fields=True, frozen=True, rename="camel"):
    """The file ``trustpolicy.json``."""

    version: Literal["1.0"]
    trust_policies: Annotated[tuple[Statement, ...], Meta(min_length=1)]


class Policy(Struct, frozen=True):
    """A statement that is ready for use; ``identities`` None is that of a policy that verifies nothing."""

    name: str
    actions: Mapping[Check, Action]
    stores: tuple[TrustStore, ...] = ()
    identities: Identities | None = None


class Policies:
    """Which policy applies to a repository; ``registry_name`` is ``host[:port]`` as scopes have it."""

    def __init__(self, by_scope: Mapping[str, Policy], registry_name: str | None = None) -> None:
        self._by_scope = by_scope
        self._registry_name = registry_name

    def find(self, repository: str) -> Policy | None:
        """Returns the policy with exactly this repository in its scopes, or else that for every one, or None."""
        exact = self._by_scope.get(f"{self._registry_name}/{repository}")
        return exact or self._by_scope.get(EVERYWHERE)


def default_policies(stores: Mapping[str, TrustStore]) -> Policies:
    """Returns the policy where there is no file: whoever has a certificate of any store is believed, strictly."""
    policy = Policy("default", LEVELS["strict"], tuple(stores.values()), Identities([ANYBODY]))
    return Policies({EVERYWHERE: policy})


def read_policies(content: bytes, stores: Mapping[str, TrustStore], registry_name: str | None) -> Policies:
    """Returns the policies of a ``trustpolicy.json``. Raises `Refused`, which says what is wrong with it."""
    try:
        document = convert(read_object(content, "the file"), Document)
    except ValidationError as error:
        raise Refused(str(error)) from None
    by_scope: dict[str, Policy] = {}
    names: set[str] = set()
    for statement in document.trust_policies:
        if statement.name in names:
            raise Refused(f"two statements have the name {statement.name}")
        names.add(statement.name)
        try:
            policy = _policy(statement, stores)
            scopes = _scopes(statement, registry_name)
        except Refused as error:
            raise Refused(f"{statement.name}: {error}") from None
        for scope in scopes:
            if scope in by_scope:
                raise Refused(f"two statements are about {scope}")
            by_scope[scope] = policy
    return Policies(by_scope, registry_name)


def _scopes(statement: Statement, registry_name: str | None) -> Iterable[str]:
    scopes = statement.registry_scopes
    if EVERYWHERE in scopes and len(scopes) > 1:
        raise Refused(f"the scope {EVERYWHERE} stands alone")
    if EVERYWHERE not in scopes and registry_name is None:
        raise Refused("set signing.registry_name, by which scopes name this registry")
    return scopes


def _policy(statement: Statement, stores: Mapping[str, TrustStore]) -> Policy:
    verification = statement.signature_verification
    if verification.level == "skip":
        if verification.override or statement.trust_stores or statement.trusted_identities:
            raise Refused("level skip goes with no override, trust store or identity")
        return Policy(statement.name, LEVELS["skip"])
    if any(check != "revocation" and action == "skip" for check, action in verification.override.items()):
        raise Refused("revocation alone can be skipped")
    if not statement.trust_stores:
        raise Refused("there are no trust stores")
    named = {_store(name, stores).name for name in statement.trust_stores}
    return Policy(
        statement.name,
        LEVELS[verification.level] | verification.override,
        tuple(store for name, store in stores.items() if name in named),
        Identities(statement.trusted_identities),
    )


def _store(name: str, stores: Mapping[str, TrustStore]) -> TrustStore:
    if not name.startswith(KIND) or name.removeprefix(KIND) not in stores:
        raise Refused(f"there is no trust store {name}: it is {KIND} and a name of signing.trust_stores")
    return stores[name.removeprefix(KIND)]
