"""A defect of ours: the client learns a request id in the specified form, the log has the traceback under it."""

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from drift_core.config import load
from drift_core.guard import Guard
from drift_core.http.app import build_app
from drift_core.metrics import Metrics
from drift_core.observing import Observers
from drift_core.trail import Trail


class Broken:
    """A registry with a defect: whatever is asked of it raises."""

    several_nodes = False

    def __getattr__(self, name: str) -> Any:
        message = "a defect that nobody foresaw"
        raise ValueError(message)


@pytest.mark.filterwarnings("ignore:.*copy_scope:DeprecationWarning")
@pytest.mark.parametrize("path", ["/v2/some/name/tags/list", "/v2/_catalog", "/readyz"])
def test_an_unexpected_exception(path: str) -> None:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    with structlog.testing.capture_logs() as logged:
        broken: Any = Broken()
        signing = SimpleNamespace(evidence=SimpleNamespace(formats=()))
        guard, metrics = Guard(Trail()).arm((), ()), Metrics()
        runtime: Any = SimpleNamespace(
            registry=broken,
            signing=signing,
            guard=guard,
            features=(),
            named_features=(),
            metrics=metrics,
            observers=Observers([], metrics),
        )
        app = build_app(load(None, {}, ()), runtime)

        async def ask() -> None:
            await app(scope, receive, send)

        asyncio.run(ask())

    assert sent[0]["status"] == 500
    headers = dict(sent[0]["headers"])
    body = json.loads(b"".join(message.get("body", b"") for message in sent))
    error = body["errors"][0]
    assert "nobody foresaw" not in json.dumps(body)
    request_id = error["detail"]["request_id"]
    assert headers[b"x-request-id"].decode() == request_id
    failures = [entry for entry in logged if entry["log_level"] == "error"]
    assert [entry["request_id"] for entry in failures] == [request_id]
    assert "a defect that nobody foresaw" in failures[0]["error"]
    assert failures[0]["exc_info"]
