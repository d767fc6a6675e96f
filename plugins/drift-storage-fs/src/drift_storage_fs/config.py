"""The keys of ``[storage.filesystem]``."""

from typing import Annotated

from msgspec import Meta

from drift_core.api import Struct


class FilesystemConfig(Struct, forbid_unknown_fields=True, frozen=True):
    """Where the files lie and how they are written.

    ``fsync`` false acknowledges a blob before the disk has it. ``writer_threads`` is for each worker.
    """

    path: Annotated[str, Meta(min_length=1)] = "./data"
    fsync: bool = True
    writer_threads: Annotated[int, Meta(ge=1, le=64)] = 4
