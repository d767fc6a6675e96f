"""The keys of ``[audit]``: what the how-to shows loads, and what would send records astray does not."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from drift_audit.config import AuditConfig

from drift_core.api import Secret
from drift_core.config import Config, ConfigError, load
from tests.tools import ROOT

PAGE = ROOT / "docs/how-to/audit.md"
README = ROOT / "plugins/drift-audit/README.md"
VARIABLES = ("AUDIT_WEBHOOK_SECRET", "AUDIT_WEBHOOK_AUTHORIZATION", "AUDIT_ELASTICSEARCH_PASSWORD")

EXAMPLES = [text for page in (PAGE, README) for text in re.findall(r"```toml\n(.*?)```", page.read_text(), re.DOTALL)]


def loaded(text: str, folder: Path, environ: dict[str, str]) -> Config:
    file = folder / "drift.toml"
    file.write_text(text)
    return load(file, environ, ())


@pytest.mark.parametrize("text", EXAMPLES)
def test_the_examples_load(tmp_path: Path, text: str) -> None:
    config = loaded(text, tmp_path, dict.fromkeys(VARIABLES, "value of a secret"))
    audit = config.section("audit", AuditConfig)
    assert audit.enabled
    assert "value of a secret" not in repr(audit)
    assert "value of a secret" not in str(config.redacted({"audit": (AuditConfig,)}))
    if "webhook_export" in text:
        assert audit.webhook_export is not None
        assert audit.webhook_export.headers == {"Authorization": Secret("value of a secret")}


def test_the_table_of_the_page_has_the_defaults() -> None:
    text = PAGE.read_text()
    for key, default in re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", text, re.MULTILINE):
        assert msgspec.json.decode(msgspec.json.encode(getattr(AuditConfig(), key))) == msgspec.json.decode(default), (
            key
        )
    assert (AuditConfig().buffer_size, AuditConfig().flush_interval_seconds) == (1000, 60)
    assert AuditConfig().key_file is AuditConfig().retention_days is None


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ({"webhook_export": {"url": "http://siem.example.com/"}}, "https"),
        ({"webhook_export": {"url": "http://127.0.0.1.example.com/"}}, "https"),
        ({"webhook_export": {"url": "https://user:pw@siem.example.com/"}}, "password"),
        ({"webhook_export": {"url": "file:///etc/passwd"}}, "https"),
        ({"elasticsearch_export": {"url": "http://search.example.com"}}, "https"),
        ({"elasticsearch_export": {"url": "https://a", "username": "x"}}, "belong together"),
        ({"elasticsearch_export": {"url": "https://a", "index_prefix": "../x"}}, "index_prefix"),
        ({"syslog_export": {"address": "logs"}}, "address"),
        ({"syslog_export": {"address": "logs:514", "protocol": "udp", "ca_file": "x"}}, "ca_file"),
        ({"file_export": {"format": "xml"}}, "format"),
        ({"min_severity": "loud"}, "min_severity"),
        ({"buffer_size": 0}, "buffer_size"),
        ({"exclude_patterns": [""]}, "exclude_patterns"),
        ({"retention_days": 0}, "retention_days"),
    ],
)
def test_a_bad_value_is_refused_by_its_path(table: dict[str, Any], reason: str) -> None:
    config = load({"audit": table}, {}, ())
    with pytest.raises(ConfigError, match=reason) as refused:
        config.section("audit", AuditConfig)
    assert refused.value.path.startswith(f"audit.{next(iter(table))}")
    assert "pw" not in str(refused.value).replace("password", "")


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080/x", "http://[::1]/", "http://localhost/", "https://a.example/"])
def test_a_webhook_may_be_plain_on_this_machine(url: str) -> None:
    config = load({"audit": {"webhook_export": {"url": url}}}, {}, ()).section("audit", AuditConfig)
    assert config.webhook_export is not None
