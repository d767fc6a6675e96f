"""Runs an image of the registry by crun or runc: fetched into a folder, unpacked by umoci, configured by a profile."""

import asyncio
import os
import shutil
import subprocess
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from uuid import uuid4

import msgspec
from msgspec import Struct

from drift_bolt.artifacts import OCI_INDEX, OCI_MANIFEST
from drift_bolt.launching import ImageConfig, Launch, image_of
from drift_core.api import Digest, LocalRegistry, StartError

RUNTIMES: Final = ("crun", "runc")
MACHINES: Final = {"x86_64": "amd64", "aarch64": "arm64", "i686": "386", "armv7l": "arm", "riscv64": "riscv64"}

DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"

TAG: Final = "image"


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
    config = b"".join([part async for part in registry.blob(repository, Digest.parse(manifest["config"]["digest"]))])
    try:
        return Found(repository, digest, media_type, manifest, image_of(config))
    except ValueError as error:
        message = f"{wanted} is no image: its configuration cannot be read: {error}"
        raise StartError(message) from error


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


async def run(registry: LocalRegistry, image: Found, launch: Launch, runtime: str, *, cgroups: bool) -> int:
    """Runs an image until it ends, and returns its exit code. Raises `StartError` where it cannot be unpacked.

    Nothing of it is left behind.
    """
    with TemporaryDirectory(prefix="drift-bolt-") as name:
        bundle = Path(name)
        await _write_layout(registry, image, bundle / "layout")
        await asyncio.to_thread(_unpack, bundle)
        (bundle / "config.json").write_bytes(msgspec.json.encode(launch.specification))
        return await asyncio.to_thread(_start, bundle, launch, runtime, cgroups)


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


def _unpack(bundle: Path) -> None:
    """Has umoci unpack the layers, which knows what hostile ones try."""
    program = shutil.which("umoci")
    if program is None:
        message = "to unpack an image, umoci is needed"
        raise StartError(message)
    rootless = [] if os.geteuid() == 0 else ["--rootless"]
    command = [program, "raw", "unpack", *rootless, "--image", f"{bundle / 'layout'}:{TAG}", str(bundle / "rootfs")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - none of it is a shell's
    if done.returncode:
        message = f"umoci cannot unpack the image: {done.stderr.strip()[-500:]}"
        raise StartError(message)
    shutil.rmtree(bundle / "layout")


def _start(bundle: Path, launch: Launch, runtime: str, cgroups: bool) -> int:
    """Starts the runtime, which hands down what is inherited, and waits for it."""
    options = ["--root", str(bundle / "state")]
    if not cgroups and Path(runtime).name == "crun":
        options.append("--cgroup-manager=disabled")
    command = [runtime, *options, "run", "--bundle", str(bundle), f"bolt-{uuid4().hex[:12]}"]
    # Of this thread alone: what it starts inherits both.
    thread = threading.get_native_id()
    before = os.sched_getaffinity(thread), os.getpriority(os.PRIO_PROCESS, thread)
    try:
        if launch.affinity:
            os.sched_setaffinity(thread, launch.affinity)
        if launch.nice:
            os.setpriority(os.PRIO_PROCESS, thread, launch.nice)
        return subprocess.run(command, check=False).returncode  # noqa: S603 - none of it is a shell's
    finally:
        os.sched_setaffinity(thread, before[0])
        with suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, thread, before[1])
