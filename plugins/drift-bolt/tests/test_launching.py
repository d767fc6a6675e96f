"""What a profile makes of a container: by the runtime specification's own schema, and from inside of one."""

import gzip
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from drift_bolt import defaults, running
from drift_bolt.artifacts import OCI_MANIFEST
from drift_bolt.host import Device, Host, cpus_of, this_host
from drift_bolt.launching import ImageConfig, Launch, Wanted, launch
from drift_bolt.model import OptimizationProfile
from hypothesis import given
from hypothesis import strategies as st
from referencing import Registry
from referencing.jsonschema import DRAFT4

from drift_core.api import Digest, Identity, StartError
from drift_core.config import load
from tests.server import DRIFT
from tests.tools import ROOT, tool, unavailable

from . import samples
from .shelf import Shelf
from .test_model import PROFILES

SCHEMAS = ROOT / ".tools/go/pkg/mod/github.com/opencontainers/runtime-spec@v1.2.1/schema"
"""Those of the specification's own module."""
IMAGE = ImageConfig(entrypoint=["/bin/game"], cmd=["--fast"], env=["A=b"], working_dir="/srv", user="1000:1000")
NVIDIA = (Device("/dev/nvidia0", 195, 0), Device("/dev/nvidiactl", 195, 255))
AMD = (Device("/dev/kfd", 235, 0), Device("/dev/dri/renderD128", 226, 128))
HOST = Host(
    cpus=frozenset(range(8)),
    isolated=frozenset({6, 7}),
    nodes={0: frozenset({0, 1}), 1: frozenset(range(2, 8))},
    memory=16 << 30,
    huge_pages={2 << 20: 1 << 30},
    transparent="madvise",
    governors=frozenset({"performance"}),
    schedulers=frozenset({"mq-deadline"}),
    read_ahead=frozenset({128}),
    nvidia=NVIDIA,
    amd=AMD,
    may_hurry=True,
    may_lock=True,
    unified_cgroups=True,
)
BARE = msgspec.structs.replace(
    HOST,
    isolated=frozenset(),
    nodes={},
    huge_pages={},
    transparent="never",
    nvidia=(),
    amd=(),
    may_hurry=False,
    may_lock=False,
)


@cache
def validator() -> Any:
    if not SCHEMAS.is_dir():
        unavailable("the schemas are not there; `make tools` fetches them")
    documents = {path.name: DRAFT4.create_resource(json.loads(path.read_text())) for path in SCHEMAS.glob("*.json")}
    main = documents["config-schema.json"].contents
    registry: Any = Registry()
    return jsonschema.Draft4Validator(main, registry=registry.with_resources(documents.items()))


def valid(specification: dict[str, Any]) -> None:
    """Raises where a configuration is not one by the schema."""
    validator().validate(specification)


def made(host: Host = HOST, wanted: Wanted | None = None, **changes: Any) -> Launch:
    """Returns what a profile of nothing but ``changes`` makes."""
    empty: dict[str, Any] = {f"{name}_optimizations": {} for name in ("cpu", "gpu", "memory", "network", "storage")}
    sent = samples.profile("test", **{**empty, "conditions": [], **changes})
    profile = msgspec.convert(sent, OptimizationProfile)
    return launch(IMAGE, profile, "test:1.0.0", host, wanted or Wanted())


@given(
    sent=PROFILES,
    host=st.sampled_from([HOST, BARE]),
    host_network=st.booleans(),
    cgroups=st.booleans(),
)
def test_every_configuration_is_valid(sent: dict[str, Any], host: Host, host_network: bool, cgroups: bool) -> None:
    profile = msgspec.convert(sent, OptimizationProfile)
    wanted = Wanted(host_network=host_network, cgroups=cgroups)
    found = launch(IMAGE, profile, "test:1.0.0", host, wanted)
    specification = json.loads(msgspec.json.encode(found.specification))
    valid(specification)
    assert cgroups == ("resources" in specification["linux"])


def test_the_schema_finds_mistakes() -> None:
    found = made().specification
    for wrong in ({"process": {**found["process"], "args": "x"}}, {"linux": {"resources": {"cpu": {"shares": "x"}}}}):
        with pytest.raises(jsonschema.ValidationError):
            valid({**found, **wrong})


def test_the_process_is_that_of_the_image() -> None:
    process = made().specification["process"]
    assert (process["args"], process["cwd"]) == (["/bin/game", "--fast"], "/srv")
    assert process["user"] == {"uid": 1000, "gid": 1000}
    assert "A=b" in process["env"]
    assert made(wanted=Wanted(arguments=["-x"])).specification["process"]["args"] == ["/bin/game", "-x"]


@pytest.mark.parametrize(
    ("affinity", "cpus", "mems"),
    [
        ("Gaming", "1,2,3,4,5,6,7", None),
        ("Balanced", "0,1,2,3,4,5,6,7", None),
        ("Isolated", "6,7", None),
        ("NumaAware", "2,3,4,5,6,7", "1"),
    ],
)
def test_affinity(affinity: str, cpus: str, mems: str | None) -> None:
    found = made(cpu_optimizations={"affinity": affinity})
    assert not found.refused
    cpu = found.specification["linux"]["resources"]["cpu"]
    assert (cpu["cpus"], cpu.get("mems"), cpu["shares"]) == (cpus, mems, 716)
    assert found.affinity == cpus_of(cpus)


def test_priority() -> None:
    found = made(cpu_optimizations={"priority": 10})
    assert found.nice == -10
    assert found.specification["process"]["scheduler"] == {"policy": "SCHED_OTHER", "nice": -10}
    assert found.specification["process"]["ioPriority"] == {"class": "IOPRIO_CLASS_BE", "priority": 2}
    assert made(cpu_optimizations={"priority": -20}).nice == 19
    shares = [made(priority=one).specification["linux"]["resources"]["cpu"]["shares"] for one in (0, 100, 1 << 31)]
    assert shares == [2, 1024, 262_144], "never more than the kernel takes, also without Bolt's limits"


def test_memory() -> None:
    found = made(memory_optimizations={"huge_pages": True, "swap_disabled": True, "page_lock": True})
    assert not found.refused
    resources = found.specification["linux"]["resources"]
    assert resources["hugepageLimits"] == [{"pageSize": "2MB", "limit": 1 << 30}]
    assert resources["memory"] == {"limit": 16 << 30, "swap": 16 << 30}
    process = found.specification["process"]
    assert process["rlimits"] == [{"type": "RLIMIT_MEMLOCK", "hard": (1 << 64) - 1, "soft": (1 << 64) - 1}]
    assert "CAP_IPC_LOCK" in process["capabilities"]["effective"]
    (mount,) = [one for one in found.specification["mounts"] if one["type"] == "hugetlbfs"]
    assert mount["options"][-1] == "pagesize=2M"


def test_processes_are_limited() -> None:
    resources = made().specification["linux"]["resources"]
    assert resources["pids"] == {"limit": 4096}


async def test_a_configuration_of_any_size_is_not_read() -> None:
    shelf = Shelf()
    registry: Any = shelf
    for size, says in ((running.LARGEST_CONFIG, "cannot be read"), (running.LARGEST_CONFIG + 1, "more than")):
        config = b"{" + bytes(size - 1)
        manifest = json.dumps({"config": {"digest": Digest.of(config)}, "layers": []}).encode()
        await shelf.push_manifest("a", manifest, OCI_MANIFEST, Digest.of(manifest), ["latest"])
        shelf.blobs["a", Digest.of(config)] = config
        with pytest.raises(StartError, match=says):
            await running.find(registry, "a")


def test_gpus() -> None:
    found = made(gpu_optimizations={"nvidia": {"dlss": True, "power_limit": 100}, "amd": {"rocm_optimization": True}})
    assert not found.refused
    devices = {one["path"] for one in found.specification["linux"]["devices"]}
    assert devices == {"/dev/nvidia0", "/dev/nvidiactl", "/dev/kfd", "/dev/dri/renderD128"}
    deny, *allowed = found.specification["linux"]["resources"]["devices"]
    assert (deny["allow"], len(allowed)) == (False, 4)
    assert "PROTON_ENABLE_NVAPI=1" in found.specification["process"]["env"]


def test_network_class() -> None:
    old = msgspec.structs.replace(HOST, unified_cgroups=False)
    found = made(old, Wanted(host_network=True), network_optimizations={"priority": "Critical"})
    assert not found.refused
    assert found.specification["annotations"]["dev.bolt.network.dscp"] == "46"
    assert found.specification["linux"]["resources"]["network"] == {"classID": 0x10001}
    assert {"type": "network"} not in found.specification["linux"]["namespaces"]
    assert {"type": "network"} in made().specification["linux"]["namespaces"]


@pytest.mark.parametrize(
    ("host", "wanted", "changes", "key"),
    [
        (BARE, Wanted(), {"cpu_optimizations": {"priority": 1}}, "cpu_optimizations.priority"),
        (BARE, Wanted(), {"cpu_optimizations": {"affinity": "Isolated"}}, "cpu_optimizations.affinity"),
        (HOST, Wanted(), {"cpu_optimizations": {"governor": "Powersave"}}, "cpu_optimizations.governor"),
        (HOST, Wanted(), {"cpu_optimizations": {"boost": False}}, "cpu_optimizations.boost"),
        (BARE, Wanted(), {"gpu_optimizations": {"nvidia": {}}}, "gpu_optimizations.nvidia"),
        (
            HOST,
            Wanted(),
            {"gpu_optimizations": {"nvidia": {"power_limit": 90}}},
            "gpu_optimizations.nvidia.power_limit",
        ),
        (HOST, Wanted(), {"gpu_optimizations": {"amd": {"power_limit": 90}}}, "gpu_optimizations.amd.power_limit"),
        (BARE, Wanted(), {"memory_optimizations": {"huge_pages": True}}, "memory_optimizations.huge_pages"),
        (BARE, Wanted(), {"memory_optimizations": {"page_lock": True}}, "memory_optimizations.page_lock"),
        (
            HOST,
            Wanted(cgroups=False),
            {"memory_optimizations": {"swap_disabled": True}},
            "memory_optimizations.swap_disabled",
        ),
        (
            HOST,
            Wanted(host_network=True),
            {"network_optimizations": {"priority": "Gaming"}},
            "network_optimizations.priority",
        ),
        (
            HOST,
            Wanted(host_network=True),
            {"network_optimizations": {"packet_batching": True}},
            "network_optimizations.packet_batching",
        ),
        (HOST, Wanted(), {"storage_optimizations": {"io_scheduler": "None"}}, "storage_optimizations.io_scheduler"),
        (HOST, Wanted(), {"storage_optimizations": {"read_ahead": 64}}, "storage_optimizations.read_ahead"),
        (HOST, Wanted(), {"conditions": [{"MemoryGb": 17}]}, "conditions"),
        (HOST, Wanted(), {"conditions": [{"CpuCores": 9}]}, "conditions"),
        (HOST, Wanted(), {"conditions": [{"GpuVendor": "Intel"}]}, "conditions"),
    ],
)
def test_what_cannot_be_applied_is_refused_with_a_reason(
    host: Host, wanted: Wanted, changes: dict[str, Any], key: str
) -> None:
    (refused,) = made(host, wanted, **changes).refused
    named, _, reason = refused.partition(": ")
    assert named == key
    assert reason


def test_what_is_so_already_is_not_refused() -> None:
    changes = {
        "cpu_optimizations": {"governor": "Performance"},
        "storage_optimizations": {"io_scheduler": "Deadline", "read_ahead": 128},
        "network_optimizations": {"priority": "Critical", "latency_optimization": True},
        "conditions": [{"MemoryGb": 16}, {"CpuCores": 8}, {"GpuVendor": "Nvidia"}, {"GameTitle": "any"}],
    }
    assert made(**changes).refused == ()


def test_this_machine() -> None:
    host = this_host()
    assert host.cpus >= os.sched_getaffinity(0)
    assert host.memory > 1 << 28
    for upload in defaults.uploads():
        valid(json.loads(msgspec.json.encode(launch(IMAGE, upload.profile, "x", host, Wanted()).specification)))


def busybox_layer() -> bytes:
    program = Path(tool("busybox")).read_bytes()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in {"bin/busybox": program, "bin/sh": None}.items():
            entry = tarfile.TarInfo(name)
            entry.mode = 0o755
            if content is None:
                entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            entry.size = len(content or b"")
            tar.addfile(entry, io.BytesIO(content or b""))
    return packed.getvalue()


async def prepare(folder: Path, changes: dict[str, Any]) -> Sequence[str]:
    """Makes a registry with the image ``test/busybox`` and the profile ``inside``, and returns its settings."""
    from drift_bolt.bolt import Bolt  # noqa: PLC0415

    from drift_core.api import open_driver, open_registry  # noqa: PLC0415

    settings = ["bolt.enabled=true", f"storage.path={folder / 'data'}"]
    config = load(None, {}, settings)
    layer = busybox_layer()
    rootfs = {"type": "layers", "diff_ids": [Digest.of(gzip.decompress(layer))]}
    about = {"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/sh"]}, "rootfs": rootfs}
    image = json.dumps(about).encode()
    described = [
        {"mediaType": f"application/vnd.oci.image.{kind}", "digest": Digest.of(content), "size": len(content)}
        for kind, content in (("config.v1+json", image), ("layer.v1.tar+gzip", layer))
    ]
    kind = "application/vnd.oci.image.manifest.v1+json"
    manifest = {"schemaVersion": 2, "mediaType": kind, "config": described[0], "layers": described[1:]}

    async def once(content: bytes) -> Any:
        yield content

    async with (
        open_registry(config, Identity("test", "command")) as registry,
        open_driver(config, "features", "bolt") as feature,
    ):
        assert isinstance(feature, Bolt)
        for content in (image, layer):
            await registry.push_blob("test/busybox", Digest.of(content), once(content))
        content = json.dumps(manifest).encode()
        await registry.push_manifest("test/busybox", content, kind, Digest.of(content), ["latest"])
        empty: dict[str, Any] = {f"{name}_optimizations": {} for name in ("cpu", "gpu", "memory", "network", "storage")}
        sent = samples.profile("inside", **{**empty, "conditions": [], **changes})
        upload = {"profile": sent, "metadata": samples.metadata()}
        from drift_bolt.model import ProfileUpload  # noqa: PLC0415

        await feature.publisher.profile(registry, msgspec.convert(upload, ProfileUpload), "test", only_new=True)
    return settings


def drift(settings: Sequence[str], *arguments: str, before: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    options = [part for setting in settings for part in ("--set", setting)]
    command = [*before, str(DRIFT), "bolt", *arguments[:1], *options, *arguments[1:]]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


async def test_a_dry_run_prints_the_configuration(tmp_path: Path) -> None:
    settings = await prepare(tmp_path, {"cpu_optimizations": {"affinity": "Balanced", "boost": True}})
    wanted = ("run", "test/busybox", "--profile", "inside", "--dry-run", "--", "/bin/sh", "-c", "exit 3")
    done = drift(settings, *wanted)
    assert done.returncode == 1
    assert "not applied: cpu_optimizations.boost: it is a setting of the whole machine" in done.stderr
    specification = json.loads(done.stdout)
    valid(specification)
    assert specification["process"]["args"] == ["/bin/sh", "-c", "exit 3"]
    assert specification["annotations"]["dev.bolt.profile"] == "inside:1.0.0"
    assert 'name = "inside"' in drift(settings, "show", "inside").stdout
    assert [one["name"] for one in json.loads(drift(settings, "list", "--json").stdout)] == ["inside"]
    done = drift(settings, "run", "test/none", "--profile", "inside")
    assert (done.returncode, done.stderr) == (1, "Error: the registry has no image test/none:latest\n")


async def test_a_profile_is_applied_inside(tmp_path: Path) -> None:
    """By crun, in cgroups of version 2 alone: it knows no mixture, whose controllers version 1 has."""
    host = this_host()
    if not host.may_hurry:
        unavailable("a negative nice value needs CAP_SYS_NICE")
    tool("crun")
    changes = {
        "cpu_optimizations": {"affinity": "Balanced", "priority": 7, "boost": True},
        "memory_optimizations": {"page_lock": host.may_lock},
    }
    settings = await prepare(tmp_path, changes)
    look = "busybox cut -d' ' -f19 /proc/self/stat; ulimit -l; busybox grep Cpus_allowed_list /proc/self/status"
    options = ("--profile", "inside", "--no-cgroups", "--partial")
    wanted = ("run", "test/busybox", *options, "--", "/bin/sh", "-c", f"{look}; exit 3")
    alone = 'umount -l /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup; exec "$@"'
    before = () if host.unified_cgroups else ("unshare", "--mount", "sh", "-c", alone, "sh")
    done = drift(settings, *wanted, before=before)
    assert done.returncode == 3, done.stderr
    nice, locked, cpus = done.stdout.splitlines()
    assert nice == "-7"
    assert locked == "unlimited" or not host.may_lock
    assert cpus_of(cpus.split()[1]) == host.cpus
