"""Who asks by a token, and which grant the token depends on."""

from collections.abc import Sequence
from typing import Literal, Protocol

from drift_core.api import Identity, Owner, Scope

SOURCE = "token"
"""The source of identities whose tokens say no other."""

Use = Literal["access", "issuer", "login", "pat", "robot"]


class TokenIdentity(Identity, frozen=True, kw_only=True):
    """An `Identity` that is known by a token of this plugin, or of another issuer.

    ``grant`` is the identifier of the `Grant` that keeps the token good, "" for none; ``expires`` when the token ends,
    in seconds since the epoch, None for never. It is ``delegated`` unless it is a login that began with a password.
    ``owner`` is the account without which it is no good, None for what is nobody's, such as a robot that
    a person made.
    """

    use: Use
    grant: str = ""
    expires: float | None = None
    owner: Owner | None = None


def gets_lasting(identity: Identity) -> bool:
    """Returns whether somebody may get what lasts: not by a delegated credential, unless what is made ends with it."""
    ends_with_it = isinstance(identity, TokenIdentity) and identity.use != "access" and bool(identity.grant)
    return ends_with_it or not identity.delegated


def account_of(identity: Identity) -> str | None:
    """Returns which authenticator knows the owner of what is given to somebody; None where only the name is known."""
    if isinstance(identity, TokenIdentity):
        return None if identity.owner is None else identity.owner.source
    return None if identity.source == SOURCE else identity.source


class Limited(Protocol):
    """What may be limited to some rights."""

    @property
    def scopes(self) -> frozenset[Scope] | None:
        """The rights; None for no limit."""
        ...


def scope_texts(limited: Limited) -> Sequence[str] | None:
    """Returns the limit of an identity, or of a grant, as text, in order; None for no limit."""
    return None if limited.scopes is None else sorted(str(scope) for scope in limited.scopes)
