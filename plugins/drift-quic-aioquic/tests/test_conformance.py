"""The kit's rules of every plugin."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from drift_quic_aioquic import config, plugin
from drift_quic_aioquic.certificates import Certificates
from drift_quic_aioquic.config import FeatureConfig, TransportConfig

from drift_core.api import Driver, ServerSettings, Services, StartError
from drift_core.conformance import ModuleSuite, open_records, services

from .conftest import Files


class Both(ModuleSuite):
    """What holds for the transport and for the feature."""

    offers = plugin

    @pytest.fixture
    async def services(self) -> AsyncIterator[Services]:  # type: ignore[override]
        async with open_records("quic", "drift_quic_aioquic.migrations") as records:
            yield services("quic", ServerSettings("127.0.0.1:1", 100, 5.0), records)


class TestTransport(Both):
    @pytest.fixture
    def driver(self) -> Driver[Any]:
        (driver,) = plugin.drift_transports()
        return driver

    @pytest.fixture
    def configs(self, certificate: Files) -> tuple[TransportConfig, TransportConfig]:
        files = {"cert_path": str(certificate[0]), "key_path": str(certificate[1])}
        one = TransportConfig(enabled=True, bind_addr="127.0.0.1:0", **files)
        return one, TransportConfig(enabled=True, bind_addr="127.0.0.1:0", workers=2, enable_0rtt=True, **files)


class TestFeature(Both):
    @pytest.fixture
    def driver(self) -> Driver[Any]:
        (driver,) = plugin.drift_features()
        return driver

    @pytest.fixture
    def configs(self) -> tuple[FeatureConfig, FeatureConfig]:
        return FeatureConfig(), FeatureConfig(wanted=True, bind_addr="127.0.0.1:6000", alternative_port=443)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"backend": "quiche"}, "quinn, of Rust too, serves in its place"),
        ({"backend": "gquic"}, "aioquic serves QUIC version 1"),
        ({"backend": "mock"}, r"leave quic\.enabled false"),
        ({"backend": "aiopquic"}, "quinn and qh3, as fast, serve in its place"),
        ({"backend": "qh3", "enable_0rtt": True}, "not with the backend 'qh3'"),
        ({"backend": "qh3", "workers": 2}, "the backend 'qh3' has one"),
        ({"backend": "other"}, "no such backend"),
        ({"ui_bind_addr": "127.0.0.1:5443"}, "is the port of bind_addr"),
        ({"application_protocols": ("x",)}, "is not spoken here"),
        ({"enable_early_data": True}, "needs enable_0rtt"),
        ({"cert_chain": ((1,),)}, "belong together"),
    ],
)
def test_what_cannot_be_served_is_no_configuration(keys: dict[str, Any], said: str) -> None:
    """Where QUIC is off, it does not matter."""
    with pytest.raises(ValueError, match=said):
        TransportConfig(enabled=True, **keys)
    TransportConfig(**keys)


@pytest.mark.parametrize(
    ("backend", "said"), [("qh3", r"pip install 'drift-quic-aioquic\[qh3\]'"), ("quinn", "make native in a checkout")]
)
def test_an_engine_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, backend: str, said: str) -> None:
    monkeypatch.setattr(config, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match=said):
        TransportConfig(enabled=True, backend=backend)


def test_a_certificate_that_cannot_be_read_is_a_clear_error() -> None:
    config = TransportConfig(enabled=True, cert_path="/nowhere.pem")
    with pytest.raises(StartError, match=r"cannot read /nowhere\.pem"):
        Certificates(config, ServerSettings("127.0.0.1:1", 100, 5.0)).load()
