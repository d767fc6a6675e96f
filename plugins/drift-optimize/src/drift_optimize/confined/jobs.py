"""Starts a process for a layer, feeds it, holds it to its limits, and takes what it made.

The process is `drift_optimize.confined.child`. Nothing of a layer is unpacked in the server's own process.
"""

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import IO, Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from drift_core.api import Descriptor
from drift_optimize.forms.media import Packing, is_indexed, packing_of, repacked
from drift_optimize.forms.refusal import Kind

MIB = 1 << 20
FormName = Literal["gzip", "zstd", "zstd-chunked", "estargz", "tar"]

_PACKINGS: dict[FormName, Packing] = {
    "gzip": "gzip",
    "zstd": "zstd",
    "zstd-chunked": "zstd",
    "estargz": "gzip",
    "tar": "tar",
}
_ANNOTATED: tuple[FormName, ...] = ("zstd-chunked", "estargz")
_LAYER_DIGEST = "containerd.io/snapshot/stargz/layer.digest"
_START = "import sys; sys.path[:] = sys.argv[1].split(':'); from drift_optimize.confined.child import main; main()"
_ANSWER = 64 * 1024
"""Most bytes of a result."""


class PackingFailed(Exception):
    """A layer gets no other form, or cannot be read; ``kind`` says what is wrong, ``reason`` is for an operator."""

    def __init__(self, kind: Kind, reason: str) -> None:
        super().__init__(reason)
        self.kind: Kind = kind
        self.reason = reason


class Form(Struct, frozen=True):
    """How a layer is to be packed.

    ``level`` is 1 to 9 for gzip and estargz, 1 to 19 for zstd and zstd-chunked (above, a window needs more memory than
    there is), without meaning for tar. ``threads`` is only for zstd: 0 packs in the one thread; any other number packs
    faster and a little larger, into the same bytes whatever the number is.
    """

    name: FormName
    level: Annotated[int, Meta(ge=1, le=19)] = 6
    threads: Annotated[int, Meta(ge=0, le=8)] = 0


class Limits(Struct, frozen=True):
    """What one job may take; a layer that needs more is left as it is.

    ``memory_bytes`` is for the whole process, ``seconds`` are of a clock on the wall, ``output_bytes`` is for each
    file, ``tar_bytes`` and ``ratio`` (to what was read of the layer) bound what a layer unpacks to.
    """

    memory_bytes: int = 256 * MIB
    seconds: float = 300.0
    output_bytes: int = 16 << 30
    tar_bytes: int = 64 << 30
    ratio: int = 200


class Inspected(Struct, frozen=True):
    """What is in a layer.

    ``diff_id`` is the digest of the tar, ``tar_bytes`` its size, ``entries`` how many it has, None where it is no tar.
    ``entropy`` is guessed from samples of it, from 0 to 1. ``cpu_seconds`` and ``peak_bytes`` are what the process
    took.
    """

    diff_id: str
    tar_bytes: int
    entropy: float
    entries: int | None
    cpu_seconds: float
    peak_bytes: int

    @property
    def gain(self) -> float:
        """How much compressing can gain by the entropy, from 0 to 1."""
        return 1 - self.entropy


class Table(Struct, frozen=True):
    """A table of contents that belongs beside the layer, for the image ``<tag>-esgztoc``, as a layer of it.

    ``layer`` is its descriptor with the annotation that names the layer it is for; ``file`` has its bytes, from 0.
    """

    layer: Descriptor
    file: IO[bytes]


class Packed(Struct, frozen=True):
    """A form of a layer, with ``about`` for the tar in it.

    ``layer`` has the annotations of the original and of the form (``annotations`` alone). ``file`` is open, without a
    name, at its beginning. ``table`` is there only for estargz.
    """

    layer: Descriptor
    annotations: dict[str, str]
    about: Inspected
    file: IO[bytes]
    table: Table | None


class Squashed(Struct, frozen=True):
    """One tar that was made of several: ``size`` in bytes; of the layers numbered in ``empty`` nothing is left."""

    diff_id: str
    size: int
    empty: tuple[int, ...]


async def inspect(layer: Descriptor, content: AsyncIterator[bytes], limits: Limits) -> Inspected:
    """Reads a layer, and makes nothing of it.

    Raises `PackingFailed`, and what ``content`` raises. Cancelling kills the process.
    """
    return msgspec.convert(await _read(layer, content, None, limits, []), Inspected)


@asynccontextmanager
async def pack(
    layer: Descriptor, content: AsyncIterator[bytes], form: Form, limits: Limits, scratch: Path
) -> AsyncIterator[Packed]:
    """Makes a form of a layer in files without names in the folder ``scratch``, which are gone when this is left.

    A form is made whether it is smaller or not: the caller compares ``size`` and asks for ``gain``. Raises
    `PackingFailed`, and what ``content`` raises. Cancelling kills the process. Any number may run at once.
    """
    if is_indexed(layer.annotations):
        # They would be beside bytes that they do not describe, and clients that believe them could not pull.
        raise PackingFailed("unsupported", "the layer's annotations say where in its bytes what is")
    if form.name in {"gzip", "estargz"} and form.level > 9:  # noqa: PLR2004
        raise PackingFailed("unsupported", f"gzip has no level {form.level}")
    with ExitStack() as stack:
        # Not in a thread: a cancelled caller would lose the file there, and it is one system call.
        files = [stack.enter_context(_unnamed(scratch)) for _ in range(3)]
        result = await _read(layer, content, form, limits, [file.fileno() for file in files])
        yield _packed(layer, form, result, files)


def _unnamed(folder: Path) -> IO[bytes]:
    return tempfile.TemporaryFile(dir=folder)


def _packed(layer: Descriptor, form: Form, result: dict[str, Any], files: list[IO[bytes]]) -> Packed:
    annotations = msgspec.convert(result["annotations"], dict[str, str])
    media_type = repacked(layer.media_type, _PACKINGS[form.name], annotated=form.name in _ANNOTATED)
    described = msgspec.structs.replace(
        layer,
        media_type=media_type,
        digest=result["digest"],
        size=result["size"],
        annotations={**(layer.annotations or {}), **annotations} or None,
    )
    table = None
    if (made := result.get("table")) is not None:
        names = {_LAYER_DIGEST: described.digest}
        gzip = repacked(media_type, "gzip", annotated=True)
        table = Table(Descriptor(gzip, made["digest"], made["size"], annotations=names), files[1])
    for file in files:
        file.seek(0)
    return Packed(described, annotations, msgspec.convert(result, Inspected), files[0], table)


async def squash(tars: Sequence[IO[bytes]], out: IO[bytes], limits: Limits) -> Squashed:
    """Makes one tar of several, the lowest first, in the file ``out``; all are files without packing.

    Raises `PackingFailed`. Cancelling kills the process.
    """
    files, made = [tar.fileno() for tar in tars], out.fileno()
    result = await _run({"squash": files, "out": made}, None, limits, [*files, made])
    out.seek(0)
    return msgspec.convert(result, Squashed)


async def _read(
    layer: Descriptor, content: AsyncIterator[bytes], form: Form | None, limits: Limits, files: list[int]
) -> dict[str, Any]:
    if packing_of(layer.media_type) is None:
        raise PackingFailed("unsupported", f"{layer.media_type!r} is no layer that can be packed anew")
    job = {
        "media_type": layer.media_type,
        "digest": layer.digest,
        "size": layer.size,
        "form": None if form is None else msgspec.to_builtins(form),
        "files": files,
    }
    return await _run(job, content, limits, files)


async def _run(
    job: dict[str, Any], content: AsyncIterator[bytes] | None, limits: Limits, files: list[int]
) -> dict[str, Any]:
    job = {**job, "parent": os.getpid(), **msgspec.to_builtins(limits)}
    # Without the `site` module, whose work takes longer than the rest of the start.
    command = (sys.executable, "-I", "-S", "-c", _START, _path(), json.dumps(job))
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        pass_fds=files,
    )
    try:
        async with asyncio.timeout(limits.seconds):
            if content is not None:
                await _feed(process, content)
            answer = await _answer(process)
            code = await process.wait()
    except TimeoutError as error:
        raise PackingFailed("slow", f"it took longer than {limits.seconds:g} s") from error
    finally:
        await _end(process)
    return _result(answer, code)


def _path() -> str:
    """Returns where the process finds its modules: this package first, wherever it was installed."""
    return ":".join([str(Path(__file__).parents[2]), *(part for part in sys.path if part)])


async def _feed(process: asyncio.subprocess.Process, content: AsyncIterator[bytes]) -> None:
    assert process.stdin is not None  # noqa: S101
    # A process that has seen enough ends early, and has said why.
    with suppress(BrokenPipeError, ConnectionResetError):
        async for chunk in content:
            process.stdin.write(chunk)
            await process.stdin.drain()
        process.stdin.close()


async def _answer(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None  # noqa: S101
    try:
        return await process.stdout.readexactly(_ANSWER)
    except asyncio.IncompleteReadError as error:
        return error.partial


async def _end(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
    if process.stdin is not None:
        process.stdin.close()
    await process.wait()


def _result(answer: bytes, code: int) -> dict[str, Any]:
    try:
        result = msgspec.json.decode(answer, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise PackingFailed("failed", f"the process ended with {code} and said nothing") from error
    if "kind" in result:
        raise PackingFailed(msgspec.convert(result["kind"], Kind), str(result["reason"]))
    return result
