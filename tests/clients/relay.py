"""A TCP relay that stands between a client and the registry and cuts one connection in the middle of a transfer."""

import socket
import struct
import threading
from typing import Literal, Self

CHUNK = 64 * 1024


class Relay:
    """Relays connections to a port of this machine; cuts the first that carries more than `limit` bytes one way."""

    def __init__(self, port: int, direction: Literal["push", "pull"], limit: int, *, reset: bool = True) -> None:
        """Cuts after `limit` bytes towards the registry ("push") or from it ("pull"), once, with a reset or an end."""
        self._port = port
        self._direction = direction
        self._limit = limit
        self._with_reset = reset
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._closing = False
        self.cut = False
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"

    def _start(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._closing:
                client.close()
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._port))
            except OSError:
                client.close()
                continue
            with self._lock:
                self._open |= {client, server}
            self._start(self._pump, client, server, "push")
            self._start(self._pump, server, client, "pull")

    def _pump(self, source: socket.socket, target: socket.socket, direction: str) -> None:
        carried = 0
        try:
            while data := source.recv(CHUNK):
                carried += len(data)
                if direction == self._direction and carried > self._limit and self._claim():
                    self._break(source)
                    self._break(target)
                    return
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            for end in (source, target):
                self._shut(end)

    def _claim(self) -> bool:
        with self._lock:
            mine, self.cut = not self.cut, True
        return mine

    def _break(self, end: socket.socket) -> None:
        """Ends the connection; with no time to linger the peer sees a reset, otherwise an early end."""
        if self._with_reset:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._shut(end)
        with self._lock:
            self._open.discard(end)
        end.close()

    @staticmethod
    def _shut(end: socket.socket) -> None:
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            return

    def __enter__(self) -> Self:
        """Starts to accept connections."""
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        """Closes every connection and waits for the threads."""
        self._closing = True
        self._shut(self._listener)
        self._listener.close()
        with self._lock:
            ends = list(self._open)
        for end in ends:
            self._shut(end)
        for thread in self._threads:
            thread.join()
        for end in ends:
            end.close()
