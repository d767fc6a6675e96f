"""Finds the base image that an image stands on, and whether its tag names another by now; pure functions.

An image stands on another where the other's layers are its own lowest ones. A list of layers is known by one digest,
the ChainID of the OCI image specification ("Image JSON Description", section "Layer ChainID"), so that a table of known
images with that column answers for any image by one lookup for each of its layers.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from drift_core.api import Digest, DigestInvalid, Struct

BASE_NAME = "org.opencontainers.image.base.name"
BASE_DIGEST = "org.opencontainers.image.base.digest"


class KnownImage(Struct, frozen=True):
    """An image that a tag names, or once named.

    ``reference`` is the full name with the registry and the tag, as annotations have it; ``digest`` is that of the
    manifest, ``chain_id`` that of all its layers. ``created`` is in seconds since 1970 and None where the image does
    not say it. ``current`` is False for what the tag named once. Images of several platforms that one tag names
    differ in ``platform``, such as ``linux/amd64``.
    """

    reference: str
    repository: str
    tag: str
    digest: Digest
    chain_id: Digest
    created: float | None = None
    current: bool = True
    platform: str = ""


class Base(Struct, frozen=True):
    """What an image stands on: the ``layers`` lowest of it, and every known image made of just these, newest first."""

    layers: int
    chain_id: Digest
    images: tuple[KnownImage, ...]


class Outdated(Struct, frozen=True):
    """A tag from which an image was built and that names other layers by now.

    ``was`` is the digest that the tag had, of a manifest or, where annotations name it, perhaps of an index; ``now`` is
    what it names.
    """

    reference: str
    was: Digest
    now: KnownImage


def chain_ids(diff_ids: Sequence[Digest]) -> list[Digest]:
    """Returns the ChainID of the lowest layer, of the lowest two, and so on; one for each layer."""
    chain: list[Digest] = []
    for diff_id in diff_ids:
        chain.append(Digest.of(f"{chain[-1]} {diff_id}".encode()) if chain else diff_id)
    return chain


def by_chain(images: Iterable[KnownImage]) -> dict[Digest, list[KnownImage]]:
    """Returns the images by their ChainID, as `find_base` looks them up; a table can take its place."""
    found: defaultdict[Digest, list[KnownImage]] = defaultdict(list)
    for image in images:
        found[image.chain_id].append(image)
    return dict(found)


def find_base(diff_ids: Sequence[Digest], known: Mapping[Digest, Sequence[KnownImage]]) -> Base | None:
    """Returns the known image with the most layers that has fewer than the image with ``diff_ids``, or None.

    ``known`` has to hold no more than what is known of ``chain_ids(diff_ids)[:-1]``.
    """
    chain = chain_ids(diff_ids)
    for layers in range(len(chain) - 1, 0, -1):
        if images := known.get(chain[layers - 1]):
            return Base(layers, chain[layers - 1], tuple(sorted(images, key=_newest)))
    return None


def outdated(
    diff_ids: Sequence[Digest],
    base: Base | None,
    tags: Iterable[KnownImage],
    annotations: Mapping[str, str] | None = None,
    platform: str = "",
) -> list[Outdated]:
    """Returns the tags from which an image was built and that have moved, in the order of their references.

    Such a tag once named one of the images of ``base``, or is the one that the image's own ``annotations`` name, with a
    digest that it has not any more. A tag of which the image has all the layers as they are now is not outdated,
    whatever its digest, and neither is one of which nothing current is known. ``tags`` has to hold what is known of the
    tags of ``base.images`` and of the annotation; others are ignored. ``platform`` is the image's own.
    """
    lowest = set(chain_ids(diff_ids))
    now = {(image.reference, image.platform): image for image in tags if image.current}
    once: dict[str, tuple[Digest, str]] = {}
    for image in reversed(base.images if base else ()):
        once[image.reference] = (image.digest, image.platform)
    named = _named(annotations or {})
    if named is not None:
        once.setdefault(named[0], (named[1], platform))
    found: list[Outdated] = []
    for reference, (was, where) in sorted(once.items()):
        moved = now.get((reference, where))
        if moved is not None and moved.digest != was and moved.chain_id not in lowest:
            found.append(Outdated(reference, was, moved))
    return found


def _named(annotations: Mapping[str, str]) -> tuple[str, Digest] | None:
    """The reference and digest that annotations say; anybody can write there what is none."""
    name, text = annotations.get(BASE_NAME), annotations.get(BASE_DIGEST)
    if not name or not text:
        return None
    try:
        return name, Digest.parse(text)
    except DigestInvalid:
        return None


def _newest(image: KnownImage) -> tuple[float, str, str]:
    return (-image.created if image.created is not None else float("inf"), image.reference, image.digest)
