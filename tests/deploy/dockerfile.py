"""What the Dockerfile says of the container: read from its last stage."""

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from tests.tools import ROOT

DOCKERFILE = ROOT / "examples/deploy/container/Dockerfile"


@dataclass(frozen=True)
class Image:
    """What a container begins with, when nothing else is said."""

    entrypoint: list[str]
    command: list[str]
    health: list[str]
    environment: dict[str, str]
    user: str
    folder: str


def instructions(file: Path = DOCKERFILE) -> list[tuple[str, str]]:
    """Returns each instruction with its arguments, lines that go on joined."""
    text = re.sub(r"\\\n\s*", "", "\n".join(line for line in file.read_text().splitlines() if line[:1] != "#"))
    parts = [line.partition(" ") for line in text.splitlines() if line]
    return [(name, arguments.strip()) for name, _, arguments in parts]


def image() -> Image:
    """Returns what the last stage says; each instruction but ENV stands there once."""
    every = instructions()
    last = max(place for place, (name, _) in enumerate(every) if name == "FROM")
    stage = every[last:]
    said = dict(stage)
    return Image(
        json.loads(said["ENTRYPOINT"]),
        json.loads(said["CMD"]),
        json.loads(said["HEALTHCHECK"].partition("CMD ")[2]),
        dict(pair.split("=", 1) for name, text in stage if name == "ENV" for pair in shlex.split(text)),
        said["USER"],
        said["WORKDIR"],
    )
