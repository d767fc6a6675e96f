"""Maps an image and a profile to the configuration of an OCI runtime; what a container cannot have is refused.

The configuration is that of the runtime specification ("config.md", "config-linux.md"). A profile has settings of one
program, of which a container is made, and settings of the whole machine: those are met where the machine has them
already, and never changed for the sake of one container.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from drift_bolt.host import Device, Host, list_of
from drift_bolt.model import OptimizationProfile

GIB: Final = 1 << 30
UNLIMITED: Final = (1 << 64) - 1
FIRST_ON_ITS_OWN: Final = 4
"""CPUs of a machine from which on a game leaves the first one to everybody else."""

MOST_PROCESSES: Final = 4096
"""Processes and threads of a container."""

LONGEST_NICE: Final = 19
BASE_PRIORITY: Final = 100
"""The priority of a profile that is worth as much CPU as a container without one, which has `SHARES`."""
SHARES: Final = 1024
MOST_SHARES: Final = 262_144
"""What the kernel takes at most (Linux, "sched_group_set_shares")."""

QOS: Final[Mapping[str, tuple[int, int]]] = {
    "Critical": (0, 46),
    "Gaming": (1, 34),
    "Streaming": (2, 26),
    "Background": (3, 10),
}
"""Class and DSCP of each network priority, as Bolt numbers them."""

SCHEDULERS: Final[Mapping[str, str]] = {
    "Noop": "none",
    "None": "none",
    "Deadline": "mq-deadline",
    "Mq_deadline": "mq-deadline",
    "Cfq": "bfq",
}
"""What the kernel calls them since it has multi-queue block layers only."""

CAPABILITIES: Final = (
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
)

HIDDEN: Final = (
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/firmware",
)
READ_ONLY: Final = ("/proc/asound", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


class ImageConfig(
    Struct,
    frozen=True,
    rename={"user": "User", "env": "Env", "entrypoint": "Entrypoint", "cmd": "Cmd", "working_dir": "WorkingDir"},
):
    """What an image says of its process (image specification, "config")."""

    user: str | None = None
    env: list[str] | None = None
    entrypoint: list[str] | None = None
    cmd: list[str] | None = None
    working_dir: str | None = None


class Image(Struct, frozen=True):
    """The configuration of an image."""

    config: ImageConfig | None = None


class Wanted(Struct, frozen=True, kw_only=True):
    """How somebody wants an image to run: ``arguments`` in the place of its own, if any; ``cgroups`` may be used.

    With ``host_network`` the container has the network of the machine, else none.
    """

    arguments: Sequence[str] = ()
    host_network: bool = False
    cgroups: bool = True


class Launch(Struct, frozen=True, kw_only=True):
    """What came of it: the configuration, what of the profile was refused and why, and what a child inherits.

    ``nice`` and ``affinity`` are set before the runtime is started, too: those that read no ``process.scheduler``, or
    may not use cgroups, hand them down.
    """

    specification: dict[str, Any]
    refused: tuple[str, ...]
    nice: int
    affinity: frozenset[int]


class _Builder:
    """Collects what a profile makes of a configuration."""

    def __init__(self, host: Host, wanted: Wanted) -> None:
        self.host = host
        self.wanted = wanted
        self.refused: list[str] = []
        self.process: dict[str, Any] = {}
        self.env: list[str] = []
        self.capabilities: list[str] = []
        self.mounts: list[dict[str, Any]] = []
        self.resources: dict[str, Any] = {}
        self.devices: list[dict[str, Any]] = []
        self.rules: list[dict[str, Any]] = [{"allow": False, "access": "rwm"}]
        self.annotations: dict[str, str] = {}
        self.nice = 0
        self.affinity: frozenset[int] = frozenset()

    def refuse(self, key: str, reason: str) -> None:
        self.refused.append(f"{key}: {reason}")

    def needs_cgroups(self, key: str) -> bool:
        """Says whether cgroups may be used, and refuses ``key`` where not."""
        if not self.wanted.cgroups:
            self.refuse(key, "only cgroups can do this, which were not to be used")
        return self.wanted.cgroups


def launch(image: ImageConfig, profile: OptimizationProfile, name: str, host: Host, wanted: Wanted) -> Launch:
    """Returns the configuration of a container in which as much of a profile is applied as can be."""
    builder = _Builder(host, wanted)
    _check_conditions(builder, profile)
    _apply_cpu(builder, profile)
    _apply_gpu(builder, profile)
    _apply_memory(builder, profile)
    _apply_network(builder, profile)
    _apply_storage(builder, profile)
    builder.annotations["dev.bolt.profile"] = name
    specification = _specification(builder, image)
    return Launch(
        specification=specification,
        refused=tuple(builder.refused),
        nice=builder.nice,
        affinity=builder.affinity,
    )


def _check_conditions(builder: _Builder, profile: OptimizationProfile) -> None:
    """All of them have to hold; what cannot be known, such as the game, does (Bolt, conditions)."""
    host = builder.host
    for condition in profile.conditions:
        if isinstance(condition.cpu_cores, int) and len(host.cpus) < condition.cpu_cores:
            builder.refuse(
                "conditions", f"the profile is for {condition.cpu_cores} CPUs, and there are {len(host.cpus)}"
            )
        if isinstance(condition.memory_gb, int) and host.memory < condition.memory_gb * GIB:
            there = host.memory / GIB
            builder.refuse("conditions", f"the profile is for {condition.memory_gb} GiB, and there are {there:.1f}")
        vendor = condition.gpu_vendor
        if isinstance(vendor, str) and host.vendors and vendor not in host.vendors:
            builder.refuse("conditions", f"the profile is for a GPU of {vendor}, and there is none")


def _apply_cpu(builder: _Builder, profile: OptimizationProfile) -> None:
    cpu, host = profile.cpu_optimizations, builder.host
    if builder.wanted.cgroups:
        shares = min(MOST_SHARES, max(2, profile.priority * SHARES // BASE_PRIORITY))
        builder.resources.setdefault("cpu", {})["shares"] = shares
    if cpu.priority is not None:
        _apply_priority(builder, cpu.priority)
    if cpu.affinity is not None:
        _apply_affinity(builder, cpu.affinity)
    if cpu.governor is not None and host.governors != frozenset({cpu.governor.lower()}):
        now = ", ".join(sorted(host.governors)) or "not known"
        builder.refuse("cpu_optimizations.governor", f"it is that of the whole machine, and is {now}")
    if cpu.boost is not None:
        builder.refuse("cpu_optimizations.boost", "it is a setting of the whole machine")


def _apply_priority(builder: _Builder, priority: int) -> None:
    """A higher priority is a lower nice value; disks are used in the same order."""
    nice = max(-20, min(LONGEST_NICE, -priority))
    if nice < 0 and not builder.host.may_hurry:
        builder.refuse("cpu_optimizations.priority", f"a nice value of {nice} needs CAP_SYS_NICE")
        return
    builder.nice = nice
    builder.process["scheduler"] = {"policy": "SCHED_OTHER", "nice": nice}
    builder.process["ioPriority"] = {"class": "IOPRIO_CLASS_BE", "priority": (nice + 20) // 5}


def _apply_affinity(builder: _Builder, affinity: str) -> None:
    host, key = builder.host, "cpu_optimizations.affinity"
    cpus = host.cpus
    if affinity == "Gaming" and len(cpus) >= FIRST_ON_ITS_OWN:
        cpus -= {min(cpus)}
    elif affinity == "Isolated":
        cpus = host.isolated
        if not cpus:
            builder.refuse(key, "the kernel was not told to isolate CPUs (isolcpus)")
            return
    elif affinity == "NumaAware" and host.nodes:
        node = max(host.nodes, key=lambda number: (len(host.nodes[number]), -number))
        cpus = host.nodes[node]
        if builder.wanted.cgroups:
            builder.resources.setdefault("cpu", {})["mems"] = str(node)
    builder.affinity = cpus
    if builder.wanted.cgroups:
        builder.resources.setdefault("cpu", {})["cpus"] = list_of(cpus)


def _apply_gpu(builder: _Builder, profile: OptimizationProfile) -> None:
    nvidia, amd = profile.gpu_optimizations.nvidia, profile.gpu_optimizations.amd
    if nvidia is not None:
        key = "gpu_optimizations.nvidia"
        _give(builder, key, builder.host.nvidia)
        if nvidia.dlss or nvidia.reflex:
            # How Proton is told to show games the interface of the driver that both need.
            builder.env += ["PROTON_ENABLE_NVAPI=1", "DXVK_ENABLE_NVAPI=1"]
        defaults = (("power_limit", 100), ("memory_clock_offset", 0), ("core_clock_offset", 0))
        for field, usual in defaults:
            if getattr(nvidia, field) not in (None, usual):
                builder.refuse(f"{key}.{field}", "it is a setting of the GPU, for everybody who uses it")
    if amd is not None:
        key = "gpu_optimizations.amd"
        _give(builder, key, builder.host.amd)
        if amd.rocm_optimization and not any(device.path == "/dev/kfd" for device in builder.host.amd):
            builder.refuse(f"{key}.rocm_optimization", "ROCm needs /dev/kfd, which is not there")
        if amd.power_limit not in (None, 100):
            builder.refuse(f"{key}.power_limit", "it is a setting of the GPU, for everybody who uses it")


def _give(builder: _Builder, key: str, devices: Sequence[Device]) -> None:
    """Gives a container devices, or refuses where there are none."""
    if not devices:
        builder.refuse(key, "this machine has no such GPU")
    for device in devices:
        numbers = {"major": device.major, "minor": device.minor}
        builder.devices.append({"path": device.path, "type": "c", "fileMode": 0o666, "uid": 0, "gid": 0, **numbers})
        builder.rules.append({"allow": True, "type": "c", "access": "rw", **numbers})


def _apply_memory(builder: _Builder, profile: OptimizationProfile) -> None:
    memory, host = profile.memory_optimizations, builder.host
    if memory.huge_pages:
        _apply_huge_pages(builder)
    if memory.page_lock:
        if host.may_lock:
            builder.process["rlimits"] = [{"type": "RLIMIT_MEMLOCK", "hard": UNLIMITED, "soft": UNLIMITED}]
            builder.capabilities.append("CAP_IPC_LOCK")
        else:
            reason = "to raise the limit of locked memory needs CAP_SYS_RESOURCE"
            builder.refuse("memory_optimizations.page_lock", reason)
    if memory.swap_disabled and builder.needs_cgroups("memory_optimizations.swap_disabled"):
        # The limit of memory and swap together: as much as the machine has, and none of it swap.
        builder.resources["memory"] = {"limit": host.memory, "swap": host.memory}


def _apply_huge_pages(builder: _Builder) -> None:
    host, key = builder.host, "memory_optimizations.huge_pages"
    if not host.huge_pages:
        if host.transparent not in ("always", "madvise"):
            builder.refuse(key, "the machine has reserved none, and transparent huge pages are off")
        return
    if not builder.needs_cgroups(key):
        return
    limits = [{"pageSize": _page_size(size), "limit": held} for size, held in sorted(host.huge_pages.items())]
    builder.resources["hugepageLimits"] = limits
    largest = _page_size(min(host.huge_pages)).removesuffix("B")
    options = ["nosuid", "nodev", f"pagesize={largest}"]
    builder.mounts.append(
        {"destination": "/dev/hugepages", "type": "hugetlbfs", "source": "hugetlbfs", "options": options}
    )


def _page_size(size: int) -> str:
    """Returns a size as the specification writes it, such as ``2MB``."""
    for unit, name in ((GIB, "GB"), (1 << 20, "MB")):
        if size >= unit:
            return f"{size // unit}{name}"
    return f"{size >> 10}KB"


def _apply_network(builder: _Builder, profile: OptimizationProfile) -> None:
    """Without a network there is nothing to be first in; packets of the machine's are not the container's alone."""
    network, host = profile.network_optimizations, builder.host
    if network.priority is not None:
        number, dscp = QOS[network.priority]
        builder.annotations |= {"dev.bolt.network.class": str(number), "dev.bolt.network.dscp": str(dscp)}
        if builder.wanted.host_network and builder.needs_cgroups("network_optimizations.priority"):
            if host.unified_cgroups:
                builder.refuse("network_optimizations.priority", "cgroups of version 2 have no classes of packets")
            else:
                builder.resources["network"] = {"classID": 0x10000 + number + 1}
    for field in ("latency_optimization", "packet_batching"):
        if getattr(network, field) and builder.wanted.host_network:
            builder.refuse(f"network_optimizations.{field}", "it is a setting of the machine's network cards")


def _apply_storage(builder: _Builder, profile: OptimizationProfile) -> None:
    storage, host = profile.storage_optimizations, builder.host
    if storage.io_scheduler is not None and host.schedulers != frozenset({SCHEDULERS[storage.io_scheduler]}):
        now = ", ".join(sorted(host.schedulers)) or "not known"
        reason = f"it is that of a disk, for everybody who uses it, and is {now}"
        builder.refuse("storage_optimizations.io_scheduler", reason)
    if storage.read_ahead is not None and host.read_ahead != frozenset({storage.read_ahead}):
        builder.refuse("storage_optimizations.read_ahead", "it is a setting of a disk, for everybody who uses it")


def _specification(builder: _Builder, image: ImageConfig) -> dict[str, Any]:
    namespaces = ["pid", "ipc", "uts", "mount"]
    namespaces += [] if builder.wanted.host_network else ["network"]
    linux: dict[str, Any] = {
        "maskedPaths": list(HIDDEN),
        "readonlyPaths": list(READ_ONLY),
    }
    if builder.wanted.cgroups:
        namespaces.append("cgroup")
        linux["resources"] = {**builder.resources, "devices": builder.rules, "pids": {"limit": MOST_PROCESSES}}
    if builder.devices:
        linux["devices"] = builder.devices
    linux["namespaces"] = [{"type": kind} for kind in namespaces]
    return {
        "ociVersion": "1.0.2",
        "process": _process(builder, image),
        "root": {"path": "rootfs", "readonly": False},
        "hostname": "bolt",
        "mounts": [*_mounts(builder), *builder.mounts],
        "annotations": builder.annotations,
        "linux": linux,
    }


def _process(builder: _Builder, image: ImageConfig) -> dict[str, Any]:
    own = [*(image.entrypoint or ()), *(image.cmd or ())]
    arguments = [*(image.entrypoint or ()), *builder.wanted.arguments] if builder.wanted.arguments else own
    if not arguments:
        builder.refuse("IMAGE", "it says nothing of what to run; name it behind --")
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    env = [*([] if any(one.startswith("PATH=") for one in image.env or ()) else [path]), *(image.env or ())]
    capabilities = [*CAPABILITIES, *builder.capabilities]
    sets = ("bounding", "effective", "permitted")
    return {
        "terminal": False,
        "user": _user(builder, image.user or "0"),
        "args": arguments or ["/bin/false"],
        "env": [*env, *builder.env],
        "cwd": image.working_dir or "/",
        "capabilities": dict.fromkeys(sets, capabilities),
        "noNewPrivileges": True,
        **builder.process,
    }


def _user(builder: _Builder, text: str) -> dict[str, int]:
    user, _, group = text.partition(":")
    if user == "root":
        user = "0"
    if not user.isdecimal() or (group and not group.isdecimal()):
        builder.refuse("IMAGE", f"its user {text!r} is a name, and only numbers are known before it is unpacked")
        return {"uid": 65534, "gid": 65534}
    return {"uid": int(user), "gid": int(group or 0)}


def _mounts(builder: _Builder) -> list[dict[str, Any]]:
    devpts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]
    found = [
        _mount("/proc", "proc", []),
        _mount("/dev", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        _mount("/dev/pts", "devpts", devpts),
        _mount("/dev/shm", "tmpfs", ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),  # noqa: S108
        _mount("/dev/mqueue", "mqueue", ["nosuid", "noexec", "nodev"]),
    ]
    if not builder.wanted.host_network:
        # It shows the network of whoever mounts it.
        found.append(_mount("/sys", "sysfs", ["nosuid", "noexec", "nodev", "ro"]))
    if builder.wanted.cgroups:
        found.append(_mount("/sys/fs/cgroup", "cgroup", ["nosuid", "noexec", "nodev", "relatime", "ro"]))
    return found


def _mount(destination: str, kind: str, options: Sequence[str]) -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": kind, "options": list(options)}


def image_of(content: bytes) -> ImageConfig:
    """Returns what the configuration of an image says. Raises ValueError."""
    return msgspec.json.decode(content, type=Image).config or ImageConfig()
