"""What browsers are shown, how they log in, and who serves them."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, runtime_checkable

from msgspec import Struct

from drift_core.model import Identity
from drift_core.pages import Figure, Page
from drift_core.protocols.access import Credentials
from drift_core.protocols.transport import AsgiApp


@runtime_checkable
class SupportsPages(Protocol):
    """A feature that adds pages to the console, if one is installed. Fails open: the others are shown all the same."""

    def pages(self) -> Sequence[Page]:
        """Returns the pages; called once, when the console is built."""
        ...


@runtime_checkable
class SupportsFigures(Protocol):
    """A feature that adds numbers to the first page of the console. Fails open: the others are shown all the same."""

    async def figures(self) -> Sequence[Figure]:
        """Returns a few, for whoever may do everything; what they cost must not grow with what they count."""
        ...


class Login(Struct, frozen=True):
    """A way to log in elsewhere: what the button says, and the path of a route that begins it.

    The path takes a query ``next``: a path of the same server to which the browser is sent back.
    """

    label: str
    path: str


@runtime_checkable
class SupportsLogins(Protocol):
    """A feature by which browsers log in, such as an authenticator; its routes below ``/auth/`` are served there, too.

    Afterwards `Access.identify` knows the browser by a cookie.
    """

    @property
    def logins(self) -> Sequence[Login]:
        """The buttons; asked once, when the console is built."""
        ...


@runtime_checkable
class SupportsLogout(Protocol):
    """A feature by which browsers log in, and which ends that again, for whoever keeps a login of its own beside it."""

    async def log_out(self, credentials: Credentials) -> Sequence[tuple[str, str]]:
        """Ends the login that a cookie of the request proves, and returns the headers by which the browser forgets it.

        Nothing, where there is no such cookie. Raises `Unavailable` where it cannot be ended now.
        """
        ...

    async def log_out_everywhere(self, identity: Identity) -> None:
        """Ends every login by a browser of somebody; of whom it does not know, none. Raises `Unavailable`."""
        ...


class Console(Struct, frozen=True):
    """What the core hands to whoever serves browsers.

    ``pages`` are those of the core and of every feature. ``attempt`` counts somebody who tries to log in, ``visit`` a
    request, of an identity or else of its address, in the limits of ``[registry]``; both raise `TooManyRequests`.
    ``failed`` is told the plugin of a page that could not be shown, and why. ``figures`` are those of every
    `SupportsFigures`.

    ``stands`` says whether somebody who has logged in before may still log in, as `SupportsStanding` does; who is known
    to none of these stands. ``log_out`` and ``log_out_everywhere`` do what every `SupportsLogout` does, so that nobody
    who has left is let in again by another login. ``stopping`` is set when the server begins to drain: an answer that
    would go on for ever has to end then.
    """

    pages: Sequence[Page]
    logins: Sequence[Login]
    attempt: Callable[[Credentials], Awaitable[None]]
    visit: Callable[[Credentials, Identity | None], Awaitable[None]]
    failed: Callable[[Page, Exception], None]
    stands: Callable[[Identity, Credentials], Awaitable[bool]]
    log_out: Callable[[Credentials], Awaitable[Sequence[tuple[str, str]]]]
    log_out_everywhere: Callable[[Identity], Awaitable[None]]
    figures: Callable[[], Awaitable[Sequence[Figure]]]
    stopping: asyncio.Event


@runtime_checkable
class SupportsSite(Protocol):
    """A feature that serves browsers on ``[server] ui_addr``: the console. Its driver says ``site``."""

    def site(self, console: Console) -> AsgiApp:
        """Returns what is served there; called once, when the server starts.

        The ``auth`` of a request's scope is its `Credentials`. The core has logged the request, and bounds nothing.
        """
        ...
