"""A verifier that fails makes a signature bad, and is asked again soon: it may be no fault of the artifact."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from drift_core.config import load
from drift_core.model import Identity
from drift_core.plugins import load_plugins
from drift_core.runtime import open_for_command
from drift_core.signing import evidence as module
from tests.signing.place import key_pair

OPERATOR = Identity("operator", "command")
INDEX = "application/vnd.oci.image.index.v1+json"


@pytest.mark.parametrize("method", ["judge", "claims"])
async def test_a_verifier_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    monkeypatch.setattr(module, "FAILED_SECONDS", 0.5)
    for file, content in zip(("default.key", "default.pub"), key_pair("default"), strict=True):
        (tmp_path / file).write_bytes(content)
    signing = {
        "enabled": True,
        "signature_formats": ["cosign"],
        "signing_keys": [{"key_id": "default", "key_path": str(tmp_path / "default.key")}],
        "verification_keys": [{"key_id": "default", "public_key_path": str(tmp_path / "default.pub")}],
    }
    (tmp_path / "drift.toml").write_bytes(tomli_w.dumps({"signing": signing}).encode())
    config = load(tmp_path / "drift.toml", {}, [f"storage.path={tmp_path / 'data'}"])
    async with open_for_command(config, load_plugins(config)) as runtime:
        content = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}).encode()
        await runtime.registry.manifests.put("team/app", content, INDEX, None, ["one"], OPERATOR)
        await runtime.signing.sign("team/app", "one", None, ["cosign"], {}, OPERATOR)
        verifier: Any = runtime.signing.evidence.formats[0].driver

        def fail(*_: object) -> None:
            raise ZeroDivisionError

        with monkeypatch.context() as broken:
            broken.setattr(verifier, method, fail)
            found = await runtime.signing.verify("team/app", "one")
            # Who cannot say whether an artifact is of the format is asked to judge it.
            assert found.verified is (method == "claims")
            expected = {"its verifier failed"} if method == "judge" else set()
            assert {error for one in found.signatures for error in one.errors} == expected
        await asyncio.sleep(0.6)
        assert (await runtime.signing.verify("team/app", "one")).verified
