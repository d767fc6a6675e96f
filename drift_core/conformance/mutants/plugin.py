"""A plugin for each rule of the plugin suite that breaks this rule and no other."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, ClassVar

from msgspec.structs import force_setattr

from drift_core.api import Driver, Services, StartError, Struct
from drift_core.conformance.reference import plugin as reference
from drift_core.conformance.reference.plugin import Reference, ReferenceConfig, open_reference


class Plugin:
    """The reference plugin, of which a mutant changes one thing."""

    module: ClassVar[str] = reference.__name__
    config: ClassVar[type[ReferenceConfig]] = ReferenceConfig

    @staticmethod
    def open(config: ReferenceConfig, services: Services) -> AbstractAsyncContextManager[Reference]:
        """Opens the feature."""
        return open_reference(config, services)

    @classmethod
    def driver(cls) -> Driver[Any]:
        """Returns the driver that it offers."""
        return Driver("reference", cls.config, cls.open)


class ImportsMuch(Plugin):
    """Imports a large library although nobody has opened it."""

    module = "drift_core.conformance.mutants.heavy"


class _Milliseconds(ReferenceConfig, frozen=True, forbid_unknown_fields=True):
    wait: float = 1.0

    def __post_init__(self) -> None:
        force_setattr(self, "wait", self.wait * 1000)


class KeepsMilliseconds(Plugin):
    """Reads seconds, and keeps milliseconds under the same name."""

    config = _Milliseconds


class _Careless(Struct, frozen=True):
    proxy: str = ""


class _WithCareless(ReferenceConfig, frozen=True, forbid_unknown_fields=True):
    network: _Careless = _Careless()


class TakesAnyKey(Plugin):
    """Takes any key of a table within its table."""

    config = _WithCareless


class OpensOnce(Plugin):
    """Cannot be opened while it is open."""

    is_open = False

    @staticmethod
    @asynccontextmanager
    async def open(config: ReferenceConfig, services: Services) -> AsyncIterator[Reference]:
        if OpensOnce.is_open:
            message = "it is open already"
            raise StartError(message)
        async with open_reference(config, services) as opened:
            OpensOnce.is_open = True
            try:
                yield opened
            finally:
                OpensOnce.is_open = False


class LeavesATask(Plugin):
    """Ends its background task only where something went wrong."""

    @staticmethod
    @asynccontextmanager
    async def open(config: ReferenceConfig, services: Services) -> AsyncIterator[Reference]:
        async with open_reference(config, services) as opened:
            task = asyncio.create_task(asyncio.Event().wait())
            try:
                yield opened
            except BaseException:
                task.cancel()
                raise


class HidesErrors(Plugin):
    """Closes in order where something went wrong, and lets nobody know."""

    @staticmethod
    @asynccontextmanager
    async def open(config: ReferenceConfig, services: Services) -> AsyncIterator[Reference]:
        async with open_reference(config, services) as opened:
            with suppress(Exception):
                yield opened


class BeginsTooEarly(Plugin):
    """Begins its background task before it is open, and forgets it where the opening is cancelled."""

    @staticmethod
    @asynccontextmanager
    async def open(config: ReferenceConfig, services: Services) -> AsyncIterator[Reference]:
        task = asyncio.create_task(asyncio.Event().wait())
        async with open_reference(config, services) as opened:
            try:
                yield opened
            finally:
                task.cancel()


class WaitsForEver(Plugin):
    """Waits until its endpoint comes back, however long that takes."""

    @staticmethod
    @asynccontextmanager
    async def open(config: ReferenceConfig, services: Services) -> AsyncIterator[Reference]:
        while True:
            with suppress(StartError):
                async with open_reference(config, services):
                    break
            await asyncio.sleep(0.1)
        async with open_reference(config, services) as opened:
            yield opened


MUTANTS: dict[str, type[Plugin]] = {
    "plugin.import-budget": ImportsMuch,
    "plugin.config-round-trip": KeepsMilliseconds,
    "plugin.unknown-key": TakesAnyKey,
    "plugin.opens-twice": OpensOnce,
    "plugin.closes-clean": LeavesATask,
    "plugin.error-comes-through": HidesErrors,
    "plugin.cancelled-open": BeginsTooEarly,
    "plugin.dead-endpoint": WaitsForEver,
}
"""Who breaks which rule."""
