"""The kit's rules of every plugin."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from drift_audit import plugin
from drift_audit.auditor import AuditTrail
from drift_audit.config import (
    AuditConfig,
    ElasticsearchExport,
    FileExport,
    SyslogExport,
    WebhookExport,
)
from drift_audit.verification import Verification

from drift_core.api import AuditEvent, Secret, Services
from drift_core.conformance import ModuleSuite, open_records, services
from drift_core.conformance.suites.plugin import Use


class TestPlugin(ModuleSuite):
    offers = plugin

    @pytest.fixture
    async def services(self) -> AsyncIterator[Services]:  # type: ignore[override]
        async with open_records("audit", "drift_audit.migrations") as records:
            yield services("audit", records=records)

    @pytest.fixture
    def configs(self, tmp_path: Path) -> tuple[AuditConfig, AuditConfig]:
        key = str(tmp_path / "key")
        sinks = {
            "file_export": FileExport(path=str(tmp_path / "audit.csv"), format="csv"),
            "webhook_export": WebhookExport(
                url="http://127.0.0.1:9/", headers={"x-key": Secret("1")}, secret=Secret("s")
            ),
            "elasticsearch_export": ElasticsearchExport(
                url="http://127.0.0.1:9", username="drift", password=Secret("p")
            ),
            "syslog_export": SyslogExport(address="127.0.0.1:9", protocol="tcp"),
        }
        return (
            AuditConfig(enabled=True, key_file=key, retention_days=1),
            AuditConfig(enabled=True, key_file=key, required=False, exclude_patterns=("x",), **sinks),
        )

    @pytest.fixture
    def use(self) -> Use:
        async def record_and_verify(trail: AuditTrail) -> None:
            await trail.note(AuditEvent(type="Login"))
            await trail.records.write(lambda db: trail.record(db, AuditEvent(type="UserCreated")))
            verification = Verification(trail.records, trail.key)
            assert [left async for left in verification.run()] == []
            assert verification.found is None
            assert verification.reached.sequence > 0

        return record_and_verify
