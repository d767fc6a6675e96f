"""Profiles of every kind go from JSON to TOML and back unchanged, as serde and Bolt's TOML would have them."""

import json
import tomllib
from typing import Any, get_args

import msgspec
import pytest
from drift_bolt import defaults, model
from drift_bolt.model import OptimizationProfile, SearchRequest
from drift_bolt.problems import Invalid
from drift_bolt.profile_toml import from_toml, to_toml
from drift_bolt.validation import check_plugin, check_profile, check_profile_metadata
from hypothesis import given
from hypothesis import strategies as st

from . import samples

U32 = st.integers(0, (1 << 32) - 1)
FLAG = st.none() | st.booleans()
TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def one_of(literal: Any) -> st.SearchStrategy[str]:
    return st.sampled_from(get_args(literal))


def options(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects in which every option is there, null or absent."""
    return st.fixed_dictionaries({}, optional={name: st.none() | field for name, field in fields.items()})


CONDITIONS = st.one_of(
    st.builds(lambda text: {"GameTitle": text}, TEXT),
    st.builds(lambda vendor: {"GpuVendor": vendor}, one_of(model.GpuVendor)),
    *(st.builds(lambda number, key=key: {key: number}, U32) for key in ("CpuCores", "MemoryGb", "NetworkLatencyMs")),
)

PROFILES = st.fixed_dictionaries(
    {
        "name": st.from_regex(r"[a-z0-9]{1,5}([._-][a-z0-9]{1,5}){0,3}", fullmatch=True),
        "description": TEXT.filter(lambda text: text != "" and "\0" not in text),
        "priority": st.integers(0, 1000),
        "cpu_optimizations": options(
            governor=one_of(model.Governor),
            priority=st.integers(-20, 19),
            affinity=one_of(model.Affinity),
            boost=FLAG,
        ),
        "gpu_optimizations": options(
            nvidia=options(
                dlss=FLAG,
                reflex=FLAG,
                power_limit=st.integers(0, 150),
                memory_clock_offset=st.integers(-2000, 2000),
                core_clock_offset=st.integers(-1000, 1000),
            ),
            amd=options(rocm_optimization=FLAG, power_limit=U32),
        ),
        "memory_optimizations": options(huge_pages=FLAG, swap_disabled=FLAG, page_lock=FLAG),
        "network_optimizations": options(
            priority=one_of(model.NetworkPriority), latency_optimization=FLAG, packet_batching=FLAG
        ),
        "storage_optimizations": options(io_scheduler=one_of(model.IoScheduler), read_ahead=U32),
        "conditions": st.lists(CONDITIONS, max_size=4),
    }
)


def whole(sent: dict[str, Any]) -> dict[str, Any]:
    """Returns a profile with null for every option that is absent."""
    groups = {
        "cpu_optimizations": ("governor", "priority", "affinity", "boost"),
        "gpu_optimizations": ("nvidia", "amd"),
        "memory_optimizations": ("huge_pages", "swap_disabled", "page_lock"),
        "network_optimizations": ("priority", "latency_optimization", "packet_batching"),
        "storage_optimizations": ("io_scheduler", "read_ahead"),
    }
    found = {**sent, **{name: dict.fromkeys(keys) | sent[name] for name, keys in groups.items()}}
    gpus = found["gpu_optimizations"]
    nvidia = ("dlss", "reflex", "power_limit", "memory_clock_offset", "core_clock_offset")
    for name, keys in (("nvidia", nvidia), ("amd", ("rocm_optimization", "power_limit"))):
        if gpus[name] is not None:
            gpus[name] = dict.fromkeys(keys) | gpus[name]
    return found


def without_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_null(one) for key, one in value.items() if one is not None}
    return [without_null(one) for one in value] if isinstance(value, list) else value


@given(PROFILES)
def test_json_to_toml_to_json_changes_nothing(sent: dict[str, Any]) -> None:
    profile = msgspec.json.decode(json.dumps(sent), type=OptimizationProfile)
    check_profile(profile)
    toml = to_toml(profile)
    assert from_toml(toml) == profile
    assert json.loads(msgspec.json.encode(from_toml(toml))) == whole(sent)
    assert tomllib.loads(toml.decode()) == without_null(whole(sent))


def test_the_order_of_the_file() -> None:
    """Values of the top come first: below a table they would belong to it."""
    profile = msgspec.convert(samples.profile("order", conditions=[]), OptimizationProfile)
    lines = to_toml(profile).decode().splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("["))
    assert {line.partition(" ")[0] for line in lines[:first] if line} == {
        "name",
        "description",
        "priority",
        "conditions",
    }
    assert "[memory_optimizations]" in lines, "an empty table is needed, too"


def test_none_is_a_scheduler_and_null_is_none() -> None:
    for value, line in (("None", 'io_scheduler = "None"'), (None, None)):
        sent = samples.profile("scheduler", storage_optimizations={"io_scheduler": value, "read_ahead": 0})
        profile = msgspec.convert(sent, OptimizationProfile)
        assert profile.storage_optimizations.io_scheduler == value
        assert (line is None) or line in to_toml(profile).decode().splitlines()


@pytest.mark.parametrize(
    "condition",
    [
        {},
        {"GameTitle": None},
        {"GameTitle": 1},
        {"CpuCores": 1.0},
        {"CpuCores": -1},
        {"CpuCores": 1 << 32},
        {"GpuVendor": "nvidia"},
        {"Unknown": 1},
        {"CpuCores": 1, "MemoryGb": 1},
        {"CpuCores": 1, "Unknown": 1},
        "GameTitle",
    ],
)
def test_conditions_have_exactly_one_known_key(condition: Any) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(json.dumps(samples.profile("x", conditions=[condition])), type=OptimizationProfile)


@pytest.mark.parametrize(
    ("changes", "about"),
    [
        ({"entry_point": entry}, {})
        for entry in ("", ".", "..", "a/b", "/a", "..\\a", "a\0b", "a\nb", "plugin.toml", "x" * 256, "é" * 128)
    ]
    + [({"version": version}, {}) for version in ("", ".1", "-1", "1+2", "1/2", "v" * 129)]
    + [({"dependencies": ["x"] * 101}, {}), ({"supported_gpus": ["Any"] * 101}, {}), ({"description": "\0"}, {})]
    + [({}, {"license": "x" * 256}), ({}, {"supported_platforms": ["x" * 256]}), ({"name": "a--b/c"}, {})],
)
def test_what_is_no_plugin(changes: dict[str, Any], about: dict[str, Any]) -> None:
    manifest = msgspec.convert(samples.plugin("plugin", **changes), model.PluginManifest)
    metadata = msgspec.convert(samples.about(**about), model.PluginUploadMetadata)
    with pytest.raises(Invalid):
        check_plugin(manifest, metadata)


def test_entry_points_that_are_plain_names() -> None:
    metadata = msgspec.convert(samples.about(), model.PluginUploadMetadata)
    for entry in ("libx.so", "x.dll", "x y.dylib", "...so", "é.so"):
        check_plugin(msgspec.convert(samples.plugin("plugin", entry_point=entry), model.PluginManifest), metadata)


def test_the_default_profiles_are_valid() -> None:
    uploads = defaults.uploads()
    assert [upload.profile.priority for upload in uploads] == [100, 120, 80, 90, 60]
    for upload in uploads:
        check_profile(upload.profile)
        check_profile_metadata(upload.metadata)
        assert from_toml(to_toml(upload.profile)) == upload.profile


def test_every_key_of_a_search_is_optional() -> None:
    nothing = dict.fromkeys(SearchRequest.__struct_fields__)
    assert msgspec.convert(nothing, SearchRequest) == msgspec.convert({}, SearchRequest) == SearchRequest()
    for wrong in ({"sort_by": "name"}, {"page": -1}, {"page": 1.5}, {"tags": "a"}):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(wrong, SearchRequest)
