"""Profiles, plugins and libraries that tests upload."""

import struct
import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.tools import tool

LIBRARY = "int create_plugin(void) { return 42; }\n"


def profile(name: str = "", /, **changes: Any) -> dict[str, Any]:
    """Returns a profile as serde writes it: every option is there, null where it is not set."""
    return {
        "name": name,
        "description": "own example",
        "priority": 70,
        "cpu_optimizations": {"governor": "Schedutil", "priority": None, "affinity": None, "boost": None},
        "gpu_optimizations": {"nvidia": None, "amd": {"rocm_optimization": None, "power_limit": 90}},
        "memory_optimizations": {"huge_pages": None, "swap_disabled": None, "page_lock": None},
        "network_optimizations": {"priority": "Gaming", "latency_optimization": None, "packet_batching": None},
        "storage_optimizations": {"io_scheduler": "Mq_deadline", "read_ahead": None},
        "conditions": [{"GpuVendor": "Amd"}, {"MemoryGb": 16}],
        **changes,
    }


def metadata(**changes: Any) -> dict[str, Any]:
    """Returns what is said of a profile."""
    requirements = {
        "min_cpu_cores": 4,
        "min_memory_gb": None,
        "min_gpu_memory_gb": None,
        "required_gpu_vendor": "amd",
        "supported_os": ["linux"],
    }
    return {
        "author_email": "ann@example.org",
        "license": None,
        "repository": None,
        "documentation": None,
        "tags": ["example", "amd"],
        "compatible_games": ["Some Game 2"],
        "system_requirements": requirements,
        **changes,
    }


def plugin(name: str, version: str = "0.1.0", /, **changes: Any) -> dict[str, Any]:
    """Returns the manifest of a plugin."""
    return {
        "name": name,
        "version": version,
        "author": "Ann",
        "description": "own example of a plugin",
        "plugin_type": "GpuOptimization",
        "entry_point": "libexample.so",
        "dependencies": [],
        "permissions": ["GpuAccess"],
        "supported_gpus": ["Amd"],
        **changes,
    }


def about(*platforms: str, **changes: Any) -> dict[str, Any]:
    """Returns what is said of a plugin."""
    return {
        "author_email": "ann@example.org",
        "license": "MIT",
        "repository": "https://example.org/plugin",
        "documentation": None,
        "supported_platforms": list(platforms or ("linux-x86_64", "linux-aarch64")),
        **changes,
    }


@cache
def library(source: str = LIBRARY) -> bytes:
    """Returns a shared library of this machine, made by its compiler."""
    with TemporaryDirectory() as folder:
        code, made = Path(folder) / "plugin.c", Path(folder) / "plugin.so"
        code.write_text(source)
        subprocess.run([tool("cc"), "-shared", "-fPIC", "-nostdlib", "-o", made, code], check=True)
        return made.read_bytes()


def for_machine(machine: int, content: bytes | None = None) -> bytes:
    """Returns a library that says to be for another machine (ELF, "e_machine", at byte 18)."""
    content = library() if content is None else content
    return content[:18] + struct.pack("<H", machine) + content[20:]
