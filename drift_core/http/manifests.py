"""Endpoints of manifests: HEAD, GET, PUT, DELETE by tag and digest (end-3, 7, 9)."""

from functools import lru_cache

from drift_core.errors import DigestInvalid, ManifestTooLarge, ManifestUnknown, UriTooLong
from drift_core.http.blobs import entity_tags, etag_matches
from drift_core.http.exchange import Exchange
from drift_core.http.message import Headers, Reply, Request, encoded
from drift_core.model import Digest
from drift_core.registry.manifests import Condition, is_about
from drift_core.registry.rules import check_tag

CACHED_REFERENCES = 4096
"""How many tags and digests each worker remembers in the form that an answer needs: about 2 MB at most."""

MAX_TAGS = 50
"""Most tags of one push; each of 128 characters, they still fit into the response's headers."""


async def get_manifest(exchange: Exchange) -> Reply:
    """Answers GET and HEAD with the manifest's own bytes and media type."""
    reference, manifests = _reference(exchange.route.reference), exchange.registry.manifests
    stored = await manifests.get(exchange.name, reference, exchange.identity)
    if exchange.request.method == "GET":
        manifests.given(exchange.name, reference)
    # Whoever asks so may be about to push an index of it; and a tag about something else goes with that.
    leased = exchange.request.method == "HEAD" and (isinstance(reference, Digest) or is_about(reference))
    if leased and not await manifests.leases.take(exchange.name, stored.digest):
        raise ManifestUnknown(name=exchange.name, reference=stored.digest)
    if etag_matches(exchange.request.header(b"if-none-match"), stored.digest):
        return Reply(304, [*_described(stored.digest, stored.media_type), (b"content-length", b"%d" % stored.size)])
    return Reply(200, _described(stored.digest, stored.media_type), stored.content)


async def put_manifest(exchange: Exchange) -> Reply:
    """Answers PUT: by digest, by tag, and with further tags by ``?tag=``; under If-Match and If-None-Match."""
    request, name = exchange.request, exchange.name
    reference = _reference(exchange.route.reference)
    tags = [] if isinstance(reference, Digest) else [reference]
    tags += [check_tag(tag) for tag in request.values("tag")]
    if len(tags) > MAX_TAGS:
        raise UriTooLong(f"a push names at most {MAX_TAGS} tags", tags=len(tags))
    content = await _read_bounded(request, exchange.registry.rules.max_manifest_size)
    pushed = await exchange.registry.manifests.put(
        name,
        content,
        request.header(b"content-type"),
        _digest(reference, request),
        tags,
        exchange.identity,
        _condition(request),
    )
    headers = [
        ("location", f"/v2/{name}/manifests/{pushed.digest}"),
        ("docker-content-digest", pushed.digest),
        ("etag", f'"{pushed.digest}"'),
    ]
    if pushed.subject is not None:
        headers.append(("oci-subject", pushed.subject))
    headers += [("oci-tag", tag) for tag in (pushed.tags if request.values("tag") else ())]
    return Reply(201, encoded(*headers))


async def delete_manifest(exchange: Exchange) -> Reply:
    """Answers DELETE: of a tag only the tag, of a digest the manifest and every tag that names it."""
    reference, manifests = _reference(exchange.route.reference), exchange.registry.manifests
    condition = _condition(exchange.request)
    if isinstance(reference, Digest):
        await manifests.delete(exchange.name, reference, exchange.identity, condition)
    else:
        await manifests.delete_tag(exchange.name, reference, exchange.identity, condition)
    return Reply(202, [])


@lru_cache(CACHED_REFERENCES)
def _reference(text: str) -> str | Digest:
    return Digest.parse(text) if ":" in text else check_tag(text)


@lru_cache(CACHED_REFERENCES)
def _described(digest: Digest, media_type: str) -> Headers:
    return encoded(("docker-content-digest", digest), ("etag", f'"{digest}"'), ("content-type", media_type))


def _digest(reference: str | Digest, request: Request) -> Digest | None:
    text = request.value("digest")
    if text is None:
        return reference if isinstance(reference, Digest) else None
    digest = Digest.parse(text)
    if isinstance(reference, Digest) and reference != digest:
        raise DigestInvalid("the digest in the path and the digest parameter differ", path=reference, parameter=digest)
    return digest


def _condition(request: Request) -> Condition:
    if_match, if_none_match = request.header(b"if-match"), request.header(b"if-none-match")
    return Condition(
        None if if_match is None else entity_tags(if_match, weak=False),
        None if if_none_match is None else entity_tags(if_none_match, weak=True),
    )


async def _read_bounded(request: Request, limit: int) -> bytes:
    if (request.content_length or 0) > limit:
        raise ManifestTooLarge(max_bytes=limit)
    content = bytearray()
    async for chunk in request.body():
        content += chunk
        if len(content) > limit:
            raise ManifestTooLarge(max_bytes=limit)
    return bytes(content)
