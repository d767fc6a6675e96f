"""What the machine is that a container will run on: CPUs, memory, GPUs and settings, as the kernel tells them."""

import os
import resource
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from drift_bolt.model import GpuVendor

_NVIDIA = ("nvidia[0-9]*", "nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset")
_AMD = ("kfd", "dri/renderD*")
_PCI_AMD = "0x1002"
_SYS_NICE, _SYS_RESOURCE = 1 << 23, 1 << 24


class Device(Struct, frozen=True):
    """A character device: where it is, and its numbers."""

    path: str
    major: int
    minor: int


class Host(Struct, frozen=True, kw_only=True):
    """The facts; ``memory`` and ``huge_pages`` in bytes, ``nodes`` are the CPUs of each NUMA node.

    ``governors`` and ``schedulers`` are those that are set now, of all CPUs and disks. ``transparent`` is what is set
    for transparent huge pages, "" where there are none. ``huge_pages`` are those reserved, by the size of one in bytes.
    This process may run before others (``may_hurry``), and lock as much memory as it wants (``may_lock``).
    """

    cpus: frozenset[int]
    isolated: frozenset[int]
    nodes: Mapping[int, frozenset[int]]
    memory: int
    huge_pages: Mapping[int, int]
    transparent: str
    governors: frozenset[str]
    schedulers: frozenset[str]
    read_ahead: frozenset[int]
    nvidia: Sequence[Device]
    amd: Sequence[Device]
    may_hurry: bool
    may_lock: bool
    unified_cgroups: bool

    @property
    def vendors(self) -> frozenset[GpuVendor]:
        """The vendors of the GPUs."""
        found: set[GpuVendor] = set()
        if self.nvidia:
            found.add("Nvidia")
        if self.amd:
            found.add("Amd")
        return frozenset(found)


def this_host(root: Path = Path("/")) -> Host:
    """Returns the facts of this machine; what the kernel does not tell is empty."""
    system, devices = root / "sys", root / "dev"
    meminfo = _fields(root / "proc/meminfo")
    _, locked = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    capabilities = _capabilities(root / "proc/self/status")
    cpus = cpus_of(_text(system / "devices/system/cpu/online")) or frozenset(os.sched_getaffinity(0))
    nodes = {
        int(folder.name.removeprefix("node")): cpus_of(_text(folder / "cpulist"))
        for folder in sorted((system / "devices/system/node").glob("node[0-9]*"))
    }
    return Host(
        cpus=cpus,
        isolated=cpus_of(_text(system / "devices/system/cpu/isolated")),
        nodes=nodes,
        memory=meminfo.get("MemTotal", 0) * 1024,
        huge_pages=_huge_pages(system / "kernel/mm/hugepages"),
        transparent=_chosen(_text(system / "kernel/mm/transparent_hugepage/enabled")),
        governors=_every(system, "devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor"),
        schedulers=frozenset(map(_chosen, _every(system, "block/*/queue/scheduler"))),
        read_ahead=frozenset(int(text) for text in _every(system, "block/*/queue/read_ahead_kb")),
        nvidia=_devices(devices, _NVIDIA),
        amd=_devices(devices, _AMD) if _PCI_AMD in _every(system, "class/drm/card*/device/vendor") else (),
        may_hurry=bool(capabilities & _SYS_NICE),
        may_lock=bool(capabilities & _SYS_RESOURCE) or locked == resource.RLIM_INFINITY,
        unified_cgroups=(system / "fs/cgroup/cgroup.controllers").exists(),
    )


def cpus_of(text: str) -> frozenset[int]:
    """Returns the numbers in a list such as ``0-3,8`` (Linux, "cpuset", List Format)."""
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)


def list_of(cpus: frozenset[int]) -> str:
    """Returns numbers as such a list, without ranges."""
    return ",".join(map(str, sorted(cpus)))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _fields(path: Path) -> dict[str, int]:
    rows = (line.split() for line in _text(path).splitlines())
    return {row[0].rstrip(":"): int(row[1]) for row in rows if len(row) > 1 and row[1].isdecimal()}


def _capabilities(path: Path) -> int:
    """Returns the effective ones, as bits (Linux, "capabilities")."""
    lines = (line.split() for line in _text(path).splitlines())
    return next((int(line[1], 16) for line in lines if line[:1] == ["CapEff:"]), 0)


def _every(folder: Path, pattern: str) -> frozenset[str]:
    return frozenset(text for path in folder.glob(pattern) if (text := _text(path)))


def _chosen(text: str) -> str:
    """Returns the one in brackets of a line such as ``[mq-deadline] none``."""
    return text.partition("[")[2].partition("]")[0] or text


def _huge_pages(folder: Path) -> dict[int, int]:
    found: dict[int, int] = {}
    for one in folder.glob("hugepages-*kB"):
        size = int(one.name.removeprefix("hugepages-").removesuffix("kB")) * 1024
        number = int(_text(one / "nr_hugepages") or 0)
        if number:
            found[size] = number * size
    return found


def _devices(folder: Path, patterns: Sequence[str]) -> Sequence[Device]:
    found: list[Device] = []
    for path in sorted(path for pattern in patterns for path in folder.glob(pattern)):
        status = path.stat()
        if stat.S_ISCHR(status.st_mode):
            place = f"/dev/{path.relative_to(folder)}"
            found.append(Device(place, os.major(status.st_rdev), os.minor(status.st_rdev)))
    return found
