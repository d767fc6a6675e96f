"""More workers do not mean more guesses, and one that dies gives none back: a real server is asked."""

import os
import signal
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.server import Server

PASSWORD = "correct-horse-battery"
GUESSES = 5
WORKERS = 4
PATIENCE = 30.0


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = (
        'auth.mode="basic"',
        f'auth.basic.users=["ann:{PASSWORD}", "ben:{PASSWORD}"]',
        f"auth.basic.failures_per_user={GUESSES}",
    )
    with Server(tmp_path_factory.mktemp("guessing"), *settings, workers=WORKERS) as server:
        yield server


def test_all_workers_count_together(server: Server) -> None:
    with httpx.Client(timeout=PATIENCE, limits=httpx.Limits(max_keepalive_connections=0)) as http:

        def tried(name: str, password: str) -> int:
            return http.get(f"{server.url}/v2/", auth=(name, password)).status_code

        # Each has a connection of its own, and so any of the workers.
        guesses = [tried("ann", f"guess {number}") for number in range(6 * WORKERS)]
        assert guesses == [401] * GUESSES + [429] * (6 * WORKERS - GUESSES)
        assert {tried("ann", PASSWORD) for _ in range(4 * WORKERS)} == {429}
        assert {tried("ben", PASSWORD) for _ in range(WORKERS)} == {200}
        before = set(server.workers())
        for worker in before:
            os.kill(worker, signal.SIGKILL)
        deadline = time.monotonic() + PATIENCE
        while len(set(server.workers()) - before) < WORKERS or not _is_ready(http, server):
            assert time.monotonic() < deadline, "no worker has taken their place"
            time.sleep(0.1)
        assert tried("ann", "another guess") == 429
        assert tried("ben", PASSWORD) == 200


def _is_ready(http: httpx.Client, server: Server) -> bool:
    try:
        return http.get(f"{server.url}/readyz").status_code == 200
    except httpx.TransportError:
        return False
