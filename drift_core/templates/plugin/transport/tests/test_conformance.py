"""The driver keeps the rules of every transport."""

import shutil
import subprocess
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from drift_core.api import ServerSettings, Transport
from drift_core.conformance import TransportSuite, services
from drift_core.conformance.suites.transport import OpenTransport

from ${module}.config import ${prefix}Config
from ${module}.driver import open_transport


class Test${prefix}(TransportSuite):
    """What else is true of this transport belongs here, too."""

    @pytest.fixture
    def open_transport(self) -> OpenTransport:
        """Opens the transport for an address and limits."""

        def opened(server: ServerSettings) -> AbstractAsyncContextManager[Transport]:
            return open_transport(${prefix}Config(), services("${name}", server))

        return opened

    @pytest.fixture
    def certificate(self, tmp_path: Path) -> tuple[str, str] | None:
        """A new certificate for this machine and its key; None without openssl, and the rules of TLS are skipped."""
        if shutil.which("openssl") is None:
            return None
        certificate, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
        subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject, "-out", certificate]
        subprocess.run([*command, "-keyout", key], check=True, capture_output=True)
        return certificate, key
