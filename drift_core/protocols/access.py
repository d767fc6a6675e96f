"""Who asks, and what they may do: what authenticators and policies say, and what everybody may ask of them."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from msgspec import Struct

from drift_core.model import Identity, Owner, Scope, Verdict, Visible


class Credentials(Struct, frozen=True):
    """What a request says about its sender, and what it asks for.

    ``headers`` has lower-case names, ``authorization`` may be None. ``client_address`` is that of the client, which a
    trusted proxy may have said; so is ``scheme``, http or https. ``certificate`` is the client's, in PEM, where the
    transport has verified one. ``request_id`` is that of the log. Its text never shows a header.
    """

    authorization: str | None
    headers: Sequence[tuple[str, str]]
    client_address: str
    method: str = "GET"
    path: str = "/"
    scheme: str = "http"
    certificate: str | None = None
    request_id: str = ""

    def header(self, name: str) -> str | None:
        """Returns the first value of a header, by its lower-case name, or None."""
        return next((value for known, value in self.headers if known == name), None)

    def __repr__(self) -> str:
        return f"Credentials({self.method} {self.path} from {self.client_address})"


class Access(Protocol):
    """Who asks, and what they may do, by the configured authenticators and policies; usable once the server serves."""

    async def identify(self, credentials: Credentials) -> Identity | None:
        """Returns who asks, None for nobody in particular. Raises `Unauthorized` for bad credentials."""
        ...

    async def admit(self, credentials: Credentials, scopes: Sequence[Scope]) -> Identity | None:
        """Returns who asks, if all of ``scopes`` are allowed. Raises `Unauthorized` or `Denied`."""
        ...

    async def verdicts(self, identity: Identity | None, scopes: Sequence[Scope]) -> list[bool]:
        """Returns for each scope, in order, whether ``identity`` may use it."""
        ...

    async def visible(self, identity: Identity | None) -> Sequence[Visible] | None:
        """Returns what each policy lets ``identity`` pull, so that a list is filtered within its query.

        A repository has to be within what one of them allows, and none of them denies it. None is where everything may
        be pulled, or only `verdicts` say what.
        """
        ...

    async def owner_stands(self, owner: Owner) -> bool:
        """Returns whether the account for which a credential was given out may still log in; see `SupportsAccounts`.

        Whoever gives out credentials asks before each that it takes. An owner who is known to nobody stands. Raises
        `Unavailable`.
        """
        ...


@runtime_checkable
class Authenticator(Protocol):
    """Finds out who sends a request. Fails closed: an exception refuses the request."""

    async def authenticate(self, credentials: Credentials) -> Identity | None:
        """Returns the identity, or None for "not mine, ask the next".

        Raises `Unauthorized` for "mine, and bad": nobody else is asked.
        """
        ...

    def challenge(self, scopes: Sequence[Scope]) -> str | None:
        """Returns the value of WWW-Authenticate that leads a client here (RFC 9110 section 11.6.1), or None."""
        ...


@runtime_checkable
class SupportsStanding(Protocol):
    """An authenticator that can be asked whether somebody whom it has let in may still log in. Fails closed.

    Whoever keeps a login of its own, such as the console, asks with every request: it costs no more than `authenticate`
    does for somebody who is known.
    """

    async def stands(self, identity: Identity, credentials: Credentials) -> bool | None:
        """Returns whether ``identity`` may still log in, None for "not one of mine".

        ``credentials`` are those of the request that is made now: they prove nobody, but may have the cookie of a
        login. Raises `Unavailable` where it cannot be said.
        """
        ...


@runtime_checkable
class SupportsAccounts(Protocol):
    """An authenticator that keeps accounts, without which what others have given out for them is no good.

    Fails closed. It is asked before every request by such a credential, so that it has to answer without a query; see
    `Snapshot`.
    """

    async def keeps(self, owner: Owner) -> bool | None:
        """Returns whether ``owner`` is an account that may log in, and was already there when the credential was given.

        False is one that is disabled, or was removed, also where another has its name now; None is "not one of mine".
        Raises `Unavailable` where it cannot be said.
        """
        ...


@runtime_checkable
class Authorizer(Protocol):
    """Decides what an identity may do. Fails closed: an exception refuses the request."""

    async def decide(self, identity: Identity | None, scopes: Sequence[Scope]) -> Sequence[Verdict]:
        """Returns one verdict per scope, in order; None of ``allowed`` is "not mine to say".

        Any False denies; else any True allows; else the request is denied. A page of the catalogue is one call.
        ``identity`` None is an anonymous request.
        """
        ...


@runtime_checkable
class SupportsVisibility(Protocol):
    """An authorizer that says beforehand what may be pulled, so that the catalogue is filtered within its query.

    Where one of the policies does not, names are looked through page by page. The verdicts still decide.
    """

    async def visible(self, identity: Identity | None) -> Visible:
        """Returns the repositories for which `Authorizer.decide` would allow, or deny, a pull at this moment."""
        ...
