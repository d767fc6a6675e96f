"""What a PostgreSQL database looks like to a transaction that begins now, by which caches know what still counts."""

import asyncio
import os
from typing import Any

import structlog

from drift_core.errors import Unavailable

RETURN_SECONDS = 5.0
"""How long a request waits for a database that does not answer, such as one that is restarted or fails over."""

RETRY_SECONDS = 0.1
"""Between two attempts to connect."""

NAME, QUESTION = b"drift_view", b"SELECT pg_current_snapshot()::text"


class View:
    """Asks on a connection of its own, for tasks of one loop; those that wait at the same time share a question.

    A snapshot names the transactions that it does not see (PostgreSQL, "System Information Functions"), so that two
    that are equal see the same. Only who asks can know that: a notification comes after the commit, and to somebody
    who is cut off it never comes. This is on the path of every request, hence by libpq itself: an
    `AsyncConnection` takes twice the time.
    """

    def __init__(self, arguments: dict[str, Any]) -> None:
        self.version = b""
        self._arguments = arguments
        self._loop = asyncio.get_running_loop()
        self._log = structlog.get_logger("drift.database")
        self._connection: Any = None
        self._socket = -1
        self._connections = 0
        self._connecting: asyncio.Task[None] | None = None
        self._asked: asyncio.Future[None] | None = None
        self._next: asyncio.Future[None] | None = None
        self._answer: Any = None
        self._late: asyncio.TimerHandle | None = None
        self._away = False

    async def look(self) -> None:
        """Makes ``version`` count all that was committed before this call. Raises `Unavailable`."""
        # The question that is under way may have been answered before.
        waiting = self._next
        if waiting is None:
            waiting = self._next = self._loop.create_future()
            if self._asked is None:
                self._ask()
        await asyncio.shield(waiting)

    def _ask(self) -> None:
        import psycopg  # noqa: PLC0415 - an extra

        self._asked, self._next, self._answer = self._next, None, None
        if self._connection is None:
            self._connecting = self._loop.create_task(self._connect())
            return
        try:
            self._connection.pgconn.send_query_prepared(NAME, None)
            self._connection.pgconn.flush()
        except psycopg.Error as error:
            self._lost(error)
            return
        self._late = self._loop.call_later(RETURN_SECONDS, self._give_up)

    def _readable(self) -> None:
        import psycopg  # noqa: PLC0415 - an extra

        server = self._connection.pgconn
        try:
            server.consume_input()
            while not server.is_busy():
                result = server.get_result()
                if result is None:
                    break
                self._answer = result
            else:
                return
        except psycopg.Error as error:
            self._lost(error)
            return
        if self._answer is not None:
            found = self._answer.get_value(0, 0) if self._answer.ntuples else None
            if found is None:
                self._lost(RuntimeError(self._answer.error_message.decode(errors="replace")))
            else:
                self._settle(found)

    def _settle(self, found: bytes) -> None:
        # Another server may have counted to the same number.
        self.version = b"%d:%b" % (self._connections, found)
        asked, self._asked, self._answer = self._asked, None, None
        if self._late is not None:
            self._late.cancel()
            self._late = None
        if asked is not None:
            asked.set_result(None)
        if self._next is not None:
            self._ask()

    def _lost(self, error: Exception) -> None:
        """Connects anew at once where somebody waits."""
        self._note(error)
        self._drop()
        if self._asked is not None:
            self._connecting = self._loop.create_task(self._connect())

    async def _connect(self) -> None:
        try:
            async with asyncio.timeout(RETURN_SECONDS):
                while (opened := await self._opened()) is None:  # noqa: ASYNC110 - a server tells nobody that it is back
                    await asyncio.sleep(RETRY_SECONDS)
        except TimeoutError:
            self._give_up()
            return
        connection, found = opened
        self._connection = connection
        self._connections += 1
        if self._away:
            self._away = False
            self._log.info("the metadata database answers again")
        connection.pgconn.nonblocking = 1
        # libpq closes its own when the server ends the connection, and the loop must be told first.
        self._socket = os.dup(connection.fileno())
        self._loop.add_reader(self._socket, self._readable)
        self._settle(found)

    async def _opened(self) -> tuple[Any, bytes] | None:
        """Returns a new connection and the first answer on it, or None where there is none at present."""
        import psycopg  # noqa: PLC0415 - an extra

        connection = None
        try:
            connection = await psycopg.AsyncConnection.connect(**self._arguments, autocommit=True)
            cursor = await connection.execute(QUESTION)
            row: Any = await cursor.fetchone()
            connection.pgconn.prepare(NAME, QUESTION)
        except BaseException as error:
            if connection is not None:
                # At once: who has cancelled this waits for nothing.
                connection.pgconn.finish()
            if not isinstance(error, psycopg.Error):
                raise
            self._note(error)
            return None
        return connection, row[0].encode()

    def _note(self, error: Exception) -> None:
        """Says once that the database is away."""
        if not self._away:
            self._away = True
            self._log.warning("the metadata database does not answer", error=str(error).strip())

    def _give_up(self) -> None:
        self._drop()
        waiting, self._asked, self._next = (self._asked, self._next), None, None
        for future in waiting:
            if future is not None:
                future.set_exception(Unavailable("the metadata database does not answer"))
                future.exception()  # everybody who waited may have left

    def _drop(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
        if self._connection is not None:
            self._loop.remove_reader(self._socket)
            os.close(self._socket)
            self._connection.pgconn.finish()
            self._connection = None

    def close(self) -> None:
        """Ends the connection; who waits hears `Unavailable`."""
        if self._connecting is not None:
            self._connecting.cancel()
        self._give_up()
