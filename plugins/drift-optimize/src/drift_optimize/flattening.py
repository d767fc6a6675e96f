"""Makes an image of one layer: unpacks all of its layers, has them squashed, and writes its configuration anew."""

import json
import time
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from msgspec import structs

from drift_core.api import Descriptor, Digest, LocalRegistry, Records, Unavailable
from drift_optimize.config import OptimizationConfig
from drift_optimize.confined.jobs import MIB, Form, PackingFailed, pack, squash
from drift_optimize.forming import Advance, bring, chunked, counted
from drift_optimize.images import OCI_CONFIG, Formed, Image, write_image, written
from drift_optimize.optimizer import limits_of, scratch_of
from drift_optimize.results import Result, State, known, save
from drift_optimize.spool import chunks_of

FORM = "squashed"

MOST_LAYERS = 100
"""Layers of an image, for each of which a file is open while it is squashed."""

TAR = "application/vnd.oci.image.layer.v1.tar"


class Flattener:
    """Squashes images within the limits of the configuration: all their tars lie in its scratch folder meanwhile."""

    def __init__(self, config: OptimizationConfig, records: Records) -> None:
        zstd = config.preferred_compression == "zstd"
        self._packing = Form("zstd", config.zstd_level) if zstd else Form("gzip", config.gzip_level)
        self._limits = limits_of(config)
        self._scratch = scratch_of(config)
        self._most = config.max_scratch_mb * MIB
        self._records = records

    async def form(
        self, registry: LocalRegistry, image: Image, advance: Advance, *, refers: bool
    ) -> tuple[Formed | None, Result]:
        """Returns the image of one layer, or None and why not. Raises `Unavailable`."""
        form = f"{FORM}:{self._packing.name}:{self._packing.level}"
        size = sum(layer.size for layer in image.layers)
        told = json.dumps([(one.digest, one.media_type) for one in image.layers] + [list(image.diff_ids)])
        chain = Digest.of(told.encode())
        parts = [Digest.parse(layer.digest) for layer in image.layers]
        held = await registry.held_blobs(image.repository, parts)
        if not set(parts) <= held or len(parts) > MOST_LAYERS:
            reason = f"it has more than {MOST_LAYERS} layers, or not all of them"
            return None, Result(
                digest=chain, form=form, kind="layer_squashing", state="skipped", size=size, message=reason
            )
        result = await self._records.read(partial(known, digest=chain, form=form))
        if result is None or not await bring(registry, image.repository, result):
            began = time.monotonic()
            result = Result(digest=chain, form=form, kind="layer_squashing", state="failed", size=size)
            try:
                layer, diff_id = await self._make(registry, image, advance)
                result = structs.replace(result, state="optimized", descriptor=layer, diff_id=diff_id)
            except PackingFailed as failed:
                if failed.kind == "failed":
                    raise Unavailable(failed.reason) from failed
                state: State = "skipped" if failed.kind == "unsupported" else "failed"
                result = structs.replace(result, state=state, message=failed.reason)
            took = round((time.monotonic() - began) * 1000)
            result = structs.replace(result, milliseconds=took)
            await self._records.write(partial(save, result=result))
        if result.descriptor is None or result.diff_id is None:
            return None, result
        config = _config(image, result.diff_id)
        digest = Digest.of(config)
        await registry.push_blob(image.repository, digest, chunked(config))
        described = Descriptor(OCI_CONFIG, str(digest), len(config))
        return write_image(image, FORM, [result.descriptor], refers=refers, config=described), result

    async def _make(self, registry: LocalRegistry, image: Image, advance: Advance) -> tuple[Descriptor, Digest]:
        async with AsyncExitStack() as stack:
            tars: list[IO[bytes]] = []
            left = self._most
            for layer, diff_id in zip(image.layers, image.diff_ids, strict=True):
                content = counted(registry.stored_bytes(Digest.parse(layer.digest)), advance)
                limits = structs.replace(self._limits, output_bytes=left)
                packing = pack(layer, content, Form("tar"), limits, self._scratch)
                packed = await stack.enter_async_context(packing)
                if packed.about.diff_id != diff_id:
                    raise PackingFailed("damaged", f"{layer.digest} unpacks to {packed.about.diff_id}, not {diff_id}")
                left -= packed.layer.size
                tars.append(packed.file)
            out: IO[bytes] = stack.enter_context(_scratch_file(self._scratch))
            made = await squash(tars, out, structs.replace(self._limits, output_bytes=left))
            tar = Descriptor(TAR, made.diff_id, made.size)
            async with pack(tar, chunks_of(out), self._packing, self._limits, self._scratch) as packed:
                await registry.push_blob(image.repository, Digest.parse(packed.layer.digest), chunks_of(packed.file))
                return packed.layer, Digest.parse(made.diff_id)


def _scratch_file(folder: Path) -> IO[bytes]:
    return TemporaryFile(dir=folder)


def _config(image: Image, diff_id: Digest) -> bytes:
    """Returns the configuration of the image of one layer; what was done step by step is still told, without layers."""
    history = [{**step, "empty_layer": True} for step in image.config.get("history") or ()]
    made = {"created_by": "squashed by drift-optimize"}
    if "created" in image.config:
        made["created"] = image.config["created"]
    rootfs = {"type": "layers", "diff_ids": [str(diff_id)]}
    return written({**image.config, "rootfs": rootfs, "history": [*history, made]})
