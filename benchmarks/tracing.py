"""What tracing costs a warm pull, off and on, in turn; `python -m benchmarks.tracing`."""

import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from benchmarks.warm_pull import Puller, chosen_scale, compare
from tests.server import Server

WAYS: dict[str, tuple[str, ...]] = {
    "the plugin is not loaded": ('plugins.disabled=["tracing"]',),
    "loaded, not enabled": (),
    "enabled, 1 % recorded": ("tracing.enabled=true", "tracing.sample_ratio=0.01"),
    "enabled, all recorded": ("tracing.enabled=true",),
}
"""The settings of each; the first is what the others are compared with."""


class Taking(BaseHTTPRequestHandler):
    """A collector that takes everything and keeps nothing."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Takes a batch."""
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def collector() -> Iterator[str]:
    """Yields the endpoint of a collector."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Taking) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1/traces"
        server.shutdown()


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table."""
    rounds, requests = chosen_scale(__doc__, arguments)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        endpoint, pullers = stack.enter_context(collector()), {}
        for number, (name, settings) in enumerate(WAYS.items()):
            where = (f"tracing.endpoint={endpoint}",) if "tracing.enabled=true" in settings else ()
            every = ("logging.level=warning", "auth.mode=none", *settings, *where)
            pullers[name] = Puller(stack.enter_context(Server(Path(folder) / str(number), *every, workers=1)))
        compare("Tracing", pullers, rounds, requests)


if __name__ == "__main__":
    main()
