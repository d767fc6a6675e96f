"""Takes a `/v2` path apart: which endpoint, which repository, which reference. The specification's table is here."""

from functools import lru_cache

from msgspec import Struct

from drift_core.errors import EndpointUnknown, NameInvalid, RegistryError
from drift_core.http.message import decode_segment
from drift_core.registry.rules import check_name

PREFIX = "/v2"

CACHED_LENGTH, CACHED_PATHS = 512, 4096
"""Characters of the longest path whose route each worker remembers, and how many: a few MB at most."""


FORMS = {
    "base": "/v2/",
    "catalog": "/v2/_catalog",
    "extensions": "/v2/{name}/_oci/ext/discover",
    "tags": "/v2/{name}/tags/list",
    "manifest": "/v2/{name}/manifests/{reference}",
    "referrers": "/v2/{name}/referrers/{digest}",
    "uploads": "/v2/{name}/blobs/uploads/",
    "upload": "/v2/{name}/blobs/uploads/{reference}",
    "blob": "/v2/{name}/blobs/{digest}",
}
"""What the paths of each endpoint look like, as the specification writes them."""


class Route(Struct, frozen=True):
    """Where a request goes. ``name`` is a checked repository name, or "" where the endpoint has none."""

    endpoint: str
    name: str = ""
    reference: str = ""


def parse_path(raw_path: str) -> Route:
    """Returns the route of an undecoded path, from a cache where it is short; see `_parsed`."""
    return _cached(raw_path) if len(raw_path) <= CACHED_LENGTH else _parsed(raw_path)


def is_endpoint(raw_path: str) -> bool:
    """Says whether an undecoded path has the form of an endpoint, also with a name that is none."""
    try:
        parse_path(raw_path)
    except EndpointUnknown:
        return False
    except RegistryError:
        return True
    return True


def _parsed(raw_path: str) -> Route:  # noqa: C901, PLR0911 - one case for each endpoint
    """Returns the route of an undecoded path (distribution specification, "Endpoints").

    A percent-encoded slash never separates: ``%2f`` inside a segment is a bad name, not a longer one.

    Raises:
        EndpointUnknown: no endpoint has this form.
        NameInvalid: the repository's name is not one.
    """
    _, prefix, *segments = raw_path.split("/")
    if prefix != PREFIX.strip("/"):
        raise EndpointUnknown(path=raw_path[:256])
    match segments:
        case [] | [""]:
            return Route("base")
        case ["_catalog"]:
            return Route("catalog")
        case ["_oci", "ext", "discover"]:
            return Route("extensions")
        case [*name, "_oci", "ext", "discover"]:
            return Route("extensions", _name(name))
        case [*name, "tags", "list"]:
            return Route("tags", _name(name))
        case [*name, "manifests", reference]:
            return Route("manifest", _name(name), decode_segment(reference))
        case [*name, "referrers", digest]:
            return Route("referrers", _name(name), decode_segment(digest))
        case [*name, "blobs", "uploads"] | [*name, "blobs", "uploads", ""]:
            return Route("uploads", _name(name))
        case [*name, "blobs", "uploads", upload]:
            return Route("upload", _name(name), decode_segment(upload))
        case [*name, "blobs", digest]:
            return Route("blob", _name(name), decode_segment(digest))
        case _:
            raise EndpointUnknown(path=raw_path[:256])


_cached = lru_cache(CACHED_PATHS)(_parsed)


def _name(segments: list[str]) -> str:
    decoded = [decode_segment(segment) for segment in segments]
    if any("/" in segment for segment in decoded):
        raise NameInvalid("an encoded slash does not separate the parts of a name", name="/".join(segments)[:256])
    return check_name("/".join(decoded))
