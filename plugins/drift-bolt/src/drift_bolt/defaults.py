"""The five profiles that Bolt has built in, published once so that a new registry is not empty."""

from typing import Any, Final

import msgspec
from sqlalchemy import Connection, select

from drift_bolt.catalog import add
from drift_bolt.model import ProfileUpload
from drift_bolt.tables import totals

AUTHOR: Final = "drift"

_SEEDED: Final = "seeded"

# name, description, priority, governor, cpu priority, affinity, boost,
# nvidia (dlss, reflex, power, memory, core), amd (rocm, power), memory (all three),
# network, latency and not batching, scheduler, read ahead, conditions, tags
_ROWS: Final[tuple[tuple[Any, ...], ...]] = (
    (
        *("steam-gaming", "For games from Steam: full clocks, and nothing that makes a frame late", 100),
        *("Performance", 10, "Gaming", True, (True, True, 100, 500, 100), (True, 100), True),
        *("Gaming", True, "Mq_deadline", 256, ({"GpuVendor": "Nvidia"},), ("gaming", "steam")),
    ),
    (
        *("competitive-gaming", "For tournaments: least latency, whatever it costs in power", 120),
        *("Performance", 19, "Isolated", True, (False, True, 110, 1000, 200), None, True),
        *("Critical", True, "None", 0, (), ("gaming", "competitive", "low-latency")),
    ),
    (
        *("streaming", "For playing and encoding at the same time, with some of everything left over", 80),
        *("Ondemand", 5, "Balanced", True, (True, False, 95, 300, 50), None, False),
        *("Streaming", False, "Cfq", 512, (), ("streaming", "recording")),
    ),
    (
        *("ai-ml", "For training and inference: memory that stays, and large reads", 90),
        *("Performance", 0, "NumaAware", True, (False, False, 110, 0, 0), (True, 100), True),
        *("Background", False, "Noop", 1024, ({"MemoryGb": 8},), ("ai", "compute")),
    ),
    (
        *("development", "For building software beside other work", 60),
        *("Ondemand", 0, "Balanced", False, None, None, False),
        *("Background", False, "Cfq", 128, (), ("development",)),
    ),
)


def uploads() -> list[ProfileUpload]:
    """Returns the profiles as somebody would upload them."""
    return [_upload(*row) for row in _ROWS]


def _upload(
    name: str,
    description: str,
    priority: int,
    governor: str,
    cpu_priority: int,
    affinity: str,
    boost: bool,
    nvidia: tuple[Any, ...] | None,
    amd: tuple[Any, ...] | None,
    memory: bool,
    network: str,
    latency: bool,
    scheduler: str,
    read_ahead: int,
    conditions: tuple[Any, ...],
    tags: tuple[str, ...],
) -> ProfileUpload:
    nvidia_keys = ("dlss", "reflex", "power_limit", "memory_clock_offset", "core_clock_offset")
    amd_keys = ("rocm_optimization", "power_limit")
    profile: dict[str, Any] = {
        "name": name,
        "description": description,
        "priority": priority,
        "cpu_optimizations": {
            "governor": governor,
            "priority": cpu_priority,
            "affinity": affinity,
            "boost": boost,
        },
        "gpu_optimizations": {
            "nvidia": None if nvidia is None else dict(zip(nvidia_keys, nvidia, strict=True)),
            "amd": None if amd is None else dict(zip(amd_keys, amd, strict=True)),
        },
        "memory_optimizations": dict.fromkeys(("huge_pages", "swap_disabled", "page_lock"), memory),
        "network_optimizations": {
            "priority": network,
            "latency_optimization": latency,
            "packet_batching": not latency,
        },
        "storage_optimizations": {"io_scheduler": scheduler, "read_ahead": read_ahead},
        "conditions": conditions,
    }
    metadata: dict[str, Any] = {
        "author_email": "",
        "license": "MIT",
        "tags": tags,
        "compatible_games": (),
        "system_requirements": {"supported_os": ("linux",)},
    }
    return msgspec.convert({"profile": profile, "metadata": metadata}, ProfileUpload)


def are_wanted(db: Connection) -> bool:
    """Says whether they were never published here."""
    return db.execute(select(totals.c.value).where(totals.c.name == _SEEDED)).scalar_one_or_none() is None


def are_there(db: Connection) -> None:
    """Writes that they were: whoever deletes one does not want it back."""
    if are_wanted(db):
        add(db, _SEEDED, 1)
