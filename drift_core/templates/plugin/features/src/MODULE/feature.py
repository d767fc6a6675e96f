"""A gate, a subscriber and a route in one object: keep what you need."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from fnmatch import fnmatchcase
from typing import Any

from drift_core.api import Action, Change, Denied, Event, Services

from ${module}.config import ${prefix}Config


class ${prefix}:
    """Refuses pushes to frozen repositories, logs the others, and says what is frozen."""

    name = "${name}"
    gated: Sequence[Action] = ("manifest.push",)
    subscribed: Sequence[Action] = ("manifest.push",)

    def __init__(self, config: ${prefix}Config, services: Services) -> None:
        self._frozen = config.frozen
        self._log = services.log

    async def admit(self, change: Change) -> None:
        """Fails closed: what this raises, or is too slow for, does not happen."""
        for glob in self._frozen:
            if fnmatchcase(change.repository, glob):
                raise Denied(f"{glob} is frozen")

    async def on_event(self, event: Event) -> None:
        """Is told at least once, in order for each repository; what this raises is told again."""
        self._log.info("pushed", repository=event.repository, tags=event.tags, by=event.actor)

    def routes(self) -> Sequence[Any]:
        """Returns Litestar handlers; they stand behind the same login as the registry."""
        from litestar import get

        @get("/${name}", sync_to_thread=False)
        def frozen() -> list[str]:
            """Returns the globs of frozen repositories."""
            return list(self._frozen)

        return [frozen]


@asynccontextmanager
async def open_feature(config: ${prefix}Config, services: Services) -> AsyncIterator[${prefix}]:
    """Opens the feature for as long as the server runs."""
    yield ${prefix}(config, services)
