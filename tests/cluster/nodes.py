"""Nodes of one registry: each a real `drift serve`, all of one database and one bucket, behind a balancer."""

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import httpx

from tests.cluster.balancer import Balancer
from tests.faults.inspection import PATIENCE, eventually
from tests.server import Server


class Node(Server):
    """One node, of one worker unless told otherwise; ``prefix`` is what its command line begins with."""

    def __init__(
        self,
        folder: Path,
        *settings: str,
        workers: int = 1,
        address: str = "127.0.0.1",
        prefix: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(folder, *settings, f"cluster.node_id={folder.name}", workers=workers, address=address)
        self.prefix = tuple(prefix)
        self.variables = dict(variables or {})

    def command(self) -> list[str]:
        return [*self.prefix, *super().command()]

    def environment(self) -> dict[str, str]:
        return super().environment() | self.variables

    def kill(self) -> None:
        super().kill()
        # Its process id may soon be somebody else's.
        self.process = None

    def pause(self) -> None:
        """Stops every process of the node where it is, as a machine does that is suspended."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGCONT)

    @property
    def name(self) -> str:
        """What the cluster and the balancer call it."""
        return self.folder.name

    def cluster(self) -> dict[str, Any]:
        """Returns what the node says of all nodes. Raises `httpx.HTTPError` where it does not answer."""
        answer = httpx.get(f"{self.url}/admin/cluster", timeout=10)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found


class Cluster:
    """Equal nodes and a balancer before them; nothing of it is left after the ``with`` block."""

    def __init__(self, folder: Path, nodes: Sequence[Node]) -> None:
        self.nodes = list(nodes)
        self.balancer = Balancer(folder / "balancer", self.nodes)

    @property
    def url(self) -> str:
        return self.balancer.url

    def __enter__(self) -> Self:
        """Starts every node at the same moment, on a database that may be empty."""
        try:
            with ThreadPoolExecutor(len(self.nodes)) as pool:
                list(pool.map(lambda node: node.start(PATIENCE), self.nodes))
            self.balancer.__enter__()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with ExitStack() as every:
            for node in self.nodes:
                if node.process is not None:
                    every.callback(node.kill)
            every.callback(self.balancer.__exit__)

    def others(self, node: Node) -> list[Node]:
        return [other for other in self.nodes if other is not node]

    def leader(self) -> Node:
        """Returns the node that leads, once all of them say so."""
        return self._agreed(self.nodes, self.nodes)

    def successor(self, old: Node) -> Node:
        """Returns the node that leads in place of another, once all but that one say so."""
        return self._agreed(self.others(old), self.others(old))

    def _agreed(self, asked: Sequence[Node], candidates: Sequence[Node]) -> Node:
        found: list[Node] = []

        def agree() -> bool:
            names = {leading(node.cluster()) for node in asked}
            found[:] = [node for node in candidates if {node.name} == names]
            return bool(found)

        eventually(agree, "a node that leads")
        return found[0]

    def all_stand(self) -> bool:
        """Says whether the balancer sends requests to every node."""
        return all(self.balancer.standing().values())

    def whole(self) -> None:
        """Waits until the balancer sends requests to every node."""
        eventually(self.all_stand, "every node behind the balancer")


def leading(cluster: Mapping[str, Any]) -> str | None:
    """Returns the name of the node that leads in what one of them says, None where nobody does."""
    return next((node["node_id"] for node in cluster["nodes"] if node["role"] == "Leader"), None)


def tracebacks(nodes: Sequence[Node]) -> Iterator[str]:
    """Yields the lines of the nodes' logs that tell of what nobody expected."""
    for node in nodes:
        for line in node.log.read_text().splitlines():
            if "Traceback" in line or "request failed" in line or '"status": 500' in line:
                yield f"{node.name}: {line}"
