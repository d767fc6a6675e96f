"""What is handed to the disk early: every long part once, and a failure of it is nobody's."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from drift_storage_fs import uploading, writeback
from drift_storage_fs.store import FilesystemStore

from drift_core.api import Digest

MIB = 1 << 20


async def chunks(content: bytes) -> AsyncIterator[bytes]:
    for place in range(0, len(content), MIB):
        yield content[place : place + MIB]


async def test_long_uploads_are_handed_over_in_parts(store: FilesystemStore, monkeypatch: pytest.MonkeyPatch) -> None:
    parts: list[tuple[int, int]] = []
    monkeypatch.setattr(uploading, "begin_writeback", lambda _, offset, size: parts.append((offset, size)))
    content = bytes(11 * MIB)
    upload = await store.begin()
    await store.append(upload, None, chunks(content))
    assert parts == [(0, 4 * MIB), (4 * MIB, 4 * MIB)]
    await store.commit(upload, Digest.of(content))


def test_what_cannot_be_handed_over_is_no_error(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        writeback.begin_writeback(file.fileno(), 0, MIB)
    writeback.begin_writeback(-1, 0, MIB)
