"""The kit's rules of every plugin."""

import pytest
from drift_tracing import plugin
from drift_tracing.config import TracingConfig
from drift_tracing.tracing import Tracing

from drift_core.api import Call
from drift_core.conformance import ModuleSuite
from drift_core.conformance.suites.plugin import Use


class TestPlugin(ModuleSuite):
    offers = plugin

    @pytest.fixture
    def configs(self) -> tuple[TracingConfig, TracingConfig]:
        nobody = "http://127.0.0.1:1/v1/traces"
        return (
            TracingConfig(enabled=True, endpoint=nobody, sample_ratio=0.0),
            TracingConfig(enabled=True, endpoint=nobody, sample_ratio=0.0, service_name="other", queue_size=1),
        )

    @pytest.fixture
    def use(self) -> Use:
        async def observe(tracing: Tracing) -> None:
            scope = {"headers": [], "method": "GET", "scheme": "http", "path": "/v2/", "http_version": "1.1"}
            request = tracing.observe_request(scope, "127.0.0.1")
            tracing.observe_call(Call("storage", "storage-fs", "stat")).end(None)
            request.end(None, 200, "/v2/")
            assert len(request.fields["trace_id"]) == 32

        return observe


@pytest.mark.parametrize(
    "wrong",
    [
        {"endpoint": "ftp://collector.example/v1/traces"},
        {"endpoint": "https://collector.example"},
        {"endpoint": "https://ann:secret@collector.example/v1/traces"},
        {"endpoint": "https://collector.example/v1/traces?key=secret"},
        {"headers": {"a b": "x"}},
        {"headers": {"content-encoding": "x"}},
        {"headers": {"x-key": "a\nb"}},
    ],
)
def test_what_cannot_be_meant_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"endpoint|headers"):
        TracingConfig(**wrong)  # type: ignore[arg-type]
