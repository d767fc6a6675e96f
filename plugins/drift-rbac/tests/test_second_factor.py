"""An organization that was kept with ``require_2fa`` before that was refused: told at the start, and not in the way."""

from typing import Any

import msgspec
import pytest
from drift_rbac import edits
from drift_rbac.directory import Difference
from drift_rbac.entities import Organization, Settings
from drift_rbac.errors import EntityInvalid
from drift_rbac.tables import read_revision, write_differences
from structlog.testing import capture_logs

from drift_core.api import Records

KEPT = Organization(id="acme", settings=Settings(require_2fa=True))


@pytest.fixture
async def older(records: Records) -> None:
    """What an older version has let in."""
    revision = await records.read(read_revision)
    kept = [Difference("organizations", KEPT.id, None, KEPT)]
    await records.write(lambda db: write_differences(db, revision, kept))


async def test_what_was_kept_is_told_and_can_be_changed(older: None, open_policy: Any) -> None:
    del older
    with capture_logs() as logs:
        async with open_policy() as rbac:
            assert await rbac.editor.change(edits.modify(Organization, "acme", {"name": "Acme"}), None)
            none = msgspec.structs.replace(KEPT.settings, require_2fa=False)
            assert await rbac.editor.change(edits.modify(Organization, "acme", {"settings": none}), None)
            with pytest.raises(EntityInvalid, match="require_2fa"):
                await rbac.editor.change(edits.modify(Organization, "acme", {"settings": KEPT.settings}), None)
    assert [line["organizations"] for line in logs if "require_2fa" in line["event"]] == [["acme"]]
    with capture_logs() as logs:
        async with open_policy():
            pass
    assert not [line for line in logs if "require_2fa" in line["event"]]
