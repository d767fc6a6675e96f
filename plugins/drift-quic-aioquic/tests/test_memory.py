"""What a process costs in memory, as the kernel counts it, while clients do their worst."""

import subprocess
import time

from drift_quic_aioquic.connection import UNSENT_LEAST, UNSENT_OF_ALL

from drift_core.conformance.suites.transport import MIB
from tests.oci.content import unique_blob

from .gateway_process import command
from .real_server import Both, resident

READERS = 200
STATE_BYTES = 24 << 10


def test_many_slow_readers(each: Both) -> None:
    """200 answers of 4 MB on one connection, each read at 10 kB/s, cost what the settings let wait, and no more."""
    blob = unique_blob(4_000_000)
    each.push("quic/slow", blob)
    workers = each.server.workers()
    for _ in range(2):
        each.quic("-path", f"/v2/quic/slow/blobs/{blob.digest}", "-parallel", "4")
    before = {worker: resident(worker) for worker in workers}
    arguments = ("-path", f"/v2/quic/slow/blobs/{blob.digest}", "-parallel", str(READERS), "-rate", "10000")
    highest = 0
    with subprocess.Popen(command(each.ca_file, each.port, *arguments), stdout=subprocess.DEVNULL) as client:
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            highest = max(highest, sum(resident(worker) - before[worker] for worker in workers))
            time.sleep(0.1)
        assert client.poll() is None
        client.kill()
    # What waits of each, the piece of its file that comes next, and what a request is besides.
    assert MIB < highest < UNSENT_OF_ALL + READERS * (UNSENT_LEAST + UNSENT_LEAST // 2 + STATE_BYTES)
    assert each.quic("-path", "/health")[0]["status"] == 200
