"""The section of the how-to names every key with its default, and every metric."""

import json
import re

from drift_storage_cached.config import CachedConfig
from drift_storage_cached.measures import Measures
from prometheus_client import CollectorRegistry

from tests.tools import ROOT

PAGE = (ROOT / "docs/how-to/object-storage.md").read_text()


def test_keys() -> None:
    (rows,) = re.findall(r"\| Key of `\[storage\.cached\]` \|.*\n\|-.*\n((?:\|.*\n)*)", PAGE)
    found = {key: default.strip("`") for key, default in re.findall(r"^\| `(\w+)` \| ([^|]*?) \|", rows, re.MULTILINE)}
    config = CachedConfig()
    known = {field: json.dumps(getattr(config, field)).removesuffix(".0") for field in config.__struct_fields__}
    # Left out, it is that of [storage].
    assert found == known | {"path": "storage.path"}


def test_metrics() -> None:
    registry = CollectorRegistry()
    Measures(registry)
    known = {metric.name + ("_total" if metric.type == "counter" else "") for metric in registry.collect()}
    assert set(re.findall(r"`(drift_cached_\w+)", PAGE)) == known
