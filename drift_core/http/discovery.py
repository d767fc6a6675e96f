"""Endpoints that list: the base, the catalogue, tags, referrers (end-1, 8, 12), and the `_oci` extension."""

from urllib.parse import quote, urlencode

from drift_core.errors import QueryInvalid
from drift_core.http.exchange import Exchange
from drift_core.http.message import Reply, json_reply
from drift_core.model import Digest
from drift_core.registry.document import OCI_INDEX
from drift_core.registry.listing import MAX_PAGE
from drift_core.registry.rules import check_tag

CATALOG_ROUNDS = 10
"""Pages of names that one request for the catalogue looks through for those that its sender may see."""

EXTENSIONS = [
    {
        "name": "_drift",
        "description": "Compare-and-swap of tags: If-Match and If-None-Match on PUT and DELETE of a manifest",
        "url": "https://www.rfc-editor.org/rfc/rfc9110#section-13",
        "endpoints": ["/v2/<name>/manifests/<reference>"],
    }
]


async def get_base(_: Exchange) -> Reply:
    """Answers that this is a registry, to whoever is admitted."""
    return json_reply(200, {})


async def get_extensions(_: Exchange) -> Reply:
    """Answers with what this registry does beyond the specification (extension ``_oci``)."""
    return json_reply(200, {"extensions": EXTENSIONS})


async def get_catalog(exchange: Exchange) -> Reply:
    """Answers with names of repositories that the sender may pull from, in order."""
    limit, after = _page_size(exchange), exchange.request.value("last") or ""
    names: list[str] = []
    more = limit > 0
    visible = await exchange.visible()
    for _ in range(CATALOG_ROUNDS):
        if not more or len(names) == limit:
            break
        page = await exchange.registry.listing.repositories(after, limit - len(names), visible)
        names += await exchange.listed(page.entries)
        more = page.more
        after = page.entries[-1] if page.entries else after
    headers = [_next("/v2/_catalog", n=limit, last=after)] if more else []
    return json_reply(200, {"repositories": names}, *headers)


async def get_tags(exchange: Exchange) -> Reply:
    """Answers with tags of a repository, in order."""
    limit, after = _page_size(exchange), exchange.request.value("last") or ""
    if after:
        check_tag(after)
    page = await exchange.registry.listing.tags(exchange.name, after, limit)
    more = page.more and limit > 0
    headers = [_next(f"/v2/{exchange.name}/tags/list", n=limit, last=page.entries[-1])] if more else []
    return json_reply(200, {"name": exchange.name, "tags": page.entries}, *headers)


async def get_referrers(exchange: Exchange) -> Reply:
    """Answers with an index of the manifests that name the subject, filtered by ``artifactType`` if asked."""
    subject, request = exchange.digest(), exchange.request
    limit, last, kind = _page_size(exchange), request.value("last"), request.value("artifactType")
    after = "" if last is None else Digest.parse(last)
    page = await exchange.registry.listing.referrers(exchange.name, subject, kind, after, limit)
    headers = [] if kind is None else [("oci-filters-applied", "artifactType")]
    if page.more and limit > 0:
        filters = {} if kind is None else {"artifactType": kind}
        path = f"/v2/{exchange.name}/referrers/{subject}"
        headers.append(_next(path, n=limit, last=page.entries[-1].digest, **filters))
    body = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": page.entries}
    return json_reply(200, body, *headers, media_type=OCI_INDEX)


def _page_size(exchange: Exchange) -> int:
    text = exchange.request.value("n")
    if text is None:
        return MAX_PAGE
    if not (text.isascii() and text.isdecimal()):
        raise QueryInvalid("n is not a number", parameter="n", value=text[:64])
    return min(int(text), MAX_PAGE) if len(text) < len(str(MAX_PAGE)) + 1 else MAX_PAGE


def _next(path: str, **query: str | int) -> tuple[str, str]:
    return ("link", f'<{path}?{urlencode(query, quote_via=quote)}>; rel="next"')
