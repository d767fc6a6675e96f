"""What the commands of plugins change is in the audit trail, like what requests change."""

import json
import subprocess
from pathlib import Path

from tests.server import DRIFT
from tests.tools import ROOT

SETTINGS = ('auth.chain=["token", "basic"]', "rbac.enabled=true", "audit.enabled=true")


def drift(folder: Path, *arguments: str, typed: str = "") -> str:
    options = [part for setting in (*SETTINGS, f"storage.path={folder}") for part in ("--set", setting)]
    done = subprocess.run(
        [str(DRIFT), *arguments, *options], cwd=ROOT, input=typed, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_commands_change_is_in_the_trail(tmp_path: Path) -> None:
    drift(tmp_path, "user", "add", "ann", "--password-stdin", typed="a long password\n")
    drift(tmp_path, "rbac", "user", "add", "ann")
    drift(tmp_path, "rbac", "role", "grant", "ann", "admin")
    drift(tmp_path, "token", "create", "ann")
    drift(tmp_path, "user", "disable", "ann")
    records = [json.loads(line) for line in drift(tmp_path, "audit", "list", "--json").splitlines()]
    told = [(one["event_type"], one["resource"]["type_"], one["resource"]["id"]) for one in records]
    assert [kind for kind, _, _ in told if kind.startswith("Service")] == []
    assert sorted(kind for kind, _, _ in told) == sorted(
        ["UserCreated", "UserCreated", "RoleAssigned", "UserModified", "TokenIssued", "UserModified"]
    )
    assert "long password" not in json.dumps(records)
    drift(tmp_path, "audit", "verify")
