"""What an endpoint gets to work with: the request, its route, the registry, who asks, and what they may do."""

from collections.abc import Awaitable, Callable, Sequence

from msgspec import Struct

from drift_core.guard import Guard, listing
from drift_core.http.client import Clients
from drift_core.http.message import Reply, Request
from drift_core.http.routes import Route
from drift_core.model import Digest, Identity, Scope, Visible
from drift_core.registry.registry import Registry


class Exchange(Struct, frozen=True):
    """One admitted request on its way to an endpoint."""

    request: Request
    route: Route
    registry: Registry
    guard: Guard
    clients: Clients
    identity: Identity | None

    @property
    def name(self) -> str:
        """The repository."""
        return self.route.name

    def digest(self) -> Digest:
        """Returns the route's reference as a digest. Raises `DigestInvalid`."""
        return Digest.parse(self.route.reference)

    async def readable(self, repositories: Sequence[str]) -> list[str]:
        """Returns those repositories from which the sender may pull; one question for all of them."""
        return await self._pulled_by(self.identity, repositories)

    async def listed(self, repositories: Sequence[str]) -> list[str]:
        """Returns those repositories that the catalogue shows to the sender; see `listing`."""
        return await self._pulled_by(listing(self.identity), repositories)

    async def visible(self) -> list[Visible] | None:
        """Returns what the catalogue shows to the sender, for a query; see `Guard.visible`."""
        return await self.guard.visible(listing(self.identity))

    async def _pulled_by(self, identity: Identity | None, repositories: Sequence[str]) -> list[str]:
        verdicts = await self.guard.verdicts(identity, [Scope("repository", name, "pull") for name in repositories])
        return [name for name, allowed in zip(repositories, verdicts, strict=True) if allowed]


Endpoint = Callable[[Exchange], Awaitable[Reply]]
