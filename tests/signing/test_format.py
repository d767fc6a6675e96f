"""A format is opened anew when a file changes that it has read, and trusts nothing while it cannot be read."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from drift_core.errors import StartError, Unavailable
from drift_core.signing import format as module
from drift_core.signing.format import Format, open_format
from tests.signing.place import replace


def overwrite(file: Path, content: bytes) -> None:
    file.write_bytes(content)


def remove(file: Path) -> None:
    file.unlink()


class Reader:
    """Has read a file; one that is empty cannot be used."""

    def __init__(self, file: Path) -> None:
        self.files: Sequence[str] = (str(file),)
        self.content = file.read_bytes() if file.is_file() else b""
        self.closed = False
        if not self.content:
            message = f"{file}: is empty"
            raise StartError(message)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "key").write_bytes(b"one")
    return tmp_path / "key"


@pytest.fixture
def readers() -> list[Reader]:
    return []


@pytest.fixture
async def opened(file: Path, readers: list[Reader], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Format[Reader]]:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.0)

    @asynccontextmanager
    async def open_reader() -> AsyncIterator[Reader]:
        reader = Reader(file)
        readers.append(reader)
        yield reader
        reader.closed = True

    async with open_format("memory", open_reader, b"salt") as found:
        yield found


async def test_nothing_changes(opened: Format[Reader], readers: list[Reader]) -> None:
    first = await opened.current()
    assert await opened.current() == first
    assert first[0] is readers[-1]


async def test_another_file_is_read(opened: Format[Reader], file: Path) -> None:
    before, trusted = await opened.current()
    replace(file, b"two")
    after, trust = await opened.current()
    assert (before.content, after.content) == (b"one", b"two")
    assert trust != trusted
    replace(file, b"one")
    assert (await opened.current())[1] == trusted


async def test_the_same_size_written_in_place(opened: Format[Reader], file: Path) -> None:
    await opened.current()
    await asyncio.sleep(0.05)
    overwrite(file, b"six")
    assert (await opened.current())[0].content == b"six"


@pytest.mark.parametrize("broken", [b"", None])
async def test_nothing_is_trusted_that_cannot_be_read(opened: Format[Reader], file: Path, broken: bytes | None) -> None:
    _, trusted = await opened.current()
    if broken is None:
        remove(file)
    else:
        replace(file, broken)
    for _ in range(2):
        with pytest.raises(Unavailable) as refused:
            await opened.current()
        assert refused.value.detail["format"] == "memory"
        assert str(file) in refused.value.detail["reason"]
    replace(file, b"one")
    assert (await opened.current())[1] == trusted


async def test_many_ask_at_once(opened: Format[Reader], file: Path, readers: list[Reader]) -> None:
    await opened.current()
    await asyncio.sleep(0.1)
    replace(file, b"two")
    await asyncio.sleep(0.1)
    known = len(readers)
    found = await asyncio.gather(*(opened.current() for _ in range(50)))
    assert {driver.content for driver, _ in found} == {b"two"}
    # Once to learn which files there are, and once of files that are known not to change.
    assert len(readers) == known + 2


async def test_a_link_to_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kubernetes exchanges a folder by one link; one that changes while it is read is read again."""
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.0)
    for content in ("one", "two"):
        (tmp_path / content).mkdir()
        (tmp_path / content / "key").write_text(content)
    link = tmp_path / "secrets"
    link.symlink_to(tmp_path / "one")
    await asyncio.sleep(0.1)

    def flip() -> None:
        other = tmp_path / "other"
        other.symlink_to(tmp_path / "two")
        other.replace(link)

    flips = [None, flip]

    @asynccontextmanager
    async def open_reader() -> AsyncIterator[Reader]:
        reader = Reader(link / "key")
        if flips and (then := flips.pop(0)) is not None:
            then()
        yield reader

    async with open_format("memory", open_reader, b"") as opened:
        assert (await opened.current())[0].content == b"two"


async def test_a_file_that_stays_broken_is_read_rarely_and_told_once(
    opened: Format[Reader], file: Path, readers: list[Reader], capsys: pytest.CaptureFixture[str]
) -> None:
    replace(file, b"")
    for _ in range(20):
        with pytest.raises(Unavailable):
            await opened.current()
    assert capsys.readouterr().out.count("cannot be read now") == 1
    assert len([reader for reader in readers if not reader.content]) <= 2


async def test_where_the_files_lie_is_nothing_that_is_trusted(tmp_path: Path) -> None:
    trusted = []
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
        place = tmp_path / folder / "key"
        place.write_bytes(b"same")

        @asynccontextmanager
        async def open_reader(place: Path = place) -> AsyncIterator[Reader]:
            yield Reader(place)

        async with open_format("memory", open_reader, f"key_path={place}".encode()) as opened:
            trusted.append((await opened.current())[1])
    assert trusted[0] == trusted[1]


async def test_what_was_replaced_is_closed(file: Path, readers: list[Reader], opened: Format[Reader]) -> None:
    for number in range(4):
        replace(file, b"%d" % number)
        await opened.current()
    # Whoever was asked just before the last change may not have answered yet.
    assert [reader.content for reader in readers if not reader.closed] == [b"2", b"3"]
    await opened.close()
    assert all(reader.closed for reader in readers)


async def test_a_first_failure_is_that_of_the_start(tmp_path: Path) -> None:
    @asynccontextmanager
    async def open_reader() -> AsyncIterator[Reader]:
        (tmp_path / "key").write_bytes(b"")
        yield Reader(tmp_path / "key")

    with pytest.raises(StartError, match="is empty"):
        async with open_format("memory", open_reader, b""):
            pass
