"""A receiver, as a program of a user's would be, and the feature with its table."""

import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from drift_webhooks.config import WebhooksConfig
from drift_webhooks.webhooks import Webhooks, open_webhooks
from msgspec import Struct, convert

from drift_core.api import Records
from drift_core.conformance import open_records, services
from tests.server import free_port

OpenFeature = Callable[..., AbstractAsyncContextManager[Webhooks]]

SECRET = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="


class Received(Struct, frozen=True):
    """A request as it came."""

    headers: dict[str, str]
    body: bytes
    port: int

    @property
    def event(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


class Receiver:
    """Answers each request with the next of ``answers``, and the last one for ever; None keeps it waiting."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.answers: list[int | None] = [204]
        self.headers: dict[str, str] = {}
        self.leave = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.received.append(Received(headers, body, self.client_address[1]))
                answers = receiver.answers
                answer = answers.pop(0) if len(answers) > 1 else answers[0]
                if answer is None:
                    receiver.leave.wait(30)
                    return
                self.send_response(answer)
                for name, value in receiver.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        ThreadingHTTPServer.allow_reuse_port = True
        self._server = ThreadingHTTPServer(("127.0.0.1", free_port()), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    @property
    def ids(self) -> list[str]:
        """The ids of the events that came, in order."""
        return [one.event["id"] for one in self.received]

    def wait_for(self, number: int) -> None:
        """Returns once so many requests came, or fails."""
        until = time.monotonic() + 30
        while len(self.received) < number:
            assert time.monotonic() < until, f"{len(self.received)} of {number} came"
            time.sleep(0.01)

    def close(self) -> None:
        self.leave.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def other() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
async def records(database_url: str | None) -> AsyncIterator[Records]:
    async with open_records("webhooks", "drift_webhooks.migrations", database_url) as records:
        yield records


@pytest.fixture
def open_feature(records: Records) -> OpenFeature:
    """Returns a function that opens the feature as a server would, by keys of ``[webhooks]``."""

    def opened(**keys: object) -> AbstractAsyncContextManager[Webhooks]:
        config = convert({"enabled": True, **keys}, WebhooksConfig, dec_hook=lambda kind, value: kind(value))
        return open_webhooks(config, services("webhooks", records=records))

    return opened
