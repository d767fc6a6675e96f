"""Why layers are not squashed; each error carries a sentence for whoever asked, and the original stays in use."""

_SHOWN = 200


class Unsquashable(Exception):
    """Layers that are not squashed; ``reason`` is a sentence, ``layer`` the place of the layer from 0 or None."""

    def __init__(self, reason: str, layer: int | None = None) -> None:
        self.reason = reason
        self.layer = layer
        super().__init__(reason if layer is None else f"layer {layer}: {reason}")


class DamagedLayer(Unsquashable):
    """A layer that is no whole tar, or holds what no unpacker accepts."""


class AmbiguousLayers(Unsquashable):
    """Layers that real unpackers understand differently, so that no single result is the same tree for all of them."""


def shown(path: bytes) -> str:
    """Returns a path as text for a reason: at most so many characters, bytes that are no UTF-8 escaped."""
    text = path.decode(errors="backslashreplace")
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")
