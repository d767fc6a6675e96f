"""What a feature is, and what it adds to the server: routes, headers, work beside requests."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from drift_core.protocols.registry import LocalRegistry


@runtime_checkable
class Feature(Protocol):
    """Adds to the whole by the optional powers that it also has, such as `SupportsRoutes`.

    An authenticator or an authorizer may have the powers of a feature, too.
    """

    name: str


@runtime_checkable
class SupportsRoutes(Protocol):
    """A feature that answers requests of its own, behind the same authentication as the registry."""

    def routes(self) -> Sequence[Any]:
        """Returns Litestar route handlers, routers or controllers; called once, when the application is built.

        A handler needs the scope ``opt["scope"]``: a `Scope`, or a function that makes one of the path's parameters (a
        dict), or None, which is whoever has logged in; else `registry:*:*`. One with ``opt["public"] = True`` asks
        nobody. The request's ``auth`` is its `Credentials`, and ``user`` the `Identity`, which is None where nobody is
        known. Below ``/v2`` only paths that the distribution specification leaves free may be taken, such as
        ``/v2/features``.

        `/schema` shows the routes with their docstrings, parameters, and the types of ``data`` and of what is returned.
        Where these say nothing, ``opt["body"]``, ``opt["query"]`` (a Struct of its parameters), ``opt["answers"]``, and
        ``opt["errors"]``, for a route whose errors have another form than that of the core, are shown. Each is a type,
        which is that of JSON, or a dict of types by media type; ``bytes`` is content that no type shows.
        """
        ...


@runtime_checkable
class SupportsHeaders(Protocol):
    """A feature that says something in every answer, such as where else the server can be reached."""

    @property
    def headers(self) -> Sequence[tuple[bytes, bytes]]:
        """Names in lower case, and values; asked once, when the application is built."""
        ...


@runtime_checkable
class SupportsSiteHeaders(Protocol):
    """A feature that says something in every answer of the console, such as where else that can be reached."""

    @property
    def site_headers(self) -> Sequence[tuple[bytes, bytes]]:
        """Names in lower case, and values; asked once, when the console is built."""
        ...


@runtime_checkable
class SupportsBackground(Protocol):
    """A feature with work beside requests, which one process of all that share the database does. Fails open.

    A store may have this power, too.
    """

    async def work(self, registry: LocalRegistry) -> None:
        """Works until cancelled; what it does with ``registry`` is done in the name of the plugin.

        What it raises is logged, and it begins again after a rest. For a moment two processes may be at it.
        """
        ...
