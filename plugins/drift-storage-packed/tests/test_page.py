"""The how-to of packed blobs: keys, defaults, levels, metrics and commands are what the page says."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import httpx
from drift_storage_packed.config import LEVELS, USUAL_LEVELS, PackedConfig
from drift_storage_packed.measures import Measures
from prometheus_client import CollectorRegistry

from tests.oci.content import Blob
from tests.server import Server
from tests.tools import ROOT

from .test_product import drift, lie_packed, push, url_of
from .test_reading import text

PAGE = (ROOT / "docs/how-to/packed.md").read_text()
README = Path(__file__).parent.with_name("README.md").read_text()


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def shown(value: Any) -> str:
    return "none" if value is None else json.dumps(value).removesuffix(".0")


def test_the_keys_are_those_of_the_plugin() -> None:
    (rows,) = re.findall(r"\| Key of `\[storage\.packed\]` \|.*\n\|-.*\n((?:\|.*\n)*)", PAGE)
    found = re.findall(r"^\| `(\w+)` \| ([^|]*?) \|", rows, re.MULTILINE)
    defaults = PackedConfig()
    expected = {field: shown(getattr(defaults, field)) for field in defaults.__struct_fields__}
    assert {key: default.strip("`") for key, default in found} == expected
    levels = ", ".join(f"{name} {lowest} to {highest}" for name, (lowest, highest) in LEVELS.items())
    first, *others, last = map(str, USUAL_LEVELS.values())
    assert f"{levels}; none is {', '.join([first, *others])} and {last}" in PAGE


def test_the_metrics_are_those_of_the_plugin() -> None:
    registry = CollectorRegistry()
    Measures(registry)
    known = {metric.name + ("_total" if metric.type == "counter" else "") for metric in registry.collect()}
    assert set(re.findall(r"`(drift_packed_\w+)", PAGE)) == known


def test_the_commands(tmp_path: Path) -> None:
    """In the order of the page, with its configuration, and then without the layer."""
    (config,), (readme,) = blocks(PAGE, "toml"), blocks(README, "toml")
    assert PackedConfig(**tomllib.loads(readme)["storage"]["packed"]) == PackedConfig()
    file = tmp_path / "drift.toml"
    file.write_text(config)
    blob = Blob(text(300_000))
    sooner = ("storage.packed.min_age_minutes=0", "storage.packed.keep_original_minutes=0")
    # As the page says before its last command; earlier nothing is old enough to be packed by the server itself.
    by_hand = "storage.packed.pack=false"
    with Server(tmp_path / "server", "auth.mode=none", *sooner, by_hand, config=file, workers=1) as server:
        push(server, blob)
        commands = [line for block in blocks(PAGE, "console") for line in block.splitlines()]
        said = {line: drift(server, *line.removeprefix("$ drift ").split()) for line in commands[2::-1] + commands[3:]}
        assert said["$ drift packed run --rate 100"].startswith("packed 1 of 1 blobs")
        assert json.loads(said["$ drift packed status --json"])["blobs"] == 1
        assert "packed" in said["$ drift packed status"]
        assert said["$ drift packed unpack"] == "brought back 1 blobs; 0 are still packed\n"
        assert not lie_packed(server, blob)
    with Server(tmp_path / "server", "auth.mode=none", workers=1) as server:
        assert httpx.get(url_of(server, blob)).content == blob.content
