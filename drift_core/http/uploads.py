"""Endpoints of uploads: begin, mount, append, status, commit, cancel (end-4, 5, 6, 11, 13, 14)."""

import re

from drift_core.errors import DigestInvalid, OffsetMismatch, RegistryError, SizeInvalid, UploadInvalid, UploadTooLarge
from drift_core.http.exchange import Exchange
from drift_core.http.message import ClientGone, Reply, encoded
from drift_core.model import ALGORITHMS, Digest
from drift_core.protocols.storage import UploadId
from drift_core.registry.rules import check_name

CONTENT_RANGE = re.compile(r"(?:bytes )?([0-9]{1,40})-([0-9]{1,40})(?:/(?:[0-9]{1,40}|\*))?")


async def begin_upload(exchange: Exchange) -> Reply:
    """Answers POST: mounts a blob, takes a whole one, or begins an upload."""
    request, name, uploads = exchange.request, exchange.name, exchange.registry.uploads
    mount = request.value("mount")
    if mount is not None and await _mount(exchange, Digest.parse(mount), request.value("from")):
        return _created(name, Digest.parse(mount))
    digest = request.value("digest")
    algorithm = request.value("digest-algorithm") or "sha256"
    if algorithm not in ALGORITHMS:
        raise DigestInvalid("unsupported digest algorithm", algorithm=algorithm[:64], supported=sorted(ALGORITHMS))
    if mount is None and digest is not None:
        wanted = Digest.parse(digest)
        upload = await uploads.begin(name, wanted.algorithm)
        try:
            await uploads.append(name, upload, 0, request.body(), request.content_length)
            await uploads.commit(name, upload, wanted, exchange.identity)
        except (RegistryError, ClientGone) as error:
            # Nobody was told of this upload, so nobody can go on with it. One that was too large is gone already.
            if not isinstance(error, UploadTooLarge):
                await uploads.cancel(name, upload)
            raise
        return _created(name, wanted)
    return _accepted(name, await uploads.begin(name, algorithm), 0)


async def _mount(exchange: Exchange, digest: Digest, source: str | None) -> bool:
    blobs = exchange.registry.blobs
    sources = await blobs.holders(digest) if source is None else [check_name(source)]
    # Where the right to the source is missing the answer is the same as for a missing blob: go on and upload.
    for readable in await exchange.readable(sources):
        if await blobs.mount(exchange.name, digest, readable, exchange.identity):
            return True
    return False


async def append_chunk(exchange: Exchange) -> Reply:
    """Answers PATCH: appends the body, at the place that Content-Range names or at the end."""
    upload = UploadId(exchange.route.reference)
    received = await _append(exchange, upload)
    return _accepted(exchange.name, upload, received)


async def upload_status(exchange: Exchange) -> Reply:
    """Answers GET: how many bytes are kept, and where to go on."""
    upload = UploadId(exchange.route.reference)
    received = await exchange.registry.uploads.received(exchange.name, upload)
    return Reply(204, encoded(*_progress(exchange.name, upload, received)))


async def commit_upload(exchange: Exchange) -> Reply:
    """Answers PUT: appends the body if there is one, and makes the upload a blob."""
    upload = UploadId(exchange.route.reference)
    text = exchange.request.value("digest")
    if text is None:
        raise DigestInvalid("the digest parameter is missing", parameter="digest")
    digest = Digest.parse(text)
    if exchange.request.content_length != 0:
        await _append(exchange, upload)
    await exchange.registry.uploads.commit(exchange.name, upload, digest, exchange.identity)
    return _created(exchange.name, digest)


async def cancel_upload(exchange: Exchange) -> Reply:
    """Answers DELETE: the upload and its bytes are gone."""
    await exchange.registry.uploads.cancel(exchange.name, UploadId(exchange.route.reference))
    return Reply(204, [])


async def _append(exchange: Exchange, upload: UploadId) -> int:
    request = exchange.request
    length = request.content_length
    offset = last = None
    content_range = request.header(b"content-range")
    if content_range is not None:
        match = CONTENT_RANGE.fullmatch(content_range)
        if match is None:
            raise UploadInvalid("Content-Range is not START-END", contentRange=content_range[:64])
        offset, last = int(match[1]), int(match[2])
        if last < offset or (length is not None and length != last - offset + 1):
            raise SizeInvalid(contentRange=content_range, contentLength=length)
    try:
        received = await exchange.registry.uploads.append(exchange.name, upload, offset, request.body(), length)
    except OffsetMismatch as error:
        error.resume = tuple(_progress(exchange.name, upload, error.received))
        raise
    if last is not None and received != last + 1:
        raise SizeInvalid(
            "the body is not as long as Content-Range says", contentRange=content_range, received=received
        )
    return received


def _progress(name: str, upload: UploadId, received: int) -> list[tuple[str, str]]:
    # An upload without bytes has no last byte; 0-0 is what the field's registries say, and what clients expect.
    return [
        ("location", f"/v2/{name}/blobs/uploads/{upload}"),
        ("range", f"0-{max(received - 1, 0)}"),
        ("docker-upload-uuid", upload),
    ]


def _accepted(name: str, upload: UploadId, received: int) -> Reply:
    return Reply(202, encoded(*_progress(name, upload, received)))


def _created(name: str, digest: Digest) -> Reply:
    return Reply(201, encoded(("location", f"/v2/{name}/blobs/{digest}"), ("docker-content-digest", digest)))
