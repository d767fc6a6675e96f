"""Which media types are layers, how they are packed, and what a layer that is packed anew is called."""

from typing import Literal

Packing = Literal["tar", "gzip", "zstd"]

OCI = "application/vnd.oci.image.layer.v1.tar"
DOCKER = "application/vnd.docker.image.rootfs.diff.tar"

_FAMILIES: tuple[dict[Packing, str], ...] = (
    {"tar": OCI, "gzip": f"{OCI}+gzip", "zstd": f"{OCI}+zstd"},
    # The third is containerd's name; Docker's own manifest format knows only gzip.
    {"tar": DOCKER, "gzip": f"{DOCKER}.gzip", "zstd": f"{DOCKER}.zstd"},
)
_PACKINGS: dict[str, Packing] = {name: packing for family in _FAMILIES for packing, name in family.items()}


def packing_of(media_type: str) -> Packing | None:
    """Returns how a layer is packed; None where it is no layer that may be packed anew.

    Encrypted layers are none, nor are those that are not to be distributed: they are fetched from elsewhere.
    """
    return _PACKINGS.get(media_type)


def repacked(media_type: str, packing: Packing, *, annotated: bool) -> str:
    """Returns the media type for the same layer in another packing, of the same family.

    A form that is nothing without its annotations is always of the OCI family: Docker's manifests have none.
    """
    family = _FAMILIES[0] if annotated else next(one for one in _FAMILIES if media_type in one.values())
    return family[packing]


_TABLES = ("containerd.io/snapshot/", "io.github.containers.zstd-chunked.", "io.containers.zstd-chunked.")
"""How annotations begin that describe the bytes of one blob, and would be false beside any other."""


def is_indexed(annotations: dict[str, str] | None) -> bool:
    """Returns whether the annotations describe where in the packed bytes what is."""
    return any(key.startswith(_TABLES) for key in annotations or ())
