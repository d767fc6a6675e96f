"""Keeps results of queries for as long as nobody has committed a change, so that a warm pull runs no query."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from drift_core.metrics import Lookups

V = TypeVar("V")


class QueryCache(Generic[V]):
    """A bounded map; an entry counts only while ``version()`` is what it was before the entry was loaded.

    ``weigh`` gives an entry's size in bytes and ``capacity`` the most that all of them may weigh together. How
    often it has what is looked for, is counted in ``lookups``. For tasks of one loop.
    """

    def __init__(
        self, version: Callable[[], bytes], capacity: int, weigh: Callable[[V], int], lookups: Lookups
    ) -> None:
        self._lookups = lookups
        self._version = version
        self._capacity = capacity
        self._weigh = weigh
        self._weight = 0
        self._entries: OrderedDict[Hashable, tuple[bytes, V]] = OrderedDict()

    async def get(self, key: Hashable, load: Callable[[], Awaitable[V]]) -> V:
        """Returns the entry, from ``load`` where there is none that counts; an exception of ``load`` is not kept."""
        version = self._version()
        held = self._held(key, version)
        if held is not None:
            self._lookups.hits += 1
            return held
        self._lookups.misses += 1
        value = await load()
        self._put(key, version, value)
        return value

    def held(self, key: Hashable) -> V | None:
        """Returns the entry, or None where there is none that counts."""
        return self._held(key, self._version())

    def _held(self, key: Hashable, version: bytes) -> V | None:
        entry = self._entries.get(key)
        if entry is None or entry[0] != version:
            return None
        self._entries.move_to_end(key)
        return entry[1]

    def drop(self, key: Hashable) -> None:
        """Forgets an entry, where there is one."""
        previous = self._entries.pop(key, None)
        if previous is not None:
            self._weight -= self._weigh(previous[1])

    def _put(self, key: Hashable, version: bytes, value: V) -> None:
        self.drop(key)
        self._entries[key] = (version, value)
        self._weight += self._weigh(value)
        while self._weight > self._capacity:
            _, (_, dropped) = self._entries.popitem(last=False)
            self._weight -= self._weigh(dropped)
