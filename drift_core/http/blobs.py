"""Endpoints of blobs: HEAD, GET with ranges, DELETE (end-2, end-10)."""

import re
from functools import lru_cache

from drift_core.errors import BlobUnknown, RangeNotSatisfiable
from drift_core.http.exchange import Exchange
from drift_core.http.message import FileBody, Headers, Reply, encoded
from drift_core.model import Digest
from drift_core.protocols.storage import Encoded

OCTETS = "application/octet-stream"
CACHED_DIGESTS = 4096
"""How many digests each worker remembers in the form that an answer needs: about 2 MB at most."""

REFUSED = re.compile(r"q\s*=\s*0(\.0*)?\s*$")
"""The end of a weight that means "not acceptable" (RFC 9110 section 12.4.2)."""

RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")


async def get_blob(exchange: Exchange) -> Reply:
    """Answers GET and HEAD: whole (200), a range (206), not modified (304), or elsewhere (307)."""
    digest, request = exchange.digest(), exchange.request
    blobs = exchange.registry.blobs
    size = await blobs.size(exchange.name, digest)
    await blobs.admit_pull(exchange.name, digest, size, exchange.identity)
    # Whoever asks that is about to push what needs it.
    if request.method == "HEAD" and not await blobs.leases.take(exchange.name, digest):
        raise BlobUnknown(name=exchange.name, digest=digest)
    etag, headers = f'"{digest}"', _described(digest)
    if blobs.encodes:
        headers = [*headers, (b"vary", b"accept-encoding")]
    length = (b"content-length", b"%d" % size)
    if etag_matches(request.header(b"if-none-match"), digest):
        return Reply(304, [*headers, length])
    location = await blobs.redirect(digest, request.method, exchange.clients.origin(request.scope)[0])
    if location is not None:
        return Reply(307, [*headers, *encoded(("location", location))])
    wanted = request.header(b"range")
    if request.method == "GET" and wanted is not None and request.header(b"if-range") in (None, etag):
        bounds = parse_range(wanted, size)
        if bounds is not None:
            start, stop = bounds
            part = encoded(("content-length", str(stop - start)), ("content-range", f"bytes {start}-{stop - 1}/{size}"))
            return Reply(206, [*headers, *part], await blobs.read(digest, start, stop))
    if blobs.encodes and request.method == "GET" and wanted is None:
        coded = await blobs.encoded(digest, accepted_codings(request.header(b"accept-encoding") or ""))
        if coded is not None:
            return Reply(200, _coded(headers, digest, coded), coded.chunks)
    path = blobs.local_path(digest, size)
    # An empty file has nothing to send, and pathsend is an extension that a server may lack.
    if path is not None and size and "http.response.pathsend" in request.scope.get("extensions", {}):
        return Reply(200, [*headers, length], FileBody(path, size))
    # To HEAD, too, a blob whose bytes are lost is not there, as its first byte tells: who hears so pushes it again.
    stop = size if request.method == "GET" else min(size, 1)
    return Reply(200, [*headers, length], await blobs.read(digest, 0, stop))


@lru_cache(CACHED_DIGESTS)
def _described(digest: Digest) -> Headers:
    described = ("docker-content-digest", digest), ("etag", f'"{digest}"')
    return encoded(*described, ("accept-ranges", "bytes"), ("content-type", OCTETS))


def _coded(headers: Headers, digest: Digest, coded: Encoded) -> Headers:
    """Returns the headers of a blob in a content coding, of which no range can be had (RFC 9110 section 8.8.3)."""
    kept = [header for header in headers if header[0] not in (b"etag", b"accept-ranges")]
    own = ("etag", f'W/"{digest}"'), ("content-encoding", coded.coding), ("content-length", str(coded.size))
    return [*kept, *encoded(*own)]


async def delete_blob(exchange: Exchange) -> Reply:
    """Answers DELETE: the repository no longer holds the blob."""
    await exchange.registry.blobs.delete(exchange.name, exchange.digest(), exchange.identity)
    return Reply(202, [])


def parse_range(text: str, size: int) -> tuple[int, int] | None:
    """Returns the bytes ``[start, stop)`` that a Range asks for (RFC 9110 section 14.1.2).

    None means the header is to be ignored: another unit, several ranges, or no valid range at all.

    Raises:
        RangeNotSatisfiable: the range begins behind the end, ends before it begins, or is the last 0 bytes.
    """
    match = RANGE.fullmatch(text.strip())
    if match is None or not any(match.groups()):
        return None
    first, last = match.groups()
    if not first:
        start, stop = max(size - int(last), 0), size
    else:
        start, stop = int(first), min(int(last) + 1 if last else size, size)
    if start >= stop:
        raise RangeNotSatisfiable(size)
    return start, stop


def accepted_codings(header: str) -> frozenset[str]:
    """Returns the content codings that an Accept-Encoding names and does not refuse (RFC 9110 section 12.5.3).

    What ``*`` would allow is not among them: who did not name a coding may not know it.
    """
    codings = (part.partition(";") for part in header.lower().split(","))
    return frozenset(name.strip() for name, _, weight in codings if not REFUSED.search(weight)) - {"", "*", "identity"}


def etag_matches(header: str | None, digest: str) -> bool:
    """Says whether an If-None-Match names a digest (RFC 9110 section 13.1.2, weak comparison)."""
    return header is not None and bool({"*", digest} & entity_tags(header, weak=True))


def entity_tags(header: str, *, weak: bool) -> frozenset[str]:
    """Returns the digests of If-Match or If-None-Match, and ``*`` where that is the whole header.

    A weak tag counts only in a weak comparison (RFC 9110 section 8.8.3.2).
    """
    if header.strip() == "*":
        return frozenset("*")
    parts = [part.strip() for part in header.split(",")]
    tags = [part.removeprefix("W/") for part in parts if weak or not part.startswith("W/")]
    return frozenset(tag.strip('"') for tag in tags) - {"*"}
