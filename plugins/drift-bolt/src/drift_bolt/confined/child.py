"""The work of one process: reads the library that is its standard input, and says what it is.

Nothing of the library runs. It is started anew for each one, so that what a hostile file does to it ends with it.
"""

import ctypes
import json
import os
import resource
import signal
import struct
import sys
from typing import IO, Any

CREATES = "create_plugin"
"""What Bolt calls to load a plugin."""

MACHINES = {
    "EM_X86_64": "x86_64",
    "EM_AARCH64": "aarch64",
    "EM_386": "i686",
    "EM_ARM": "armv7",
    "EM_RISCV": "riscv64gc",
}
PE_MACHINES = {0x8664: "x86_64", 0xAA64: "aarch64", 0x014C: "i686"}
MACH_O_MACHINES = {0x01000007: "x86_64", 0x0100000C: "aarch64"}
MOST_SYMBOLS = 1_000_000
_PR_SET_PDEATHSIG = 1


class NotALibraryError(Exception):
    """The file is none that Bolt could load; the message says why."""


def main() -> None:
    """Prints what the library is, or why it is none, as one JSON object."""
    limits: dict[str, int] = json.loads(sys.argv[2])
    try:
        confine(limits["memory_bytes"], limits["seconds"])
        with os.fdopen(0, "rb", closefd=False) as file:
            result = look(file)
    except NotALibraryError as error:
        result = {"reason": str(error)}
    except MemoryError:
        result = {"reason": f"to read it needs more than {limits['memory_bytes']} bytes of memory"}
    except Exception as error:  # noqa: BLE001 - whatever a damaged file does to the parser, it is no library
        result = {"reason": f"it is damaged: {type(error).__name__}: {error}"[:500]}
    os.write(1, json.dumps(result).encode())


def confine(memory: int, seconds: int) -> None:
    """Bounds memory in bytes and CPU in seconds, lets nothing be written, and gives way to other work."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    os.nice(19)
    if sys.platform == "linux":
        # The kernel ends it with the server; within a sandbox that is the sandbox's own work.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def look(file: IO[bytes]) -> dict[str, Any]:
    """Returns the platform of a library, and whether it exports what Bolt calls, None where nobody looks."""
    magic = file.read(4)
    if magic == b"\x7fELF":
        return _elf(file)
    if magic[:2] == b"MZ":
        return {"system": "windows", "machine": _pe(file), "exports": None}
    if magic in (b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe"):
        (kind,) = struct.unpack("<I", _exactly(file, 4))
        return {"system": "macos", "machine": _known(MACH_O_MACHINES, kind), "exports": None}
    raise NotALibraryError("it is neither an ELF, a PE nor a Mach-O file")


def _elf(file: IO[bytes]) -> dict[str, Any]:
    """ELF: System V Application Binary Interface, "ELF Header" and "Dynamic Linking"."""
    from elftools.elf.dynamic import DynamicSegment  # noqa: PLC0415 - other formats do without
    from elftools.elf.elffile import ELFFile  # noqa: PLC0415

    file.seek(0)
    elf: Any = ELFFile(file)
    if elf["e_type"] != "ET_DYN":
        raise NotALibraryError("it is an ELF file, but no shared library")
    machine = _known(MACHINES, elf["e_machine"])
    for segment in elf.iter_segments():
        if isinstance(segment, DynamicSegment):
            return {"system": "linux", "machine": machine, "exports": _exports(segment)}
    raise NotALibraryError("it has no dynamic segment, and cannot be loaded")


def _exports(segment: Any) -> bool:
    for number, symbol in enumerate(segment.iter_symbols()):
        if number > MOST_SYMBOLS:
            raise NotALibraryError(f"it has more than {MOST_SYMBOLS} symbols")
        defined = symbol["st_shndx"] != "SHN_UNDEF" and symbol["st_info"]["bind"] in ("STB_GLOBAL", "STB_WEAK")
        if symbol.name == CREATES and defined and symbol["st_info"]["type"] == "STT_FUNC":
            return True
    return False


def _pe(file: IO[bytes]) -> str:
    """PE: Microsoft's "PE Format", "Signature" and "COFF File Header"."""
    file.seek(0x3C)
    (start,) = struct.unpack("<I", _exactly(file, 4))
    file.seek(start)
    signature, machine = struct.unpack("<4sH", _exactly(file, 6))
    if signature != b"PE\0\0":
        raise NotALibraryError("it begins as a PE file, and is none")
    return _known(PE_MACHINES, machine)


def _exactly(file: IO[bytes], size: int) -> bytes:
    content = file.read(size)
    if len(content) < size:
        raise NotALibraryError("it is cut short")
    return content


def _known(machines: dict[Any, str], machine: object) -> str:
    if machine not in machines:
        raise NotALibraryError(f"it is for a machine that is not known: {machine}")
    return machines[machine]
