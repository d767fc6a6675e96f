"""A sweep that is killed with SIGKILL at any of its steps is completed by the next: bytes and records agree."""

import subprocess
import sys
from pathlib import Path

from tests.faults.inspection import PATIENCE
from tests.tools import ROOT


def test_a_sweep_is_completed_after_a_kill_at_each_step(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.collection.sweep", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=5 * PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    # The beginning of the run, each batch, its end, and each of the five blobs.
    assert int(done.stdout.splitlines()[-1]) > 10, done.stdout
