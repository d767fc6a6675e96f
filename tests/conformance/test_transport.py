"""The reference keeps every rule of a transport, and each mutant breaks exactly one."""

import subprocess
from contextlib import nullcontext
from pathlib import Path

import pytest

from drift_core.conformance.mutants.transport import MUTANTS, transport_of
from drift_core.conformance.reference.transport import AsyncioTransport
from drift_core.conformance.suites import transport
from drift_core.conformance.suites.transport import MIB, OpenTransport, TransportSuite
from tests.conformance.mutation import RULES, asked, failed_rules
from tests.tools import tool


def make_certificate(folder: Path) -> tuple[str, str]:
    """Returns the files of a new certificate for this machine, and its key."""
    files = str(folder / "cert.pem"), str(folder / "key.pem")
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command = [tool("openssl"), "req", "-x509", *key, *subject, "-out", files[0], "-keyout", files[1]]
    subprocess.run(command, check=True, capture_output=True)
    return files


class Quick(TransportSuite):
    """Less of everything, because more than thirty mutants run it."""

    large = 80 * MIB
    idle = 160


class Opened:
    """Opens a mutant, or the reference."""

    kind = AsyncioTransport

    @pytest.fixture
    def open_transport(self) -> OpenTransport:
        return lambda settings: nullcontext(self.kind(settings))

    @pytest.fixture
    def certificate(self, tmp_path: Path) -> tuple[str, str]:
        return make_certificate(tmp_path)


class TestReference(Opened, TransportSuite):
    """The reference passes."""


def test_every_rule_can_fail() -> None:
    assert {rule.id for rule in TransportSuite.rules()} == MUTANTS.keys()
    assert all(rule.sentence.endswith(".") for rule in TransportSuite.rules())


@RULES
@pytest.mark.parametrize("rule", MUTANTS)
def test_mutant(rule: str, extent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # What never happens takes that long to tell.
    monkeypatch.setattr(transport, "PATIENCE", 3.0)
    monkeypatch.setattr(transport, "DRAIN", 1.0)
    monkeypatch.setattr(transport, "SETTLE", 0.1)
    mutant = Opened()
    mutant.kind = transport_of(MUTANTS[rule])
    assert failed_rules(Quick, mutant, asked(rule, extent)) == {rule}
