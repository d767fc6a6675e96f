"""Images of every kind that optimization meets, made the same way each time, and a model of what they unpack to."""

from .images import IMAGES, LARGE, ONLY_TAR, names
from .layouts import Image, Layer, compressed, write_layout
from .tars import GNU, USTAR, Tar
from .trees import Entry, assert_same_tree, difference, tree_of

__all__ = [
    "GNU",
    "IMAGES",
    "LARGE",
    "ONLY_TAR",
    "USTAR",
    "Entry",
    "Image",
    "Layer",
    "Tar",
    "assert_same_tree",
    "compressed",
    "difference",
    "names",
    "tree_of",
    "write_layout",
]
