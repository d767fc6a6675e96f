"""A plugin that is told of every push and writes down what it heard: which event, and in which process."""

from pathlib import Path
from typing import NamedTuple

from tests.cluster.nodes import Node
from tests.plugins.installation import Installation

SOURCE = '''
"""Writes a line for each event that this process is told of."""

import os
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from drift_core.api import Driver, Event, Feature, Services, Struct, hookimpl


class RecorderConfig(Struct, forbid_unknown_fields=True):
    file: str


class Recorder:
    name = "recorder"
    subscribed = ("manifest.push",)

    def __init__(self, path: Path) -> None:
        self._path = path

    async def on_event(self, event: Event) -> None:
        with self._path.open("a") as file:
            file.write(f"{event.id} {os.getpgrp()} {event.repository} {event.digest}\\n")


@asynccontextmanager
async def open_recorder(config: RecorderConfig, services: Services) -> AsyncIterator[Recorder]:
    yield Recorder(Path(config.file))


@hookimpl
def drift_features() -> Iterable[Driver[Feature]]:
    return [Driver("recorder", RecorderConfig, open_recorder)]
'''


class Told(NamedTuple):
    """One event that a node told the plugin of; ``group`` is the process group of the node."""

    event: int
    group: int
    repository: str
    digest: str


class Recorder:
    """The plugin in a folder of its own, and the file into which the plugin of every node writes."""

    def __init__(self, folder: Path) -> None:
        Installation(folder).add("drift-recorder", {"recorder": "drift_recorder"}, {"drift_recorder": SOURCE})
        self.variables = {"PYTHONPATH": str(folder)}
        self._file = folder / "events"
        self.setting = f"recorder.file={self._file}"

    def told(self) -> list[Told]:
        """Returns what was told so far, in that order."""
        if not self._file.exists():
            return []
        lines = (line.split() for line in self._file.read_text().splitlines())
        return [Told(int(event), int(group), repository, digest) for event, group, repository, digest in lines]

    def told_by(self, node: Node) -> list[Told]:
        assert node.process is not None
        return [told for told in self.told() if told.group == node.process.pid]
