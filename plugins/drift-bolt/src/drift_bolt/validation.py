"""The limits that Bolt itself sets for profiles, and those that a repository's name and a file's name set."""

import re
from collections.abc import Iterable

from drift_bolt.model import OptimizationProfile, PluginManifest, PluginUploadMetadata, ProfileUploadMetadata
from drift_bolt.problems import Invalid

NAME = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
"""A part of a repository's name (distribution specification, "Pulling manifests")."""

RESERVED = frozenset({"search", "upload"})
"""Names whose paths are taken."""

VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,127}")
"""A version of a plugin, which becomes a tag; SemVer's build metadata (``+``) cannot be one."""

LONGEST_NAME = 64
LARGEST_PRIORITY = 1000
LARGEST_POWER = 150
MEMORY_OFFSET = 2000
CORE_OFFSET = 1000
NICE = (-20, 19)
LONGEST_TEXT = 10_000
"""Characters of a description."""
LONGEST_WORD = 255
"""Characters of a tag, a game, or another short text."""
MOST_WORDS = 100
LONGEST_FILE_NAME = 255
"""Bytes of a file's name, for Linux and for what Bolt writes it to."""


def findable(word: str | None) -> bool:
    """Says whether a word may be in the database: PostgreSQL has no text with a zero, and refuses to look for one."""
    return word is None or "\0" not in word


def check_name(name: str) -> str:
    """Returns a name that is the last part of a repository's. Raises `Invalid`."""
    if len(name.encode()) > LONGEST_NAME or NAME.fullmatch(name) is None or name in RESERVED:
        message = f"a name has 1 to {LONGEST_NAME} bytes: lower-case letters and digits, with '.', '_' or '-' between"
        raise Invalid(message, name=name[:256], reserved=sorted(RESERVED))
    return name


def check_profile(profile: OptimizationProfile, *, limits: bool = True) -> None:
    """Raises `Invalid` for a profile that Bolt refuses; without ``limits`` only for one that cannot be stored."""
    check_name(profile.name)
    _short("description", profile.description, LONGEST_TEXT)
    if not limits:
        return
    if not profile.description:
        raise Invalid("the description is empty", field="profile.description")
    _within("priority", profile.priority, 0, LARGEST_PRIORITY)
    _within("cpu_optimizations.priority", profile.cpu_optimizations.priority, *NICE)
    if (nvidia := profile.gpu_optimizations.nvidia) is not None:
        _within("gpu_optimizations.nvidia.power_limit", nvidia.power_limit, 0, LARGEST_POWER)
        offset = nvidia.memory_clock_offset
        _within("gpu_optimizations.nvidia.memory_clock_offset", offset, -MEMORY_OFFSET, MEMORY_OFFSET)
        offset = nvidia.core_clock_offset
        _within("gpu_optimizations.nvidia.core_clock_offset", offset, -CORE_OFFSET, CORE_OFFSET)


def check_profile_metadata(metadata: ProfileUploadMetadata) -> None:
    """Raises `Invalid` for what cannot be kept or searched."""
    _words("tags", metadata.tags)
    _words("compatible_games", metadata.compatible_games)
    requirements = metadata.system_requirements
    _words("supported_os", requirements.supported_os)
    _short("required_gpu_vendor", requirements.required_gpu_vendor or "", LONGEST_WORD)
    _shorts(author_email=metadata.author_email, license=metadata.license, repository=metadata.repository)
    _shorts(documentation=metadata.documentation)


def check_plugin(manifest: PluginManifest, metadata: PluginUploadMetadata) -> None:
    """Raises `Invalid`, also where the library would be written to a place of the plugin's choice."""
    check_name(manifest.name)
    if VERSION.fullmatch(manifest.version) is None:
        message = "a version has 1 to 128 letters, digits, '.', '_' and '-', and no '.', '_' or '-' first"
        raise Invalid(message, field="manifest.version", version=manifest.version[:256])
    entry = manifest.entry_point
    if entry in ("", ".", "..", "plugin.toml") or any(mark in entry for mark in "/\\\0") or not entry.isprintable():
        raise Invalid("entry_point is not a plain file name", field="manifest.entry_point", entry_point=entry[:256])
    if len(entry.encode()) > LONGEST_FILE_NAME:
        raise Invalid(f"entry_point has more than {LONGEST_FILE_NAME} bytes", field="manifest.entry_point")
    _shorts(author=manifest.author, author_email=metadata.author_email, license=metadata.license)
    _shorts(repository=metadata.repository, documentation=metadata.documentation)
    _short("description", manifest.description, LONGEST_TEXT)
    _words("dependencies", manifest.dependencies)
    _words("supported_platforms", metadata.supported_platforms)
    for name, values in (("permissions", manifest.permissions), ("supported_gpus", manifest.supported_gpus)):
        if len(values) > MOST_WORDS:
            raise Invalid(f"{name} has more than {MOST_WORDS} entries", field=name)


def _within(field: str, value: int | None, least: int, most: int) -> None:
    if value is not None and not least <= value <= most:
        raise Invalid(f"{field} is not within {least} and {most}", field=f"profile.{field}", value=value)


def _words(field: str, words: Iterable[str]) -> None:
    for number, word in enumerate(words):
        if number >= MOST_WORDS:
            raise Invalid(f"{field} has more than {MOST_WORDS} entries", field=field)
        _short(field, word, LONGEST_WORD)


def _shorts(**texts: str | None) -> None:
    for field, text in texts.items():
        _short(field, text or "", LONGEST_WORD)


def _short(field: str, text: str, most: int) -> None:
    if len(text) > most:
        raise Invalid(f"{field} has more than {most} characters", field=field)
    if not findable(text):
        raise Invalid(f"{field} has a character that no text may have", field=field)
