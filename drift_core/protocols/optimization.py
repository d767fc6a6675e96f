"""What makes a better form of a layer beside it."""

from collections.abc import AsyncIterator
from typing import Protocol, runtime_checkable

from drift_core.model import Descriptor


class Sink(Protocol):
    """Where an optimizer writes the new form, which is stored under its digest if a descriptor is returned."""

    async def write(self, chunk: bytes) -> None:
        """Appends ``chunk``, one call at a time, and returns when there is room for more.

        Raises `Unavailable`, or `StorageFull` where there is no space.
        """
        ...


@runtime_checkable
class Optimizer(Protocol):
    """Makes a better form beside a blob, never in its place. Its failure keeps the original.

    The same layer gives the same form. A tar stays the same tar, byte for byte: only how it is compressed may differ.
    """

    async def optimize(self, layer: Descriptor, content: AsyncIterator[bytes], sink: Sink) -> Descriptor | None:
        """Writes the new form into ``sink`` and returns its descriptor, which has all of the layer's annotations.

        Returns None where it declines the media type or gains nothing, or where ``content`` is damaged or not what
        ``layer`` says; what was written is then dropped. Memory is bounded by constants, whatever the layer unpacks to.

        Raises `RegistryError` instead of None to give a reason, and lets out what ``content`` and ``sink`` raise.
        """
        ...
