"""The application for other servers: what it logs shows no more than what `drift serve` logs."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import structlog
from drift_core.api import create_app
{before}
create_app({{"auth": {{"mode": "none"}}, "storage": {{"path": {path!r}}}}})
def fail(token):
    raise ValueError("failed")
try:
    fail("SECRET-OF-SOMEBODY")
except ValueError:
    structlog.get_logger("test").exception("it failed")
"""
OWN = "structlog.configure(processors=[lambda *_: 'mine'])"


def logged(folder: Path, before: str = "") -> str:
    program = PROGRAM.format(before=before, path=str(folder))
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return done.stdout + done.stderr


def test_a_traceback_shows_no_values(tmp_path: Path) -> None:
    said = logged(tmp_path)
    assert "it failed" in said
    assert "SECRET-OF-SOMEBODY" not in said.replace('fail("SECRET-OF-SOMEBODY")', "")


def test_who_has_logs_of_their_own_keeps_them(tmp_path: Path) -> None:
    assert logged(tmp_path, OWN).strip() == "mine"
