"""What plugins cost a pull: Drift with 0, 1 and 10 features installed, in turn; `python -m benchmarks.framework`.

Each feature has a gate and a subscriber for pushes, and a route: none of it concerns a pull.
"""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from benchmarks.warm_pull import Puller, compare
from tests.plugins.installation import Installation
from tests.server import Server

COUNTS = (0, 1, 10)

FEATURE = """
from contextlib import asynccontextmanager
from drift_core.api import Driver, Struct, hookimpl

class Config(Struct, forbid_unknown_fields=True):
    pass

class Extra:
    name = "{name}"
    gated = ("manifest.push", "blob.push")
    subscribed = ("manifest.push",)
    async def admit(self, change):
        pass
    async def on_event(self, event):
        pass
    def routes(self):
        from litestar import get
        @get("/{name}", sync_to_thread=False)
        def extra() -> None:
            pass
        return [extra]

@asynccontextmanager
async def open_extra(config, services):
    yield Extra()

@hookimpl
def drift_features():
    return [Driver("{name}", Config, open_extra)]
"""


@contextmanager
def served(folder: Path, features: int) -> Iterator[Server]:
    """Runs one worker with so many features."""
    installation = Installation(folder / "site")
    installation.folder.mkdir(parents=True)
    for number in range(features):
        name = f"extra{number}"
        installation.add(f"acme-{name}", {name: f"acme_{name}"}, {f"acme_{name}": FEATURE.format(name=name)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(installation.folder))
        server = Server(folder / "server", "logging.level=warning", workers=1).start()
    try:
        yield server
    finally:
        server.stop()


def main() -> None:
    """Prints the table."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        servers = {str(count): stack.enter_context(served(Path(folder) / str(count), count)) for count in COUNTS}
        compare("Features", {name: Puller(server) for name, server in servers.items()})


if __name__ == "__main__":
    main()
