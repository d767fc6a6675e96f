"""The kit's fault proxy for those who have no event loop: it runs in a thread with one of its own."""

import asyncio
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self

from drift_core.conformance.faults import Fault, FaultProxy


class Proxy:
    """Carries bytes to a port of this machine while it is entered, and fails on demand; see `FaultProxy`."""

    def __init__(self, port: int) -> None:
        self._proxy = FaultProxy("127.0.0.1", port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._proxy.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run(self._proxy.__aexit__(kind, error, trace))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def port(self) -> int:
        return self._proxy.port

    def inject(self, fault: Fault) -> None:
        """Makes the fault happen from now on, in place of another."""

        async def inject() -> None:
            self._proxy.inject(fault)

        self._run(inject())

    def struck(self) -> bool:
        """Says whether the fault happened at least once."""
        return self._proxy.struck.is_set()

    def refuse(self) -> None:
        """Ends what is open, and lets nobody connect until `heal`."""
        self._run(self._proxy.refuse())

    def heal(self) -> None:
        """Carries every byte again."""
        self._run(self._proxy.heal())

    def _run(self, work: Coroutine[Any, Any, Any]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)
