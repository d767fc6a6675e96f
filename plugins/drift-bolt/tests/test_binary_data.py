"""The stream of an upload: the same bytes whatever the pieces, and the place of each mistake."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from io import BytesIO

import pytest
from drift_bolt.binary_data import LARGEST_DOCUMENT, LONGEST_NUMBER, BinaryReader, read_upload
from drift_bolt.problems import Invalid, TooLarge
from hypothesis import given
from hypothesis import strategies as st

from drift_core.api import Digest

from . import samples

SENT = {"manifest": samples.plugin("example"), "metadata": samples.about()}
HEAD = json.dumps(SENT)[:-1].encode() + b', "binary_data": '


def fed(body: bytes, size: int = 7, limit: int = 1 << 20) -> tuple[bytes, bytes, BinaryReader]:
    """Returns document and library of a body that comes in pieces of ``size``."""
    file = BytesIO()
    reader = BinaryReader(file, limit)
    for start in range(0, len(body), size):
        reader.feed(body[start : start + size])
    return reader.finish(), file.getvalue(), reader


@given(
    library=st.binary(max_size=400),
    size=st.integers(1, 200),
    before=st.booleans(),
    space=st.sampled_from(["", " ", "\n\t", "\r\n  "]),
    name=st.text(max_size=20),
)
def test_any_library_in_any_pieces(library: bytes, size: int, before: bool, space: str, name: str) -> None:
    array = "[" + space + (space + "," + space).join(map(str, library)) + space + "]"
    others = json.dumps({"x": name, "binary_data\\": [1], "deep": {"binary_data": [300]}, "y": ["binary_data"]})
    key = f'"binary_data"{space}:{space}{array}'
    body = f"{{{key},{others[1:]}" if before else f"{others[:-1]},{key}{space}}}"
    document, found, reader = fed(body.encode(), size)
    assert found == library
    assert (reader.size, reader.digest) == (len(library), Digest.of(library))
    assert json.loads(document) == {**json.loads(others), "binary_data": 0}


@pytest.mark.parametrize("size", [1, 3, 1 << 20])
@pytest.mark.parametrize(
    ("array", "index", "place"),
    [
        ("[1, 2, 256, 3]", 2, 7),
        ("[-1]", 0, 1),
        ("[0, 5.0]", 1, 4),
        ("[1e1]", 0, 1),
        ("[01]", 0, 1),
        ("[+1]", 0, 1),
        ("[1, [2], 3]", 1, 4),
        ('[1, "2"]', 1, 4),
        ("[1, {}]", 1, 4),
        ("[null]", 0, 1),
        ("[true]", 0, 1),
        ("[1,, 2]", 1, 3),
        ("[1, ]", 1, 4),
        ("[,1]", 0, 1),
        ("[1 2]", 0, 1),
        ("[1_0]", 0, 1),
        ("[99999999999999999999999999]", 0, 1),
        ("[1,\x0b2]", 1, 3),
        ("[1,\xa02]", 1, 3),
    ],
)
def test_the_place_of_a_mistake(array: str, index: int, place: int, size: int) -> None:
    body = HEAD + array.encode("latin-1") + b"}"
    with pytest.raises(Invalid) as error:
        fed(body, size)
    assert error.value.detail == {"offset": len(HEAD) + place, "index": index}
    assert str(len(HEAD) + place) in error.value.message


@pytest.mark.parametrize("size", [100_000, 99_991])
def test_the_place_of_a_mistake_far_inside(size: int) -> None:
    numbers = ["255"] * 200_000
    numbers[150_000] = "256"
    with pytest.raises(Invalid) as error:
        fed(HEAD + b"[" + ",".join(numbers).encode() + b"]}", size)
    assert error.value.detail == {"offset": len(HEAD) + 1 + 4 * 150_000, "index": 150_000}


@pytest.mark.parametrize(
    "body",
    [
        HEAD + b"[1, 2",
        HEAD + b"[1, 2, ",
        HEAD + b"[",
        HEAD,
        HEAD[:30],
        b"{}",
        b"",
        b"[]",
        HEAD + b"null}",
        HEAD + b'"AAEC"}',
        HEAD + b"{}}",
        HEAD + b'[1], "binary_data": [2]}',
        HEAD + b"[1], " + b'"binary\\u005fdata": [2]}',
    ],
)
def test_what_is_no_upload(body: bytes) -> None:
    with pytest.raises(Invalid) as error:
        fed(body)
    assert "offset" in error.value.detail


async def test_what_the_document_has_to_be() -> None:
    async def body(content: bytes) -> AsyncIterator[bytes]:
        yield content

    upload, reader = await read_upload(body(HEAD + b"[1, 2]}"), BytesIO(), 100)
    assert (upload.manifest.name, reader.size) == ("example", 2)
    for content in (b'{"binary_data": [1]}', HEAD + b"[1]", HEAD + b"[1]} x", HEAD[:-1] + b"[1]}]"):
        with pytest.raises(Invalid):
            await read_upload(body(content), BytesIO(), 100)


def test_limits() -> None:
    assert fed(HEAD + b"[1,2,3]}", limit=3)[1] == b"\1\2\3"
    with pytest.raises(TooLarge):
        fed(HEAD + b"[1,2,3,4]}", limit=3)
    for body in (b'{"x": "' + b"a" * LARGEST_DOCUMENT, b'{"x": [' + b"1," * LARGEST_DOCUMENT):
        with pytest.raises(TooLarge):
            fed(body, 1 << 16)
    with pytest.raises(Invalid):
        fed(HEAD + b"[1," + b" " * (LONGEST_NUMBER + 10), 100)


PROGRAM = """
import resource, sys, tempfile
from drift_bolt.binary_data import BinaryReader
piece = b",".join(b"%d" % (number * 7 % 256) for number in range(70_000))
def feed(megabytes):
    with tempfile.TemporaryFile() as file:
        reader = BinaryReader(file, 1 << 40)
        reader.feed(b'{"binary_data": [0')
        while reader.size < megabytes << 20:
            reader.feed(b"," + piece)
        reader.feed(b"]}")
        reader.finish()
feed(1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
feed(int(sys.argv[1]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("megabytes", [16, pytest.param(100, marks=pytest.mark.soak)])
def test_memory_does_not_grow_with_the_library(megabytes: int) -> None:
    command = [sys.executable, "-c", PROGRAM, str(megabytes)]
    grown = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert grown * 1024 < 4 << 20, f"{grown} KiB more for {megabytes} MiB"
