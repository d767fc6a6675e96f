"""Where the pages of repositories lie, and what may be seen there."""

from collections.abc import Mapping
from urllib.parse import urlencode

from drift_core.api import CATALOG, Digest, DigestInvalid, LocalRegistry, ManifestUnknown, Scope, pages
from drift_ui.documents import Document, read_document
from drift_ui.routing import path_of

SHORT = 19
"""Characters of a digest that tell it from others of a page."""

REPOSITORIES = "/repositories"
REPOSITORY = "/repositories/{name*}"
MANIFEST = "/repositories/{name*}/-/manifests/{reference}"
LAYER = "/repositories/{name*}/-/layers/{digest}"
BILL = "/repositories/{name*}/-/sbom/{digest}"
"""No part of a repository's name is a hyphen alone."""

MAY_LIST = CATALOG


def may_pull(parts: Mapping[str, str]) -> Scope:
    """Returns the right that a page of a repository needs."""
    return Scope("repository", parts["name"], "pull")


def repository_path(name: str) -> str:
    """Returns the path of a repository."""
    return path_of("repositories", name)


def manifest_path(name: str, reference: str) -> str:
    """Returns the path of a manifest, by tag or digest."""
    return path_of("repositories", name, "-", "manifests", reference)


def layer_path(name: str, digest: str) -> str:
    """Returns the path of a layer."""
    return path_of("repositories", name, "-", "layers", digest)


def bill_path(name: str, digest: str) -> str:
    """Returns the path of what an artifact says that an image is made of."""
    return path_of("repositories", name, "-", "sbom", digest)


def with_query(path: str, **query: str) -> str:
    """Returns a path with a query of those values that are not empty."""
    said = {name: value for name, value in query.items() if value}
    return f"{path}?{urlencode(said)}" if said else path


def short(digest: str) -> pages.Copied:
    """Returns a digest to be copied, of which the beginning is shown."""
    return pages.Copied(digest, digest[:SHORT] if len(digest) > SHORT else "")


async def read_named(registry: LocalRegistry, repository: str, reference: str) -> tuple[Digest, Document]:
    """Returns what a tag or a digest names; gates are asked of that. Raises MANIFEST_UNKNOWN, or a gate's error."""
    try:
        digest = Digest.parse(reference)
    except DigestInvalid:
        found = (await registry.tagged(repository, [reference])).get(reference)
        if found is None:
            raise ManifestUnknown(name=repository, reference=reference) from None
        document = await read_document(registry, repository, reference)
        # The tag may have moved in between.
        return Digest.of(document.content, found.algorithm), document
    return digest, await read_document(registry, repository, digest)
