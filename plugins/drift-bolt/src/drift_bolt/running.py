"""Runs an image of the registry by crun or runc: fetched into a folder, unpacked by umoci, configured by a profile."""

import asyncio
import os
import shutil
import subprocess
import threading
from collections.abc import AsyncIterator, Awaitable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, TypeVar
from uuid import uuid4

import msgspec
from msgspec import Struct

from drift_bolt.artifacts import OCI_INDEX, OCI_MANIFEST
from drift_bolt.host import this_host
from drift_bolt.launching import ImageConfig, Launch, Wanted, image_of, launch
from drift_bolt.model import ProfileUpload
from drift_core.api import Digest, LocalRegistry, StartError

if TYPE_CHECKING:
    from drift_bolt.bolt import Bolt

T = TypeVar("T")

RUNTIMES: Final = ("crun", "runc")
MACHINES: Final = {"x86_64": "amd64", "aarch64": "arm64", "i686": "386", "armv7l": "arm", "riscv64": "riscv64"}

DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"

LARGEST_CONFIG: Final = 1 << 20
"""Most bytes of an image's configuration."""

TAG: Final = "image"
_CHUNK: Final = 64 << 10
_SECONDS_TO_END: Final = 10.0


class Found(Struct, frozen=True):
    """An image of this machine's platform: its manifest, and what its configuration says of the process."""

    repository: str
    digest: Digest
    media_type: str
    manifest: dict[str, Any]
    config: ImageConfig


async def find(registry: LocalRegistry, wanted: str) -> Found:
    """Returns an image by ``REPOSITORY[:TAG|@DIGEST]``. Raises `StartError`, and what the registry raises."""
    repository, digest = await _resolve(registry, wanted)
    media_type, content = await registry.manifest(repository, digest)
    if media_type in (OCI_INDEX, DOCKER_LIST):
        digest = _for_this_machine(wanted, msgspec.json.decode(content))
        media_type, content = await registry.manifest(repository, digest)
    manifest: dict[str, Any] = msgspec.json.decode(content)
    if media_type not in (OCI_MANIFEST, DOCKER_MANIFEST):
        message = f"{wanted} is no image: its type is {media_type}"
        raise StartError(message)
    config = await _config_of(registry, wanted, repository, Digest.parse(manifest["config"]["digest"]))
    try:
        return Found(repository, digest, media_type, manifest, image_of(config))
    except ValueError as error:
        message = f"{wanted} is no image: its configuration cannot be read: {error}"
        raise StartError(message) from error


async def _config_of(registry: LocalRegistry, wanted: str, repository: str, digest: Digest) -> bytes:
    config = bytearray()
    async for part in registry.blob(repository, digest):
        config += part
        if len(config) > LARGEST_CONFIG:
            message = f"{wanted} is no image: its configuration has more than {LARGEST_CONFIG} bytes"
            raise StartError(message)
    return bytes(config)


async def _resolve(registry: LocalRegistry, wanted: str) -> tuple[str, Digest]:
    if "@" in wanted:
        repository, _, digest = wanted.partition("@")
        return repository, Digest.parse(digest)
    repository, _, tag = wanted.partition(":")
    tag = tag or "latest"
    named = await registry.tagged(repository, [tag])
    if tag not in named:
        message = f"the registry has no image {repository}:{tag}"
        raise StartError(message)
    return repository, named[tag]


def _for_this_machine(wanted: str, index: dict[str, Any]) -> Digest:
    machine = os.uname().machine
    ours = {"os": "linux", "architecture": MACHINES.get(machine, machine)}
    for one in index.get("manifests", ()):
        platform: dict[str, Any] = one.get("platform") or {}
        if all(platform.get(key) == value for key, value in ours.items()):
            return Digest.parse(one["digest"])
    message = f"{wanted} is not there for {ours['os']}/{ours['architecture']}"
    raise StartError(message)


def runtime_of(name: str | None) -> str:
    """Returns the path of a runtime, None for the first that is installed. Raises `StartError`."""
    names = RUNTIMES if name is None else (name,)
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        message = f"no runtime is installed: {' or '.join(names)} is needed"
        raise StartError(message)
    return found


class Order(Struct, frozen=True, kw_only=True):
    """What somebody wants to run: ``version`` None is the latest of the profile; the rest is as in `Wanted`."""

    image: str
    profile: str
    version: str | None = None
    arguments: Sequence[str] = ()
    host_network: bool = False
    cgroups: bool = True


class Prepared(Struct, frozen=True):
    """An image that can be run, by which ``profile`` (its name and version), and what of it was refused."""

    image: Found
    profile: str
    launch: Launch
    cgroups: bool


class Log:
    """Keeps the end of what a container says, at most ``limit`` bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept = bytearray()
        self.truncated = False

    def add(self, said: bytes) -> None:
        """Takes the next bytes."""
        self._kept += said
        if len(self._kept) > self._limit:
            self.truncated = True
            del self._kept[: -self._limit]

    @property
    def text(self) -> str:
        """What was kept, where it is no UTF-8 with a mark in its place."""
        return self._kept.decode(errors="replace")


async def prepare(bolt: "Bolt", registry: LocalRegistry, order: Order) -> Prepared:
    """Returns what an order makes of an image on this machine.

    Raises `StartError` where there is no such image, `Unknown` where there is no such profile, and what the registry
    raises.
    """
    wanted = Wanted(arguments=order.arguments, host_network=order.host_network, cgroups=order.cgroups)
    _entry, version, _files = await bolt.version("profile", order.profile, order.version)
    profile = msgspec.json.decode(version.document, type=ProfileUpload).profile
    image = await find(registry, order.image)
    name = f"{order.profile}:{version.version}"
    return Prepared(image, name, launch(image.config, profile, name, this_host(), wanted), order.cgroups)


async def run(registry: LocalRegistry, prepared: Prepared, runtime: str, *, log: Log | None = None) -> int:
    """Runs an image until it ends, and returns its exit code. Raises `StartError` where it cannot be unpacked.

    What it says goes into ``log``; without one it has the input and outputs of this process. Cancelling ends it, and
    nothing of it is left behind.
    """
    folder = TemporaryDirectory(prefix="drift-bolt-")
    bundle = Path(folder.name)
    # A thread of its own: it waits as long as the container runs, and may have to keep the nice value that it got.
    thread, loop = ThreadPoolExecutor(1, thread_name_prefix=bundle.name), asyncio.get_running_loop()
    try:
        await _write_layout(registry, prepared.image, bundle / "layout")
        await _unpack(bundle)
        (bundle / "config.json").write_bytes(msgspec.json.encode(prepared.launch.specification))
        container = await _to_its_end(loop.run_in_executor(thread, _start, bundle, prepared, runtime, log))
        try:
            return await loop.run_in_executor(thread, container.wait)
        finally:
            await _to_its_end(asyncio.to_thread(container.end))
    finally:
        thread.shutdown(wait=False)
        # It is as large as the image.
        await _to_its_end(asyncio.to_thread(folder.cleanup))


async def _to_its_end(work: Awaitable[T]) -> T:
    """Returns what a thread does; who is cancelled waits for it all the same, since nothing can end a thread."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        with suppress(Exception):
            left = await task
            if isinstance(left, _Container):
                await asyncio.to_thread(left.end)
        raise


async def _write_layout(registry: LocalRegistry, image: Found, folder: Path) -> None:
    """Writes an OCI image layout with the one image (image specification, "Image Layout")."""
    blobs = folder / "blobs"
    content = (await registry.manifest(image.repository, image.digest))[1]
    described = {"mediaType": image.media_type, "digest": str(image.digest), "size": len(content)}
    annotations = {"org.opencontainers.image.ref.name": TAG}
    index = {"schemaVersion": 2, "manifests": [{**described, "annotations": annotations}]}
    _write(blobs, image.digest, content)
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (folder / "index.json").write_bytes(msgspec.json.encode(index))
    for one in (image.manifest["config"], *image.manifest["layers"]):
        digest = Digest.parse(one["digest"])
        await _copy(registry.blob(image.repository, digest), _place(blobs, digest))


async def _copy(chunks: AsyncIterator[bytes], path: Path) -> None:
    with path.open("wb") as file:
        async for chunk in chunks:
            await asyncio.to_thread(file.write, chunk)


def _write(blobs: Path, digest: Digest, content: bytes) -> None:
    _place(blobs, digest).write_bytes(content)


def _place(blobs: Path, digest: Digest) -> Path:
    folder = blobs / digest.algorithm
    folder.mkdir(parents=True, exist_ok=True)
    return folder / digest.encoded


async def _unpack(bundle: Path) -> None:
    """Has umoci unpack the layers, which knows what hostile ones try."""
    program = shutil.which("umoci")
    if program is None:
        message = "to unpack an image, umoci is needed"
        raise StartError(message)
    rootless = [] if os.geteuid() == 0 else ["--rootless"]
    command = [program, "raw", "unpack", *rootless, "--image", f"{bundle / 'layout'}:{TAG}", str(bundle / "rootfs")]
    nothing, pipe = subprocess.DEVNULL, subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=nothing, stdout=nothing, stderr=pipe)
    try:
        said = (await process.communicate())[1].decode(errors="replace")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        message = f"umoci cannot unpack the image: {said.strip()[-500:]}"
        raise StartError(message)
    await asyncio.to_thread(shutil.rmtree, bundle / "layout")


class _Container:
    """A runtime that runs a container. `wait` and `end` may be called by two threads at once."""

    def __init__(self, command: Sequence[str], name: str, log: Log | None) -> None:
        streams: dict[str, Any] = {}
        if log is not None:
            streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        self._control, self._name, self._log = [*command[: command.index("run")]], name, log
        self._process = subprocess.Popen(command, **streams)  # noqa: S603 - none of it is a shell's

    def wait(self) -> int:
        """Returns the exit code when it has ended."""
        if self._log is not None and self._process.stdout is not None:
            with self._process.stdout as said:
                while chunk := os.read(said.fileno(), _CHUNK):
                    self._log.add(chunk)
        return self._process.wait()

    def end(self) -> None:
        """Kills it with all of its processes, if it still runs, and waits until it is gone."""
        if self._process.poll() is None:
            command = [*self._control, "delete", "--force", self._name]
            subprocess.run(command, check=False, capture_output=True)  # noqa: S603 - none of it is a shell's
            try:
                self._process.wait(_SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def _start(bundle: Path, prepared: Prepared, runtime: str, log: Log | None) -> _Container:
    """Starts the runtime, which hands down what is inherited."""
    launch, name = prepared.launch, f"bolt-{uuid4().hex[:12]}"
    options = ["--root", str(bundle / "state")]
    if not prepared.cgroups and Path(runtime).name == "crun":
        options.append("--cgroup-manager=disabled")
    command = [runtime, *options, "run", "--bundle", str(bundle), name]
    # Of this thread alone: what it starts inherits both.
    thread = threading.get_native_id()
    before = os.sched_getaffinity(thread), os.getpriority(os.PRIO_PROCESS, thread)
    try:
        if launch.affinity:
            os.sched_setaffinity(thread, launch.affinity)
        if launch.nice:
            os.setpriority(os.PRIO_PROCESS, thread, launch.nice)
        return _Container(command, name, log)
    finally:
        os.sched_setaffinity(thread, before[0])
        with suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, thread, before[1])
