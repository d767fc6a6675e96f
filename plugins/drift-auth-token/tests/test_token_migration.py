"""What was granted before Drift kept which authenticator knows the owner is kept, and as good as can be known."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import drift_auth_token.migrations
import pytest
from drift_auth_token.grants import Grants
from sqlalchemy import Connection, MetaData, Table, insert

from drift_core.api import Records
from drift_core.conformance import Trail, open_records

OLD: dict[str, Any] = {"groups": "[]", "roles": "[]", "title": "", "secret": "-", "created": 1.0, "created_by": "ann"}
ROWS = [
    OLD | {"id": f"{place:016x}", "kind": kind, "name": name, "source": source}
    for place, (kind, name, source) in enumerate(
        [("pat", "ann", "token"), ("login", "ann", "basic"), ("docker", "ann", "github"), ("login", "ann", "token")]
    )
]


@pytest.fixture
def first_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The migrations as they were."""
    folder = tmp_path / "first_version_of_tokens"
    folder.mkdir()
    for file in ("__init__.py", "0001_tokens.py"):
        shutil.copy(Path(drift_auth_token.migrations.__path__[0]) / file, folder)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    yield folder.name
    sys.modules.pop(folder.name, None)


async def test_owners_of_what_there_was(first_version: str, tmp_path: Path, database_url: str | None) -> None:
    url = database_url or f"sqlite:///{tmp_path / 'drift.db'}"

    def write(db: Connection) -> None:
        db.execute(insert(Table("auth_token__grants", MetaData(), autoload_with=db)), ROWS)

    async with open_records("auth-token", first_version, url) as records:
        await records.write(write)
    async with open_records("auth-token", "drift_auth_token.migrations", url) as records:
        assert await _accounts(records) == [None, "basic", "github", None]


async def _accounts(records: Records) -> list[str | None]:
    grants = Grants(records, Trail())
    found = [await grants.find(row["id"]) for row in ROWS]
    owners = [await grants.owner(grant) for grant in found if grant is not None]
    return [owner.source for owner in owners if owner is not None]
