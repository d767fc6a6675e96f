"""The message set: what it moves is what HTTP would, by the same rules."""

import asyncio
from hashlib import sha256
from typing import Any

import msgspec
import pytest
from drift_quic_aioquic import messages
from drift_quic_aioquic.client import Client
from drift_quic_aioquic.config import BACKENDS, MESSAGES
from drift_quic_aioquic.messages import (
    MAX_MESSAGE,
    BlobRequest,
    BlobResponse,
    BlobUpload,
    Error,
    ManifestRequest,
    ManifestResponse,
    ManifestUpload,
    Ping,
    Pong,
    Reply,
    Request,
    decode_reply,
    encode,
)

from .conftest import Serve

pytestmark = pytest.mark.anyio

DIGEST = "sha256:" + "a" * 64


class Registry:
    """Keeps what is pushed, and wants a login for the repository ``secret``."""

    def __init__(self) -> None:
        self.kept: dict[str, tuple[bytes, str]] = {}
        self.scopes: list[dict[str, Any]] = []

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        body, more = b"", True
        while more:
            event = await receive()
            body += event.get("body", b"")
            more = event.get("more_body", False)
        headers = dict(scope["headers"])
        status, answer, kind = self.answer(scope, headers, body)
        head = [(b"content-type", kind.encode()), (b"last-modified", b"Mon, 30 Nov 2026 08:00:00 GMT")]
        if scope["method"] == "PUT":
            head.append((b"docker-content-digest", f"sha256:{sha256(body).hexdigest()}".encode()))
        await send({"type": "http.response.start", "status": status, "headers": head})
        await send({"type": "http.response.body", "body": answer})

    def answer(self, scope: dict[str, Any], headers: dict[bytes, bytes], body: bytes) -> tuple[int, bytes, str]:
        path = scope["path"]
        if path.startswith("/v2/secret/") and headers.get(b"authorization") != b"Basic x":
            return 401, msgspec.json.encode({"errors": [{"code": "UNAUTHORIZED", "message": "who are you?"}]}), "x/json"
        if scope["method"] in {"PUT", "POST"}:
            name = scope["query_string"].decode().removeprefix("digest=").replace("%3A", ":")
            place = path.replace("uploads/", name) if name else path
            self.kept[place] = body, headers[b"content-type"].decode()
            return 201, b"", "text/plain"
        if path not in self.kept:
            return 404, msgspec.json.encode({"errors": [{"code": "X", "message": "it is not there"}]}), "x/json"
        return 200, *self.kept[path]


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def ask(client: Client, request: Request | bytes) -> Reply:
    message = request if isinstance(request, bytes) else encode(request)
    return decode_reply(await asyncio.wait_for(client.message(message), 20))


async def test_blobs_and_manifests(serve: Serve) -> None:
    async with serve(app=Registry()) as served, served.connect(alpn=MESSAGES) as client:
        assert await ask(client, Ping()) == Pong()
        assert await ask(client, BlobUpload(DIGEST, b"content", repository="a/b")) == BlobResponse(DIGEST)
        found = await ask(client, BlobRequest(f"a/b@{DIGEST}"))
        assert isinstance(found, BlobResponse)
        assert (found.content, found.metadata and found.metadata.size) == (b"content", 7)
        assert found.metadata is not None
        assert found.metadata.last_modified == 1_796_025_600
        pushed = await ask(client, ManifestUpload("a/b:v1", b"{}", "application/json"))
        assert pushed == ManifestResponse(f"sha256:{sha256(b'{}').hexdigest()}")
        manifest = await ask(client, ManifestRequest("v1", repository="a/b"))
        assert manifest == ManifestResponse("v1", b"{}", "application/json")
        scope = served.app.scopes[-1]
        assert (scope["path"], scope["http_version"], scope["client"][0]) == ("/v2/a/b/manifests/v1", "3", "127.0.0.1")


async def test_errors(serve: Serve) -> None:
    async with serve(app=Registry()) as served, served.connect(alpn=MESSAGES) as client:
        assert await ask(client, BlobRequest(DIGEST, "a/b")) == Error(404, "it is not there")
        assert await ask(client, BlobRequest(DIGEST)) == Error(400, "the message names no repository")
        secret = BlobUpload(DIGEST, b"x", repository="secret")
        assert await ask(client, secret) == Error(401, "who are you?")
        assert await ask(client, msgspec.structs.replace(secret, authorization="Basic x")) == BlobResponse(DIGEST)
        for bad in (b"", b"\xc1", b"\x93\x01\x02", msgspec.msgpack.encode({"type": "Nonsense"})):
            reply = await ask(client, bad)
            assert isinstance(reply, Error)
            assert reply.code == 400


async def test_limits(serve: Serve) -> None:
    """A message of 1 MiB is taken, a larger one is refused; so is a blob that would not fit into a reply."""
    async with serve(app=Registry()) as served, served.connect(alpn=MESSAGES) as client:
        overhead = len(encode(BlobUpload(DIGEST, bytes(70_000), repository="a"))) - 70_000
        for size, kind in ((MAX_MESSAGE - overhead, BlobResponse), (MAX_MESSAGE - overhead + 1, Error)):
            reply = await ask(client, BlobUpload(DIGEST, bytes(size), repository="a"))
            assert isinstance(reply, kind)
        served.app.kept["/v2/a/blobs/" + DIGEST] = bytes(MAX_MESSAGE), "x/y"
        reply = await ask(client, BlobRequest(DIGEST, "a"))
        assert isinstance(reply, Error)
        assert reply.code == 413
        assert await ask(client, Ping()) == Pong()


async def test_many_messages_at_once_are_bounded(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "MAX_HELD", 200_000)
    async with serve(app=Registry()) as served, served.connect(alpn=MESSAGES) as client:
        upload = BlobUpload(DIGEST, bytes(150_000), repository="a")
        replies = await asyncio.gather(*(ask(client, upload) for _ in range(8)))
        codes = {reply.code for reply in replies if isinstance(reply, Error)}
        assert codes <= {429}
        assert any(isinstance(reply, BlobResponse) for reply in replies)
        assert await ask(client, upload) == BlobResponse(DIGEST)


async def test_a_protocol_that_is_not_offered(serve: Serve) -> None:
    async with serve(app=Registry(), application_protocols=("h3",)) as served:
        with pytest.raises(OSError, match=r"closed|answered"):
            async with served.connect(alpn=MESSAGES, seconds=5):
                pass
