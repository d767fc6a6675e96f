"""What a feature reads for somebody is put to gates as if they pulled it themselves."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from drift_core.api import Action, Change, Denied, Digest, Identity
from drift_core.config import load
from drift_core.metrics import Metrics
from drift_core.plugins import load_plugins
from drift_core.registry.changes import Changes, NamedGate
from drift_core.registry.local import Local
from drift_core.runtime import open_for_command
from drift_core.trail import Trail
from tests.oci.content import EMPTY_CONFIG, Blob, image

ANN = Identity("ann", "test")


class OnlyForAnn:
    """Refuses everybody else, and remembers for whom and by which tag it was asked."""

    gated: tuple[Action, ...] = ("manifest.pull", "blob.pull")

    def __init__(self) -> None:
        self.asked: list[tuple[Identity | None, tuple[str, ...]]] = []

    async def admit(self, change: Change) -> None:
        self.asked.append((change.identity, change.tags))
        if change.identity != ANN:
            raise Denied("only for ann")


async def content_of(blob: Blob) -> AsyncIterator[bytes]:
    yield blob.content


async def test_gates_are_asked_about_who_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = (f"storage.path={tmp_path}", "storage.filesystem.fsync=false")
    config, gate = load(None, {}, settings), OnlyForAnn()
    async with open_for_command(config, load_plugins(config)) as runtime:
        feature = Local(runtime.registry, runtime.database, Identity("console", "plugin"))
        manifest, config_digest = image(EMPTY_CONFIG), Digest(EMPTY_CONFIG.digest)
        await feature.push_blob("team/app", config_digest, content_of(EMPTY_CONFIG))
        digest = Digest(manifest.digest)
        await feature.push_manifest("team/app", manifest.content, manifest.media_type, digest, ["v1"])
        changes = Changes([NamedGate("ann", frozenset(gate.gated), gate)], frozenset(), 5.0, Metrics(), Trail())
        monkeypatch.setattr(runtime.registry.manifests, "_changes", changes)
        monkeypatch.setattr(runtime.registry.blobs, "_changes", changes)
        with pytest.raises(Denied, match="only for ann"):
            await feature.manifest("team/app", "v1")
        with pytest.raises(Denied, match="only for ann"):
            await feature.on_behalf(None).manifest("team/app", "v1")
        ann = feature.on_behalf(ANN)
        assert (await ann.manifest("team/app", "v1"))[1] == manifest.content
        assert (await ann.manifest("team/app", digest))[1] == manifest.content
        assert b"".join([chunk async for chunk in ann.blob("team/app", config_digest)]) == EMPTY_CONFIG.content
        assert [tags for who, tags in gate.asked if who == ANN] == [("v1",), (), ()]
