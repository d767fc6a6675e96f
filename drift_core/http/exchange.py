"""What an endpoint gets to work with: the request, its route, the registry, who asks, and what they may do."""

from collections.abc import Awaitable, Callable, Sequence

from msgspec import Struct

from drift_core.http.guard import Guard
from drift_core.http.message import Reply, Request
from drift_core.http.routes import Route
from drift_core.model import Digest, Identity, Scope
from drift_core.registry.registry import Registry


class Exchange(Struct, frozen=True):
    """One admitted request on its way to an endpoint."""

    request: Request
    route: Route
    registry: Registry
    guard: Guard
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
        verdicts = await self.guard.verdicts(
            self.identity, [Scope("repository", name, "pull") for name in repositories]
        )
        return [name for name, allowed in zip(repositories, verdicts, strict=True) if allowed]


Endpoint = Callable[[Exchange], Awaitable[Reply]]
