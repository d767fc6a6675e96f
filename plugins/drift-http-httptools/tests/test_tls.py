"""TLS of a real server: which versions and suites are spoken, and a certificate that is renewed while it serves."""

import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from prometheus_client.parser import text_string_to_metric_families

from tests.faults.inspection import eventually
from tests.oci.client import Registry
from tests.oci.content import digest_of, unique_blob
from tests.server import Server
from tests.tools import tool

WORKERS = 2
ENOUGH = 24
"""New connections in a row of which each worker gets some, but for one in millions."""

Pair = tuple[Path, Path]


def make_pair(folder: Path, days: int, kind: tuple[str, ...] = ("ec", "-pkeyopt", "ec_paramgen_curve:P-256")) -> Pair:
    """Returns the files of a new certificate that expires in so many days, and its key."""
    folder.mkdir(exist_ok=True)
    pair = folder / "cert.pem", folder / "key.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", str(days)]
    command = [tool("openssl"), "req", "-x509", "-nodes", "-newkey", *kind, *subject]
    subprocess.run([*command, "-out", str(pair[0]), "-keyout", str(pair[1])], check=True, capture_output=True)
    return pair


def trusting(pair: Pair) -> ssl.SSLContext:
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trust.load_verify_locations(pair[0])
    return trust


def replace(served: Pair, by: Pair) -> None:
    """Puts a certificate in place as certbot and lego do: each file at once, one after the other."""
    for old, new in zip(served, by, strict=True):
        fresh = old.with_name(f"{old.name}.new")
        shutil.copy(new, fresh)
        fresh.replace(old)


def connect(port: int, context: ssl.SSLContext) -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", port), timeout=60)
    try:
        return context.wrap_socket(plain, server_hostname="127.0.0.1")
    except BaseException:
        plain.close()
        raise


def shown(port: int) -> bytes:
    """Returns the certificate that a new connection is shown."""
    anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    with connect(port, anybody) as client:
        certificate = client.getpeercert(binary_form=True)
        assert certificate is not None
        return certificate


def der(pair: Pair) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pair[0].read_text())


def all_show(server: Server, pair: Pair) -> Callable[[], bool]:
    """Says whether every new connection is shown a certificate, that of a browser, too."""
    wanted = der(pair)
    return lambda: all(shown(port) == wanted for port in (server.port, server.ui_port) for _ in range(ENOUGH))


def measured(server: Server, name: str) -> dict[str, float]:
    """Returns the values of a metric by the listener."""
    with httpx.Client(verify=False) as client:  # noqa: S501 - which certificate is shown is what is tested
        text = client.get(f"{server.url}/metrics").text
    families = text_string_to_metric_families(text)
    return {one.labels["listener"]: one.value for family in families for one in family.samples if one.name == name}


def expiry(pair: Pair) -> float:
    return x509.load_pem_x509_certificate(pair[0].read_bytes()).not_valid_after_utc.timestamp()


@pytest.fixture
def served(tmp_path: Path) -> Pair:
    """The files that the server reads."""
    return make_pair(tmp_path / "served", 3650)


@pytest.fixture
def server(tmp_path: Path, served: Pair) -> Iterator[Server]:
    with Server(tmp_path / "server", workers=WORKERS, tls=served) as server:
        yield server


def test_a_renewed_certificate_serves_new_connections_and_one_that_cannot_be_used_does_not(
    server: Server, served: Pair, tmp_path: Path
) -> None:
    """While a download goes on over a connection that has the old one."""
    blob, old, new = unique_blob(32 << 20), tmp_path / "old", make_pair(tmp_path / "new", 90)
    shutil.copytree(served[0].parent, old)
    old_pair, half = (old / "cert.pem", old / "key.pem"), tmp_path / "half.pem"
    half.write_text(new[0].read_text()[:300])
    failures, expires = "drift_tls_reload_failures_total", "drift_tls_certificate_expiry_seconds"
    listeners = {server.host, f"127.0.0.1:{server.ui_port}"}
    with Registry(server.url) as registry:
        registry.push_blob("team/app", blob)
    assert measured(server, expires) == dict.fromkeys(listeners, expiry(old_pair))
    with connect(server.port, trusting(served)) as client:
        head = f"GET /v2/team/app/blobs/{blob.digest} HTTP/1.1\r\nhost: {server.host}\r\n"
        client.sendall(f"{head}connection: close\r\n\r\n".encode())
        arrived = bytearray(client.recv(65536))
        assert arrived.startswith(b"HTTP/1.1 200 ")
        for refused, pair in enumerate(((half, new[1]), (new[0], old_pair[1])), 1):
            replace(served, pair)
            least = refused * WORKERS
            eventually(lambda: min(measured(server, failures).values()) >= least, "a refusal by all")  # noqa: B023
            assert all_show(server, old_pair)()
        assert measured(server, failures).keys() == listeners
        assert measured(server, expires) == dict.fromkeys(listeners, expiry(old_pair))
        replace(served, new)
        served[1].chmod(0o644)
        eventually(all_show(server, new), "the new certificate in every worker")
        assert client.getpeercert(binary_form=True) == der(old_pair)
        while part := client.recv(1 << 20):
            arrived += part
    assert digest_of(bytes(arrived).partition(b"\r\n\r\n")[2]) == blob.digest
    eventually(lambda: measured(server, expires) == dict.fromkeys(listeners, expiry(new)), "that it is measured")
    with httpx.Client(verify=trusting(new)) as after:
        assert after.get(f"{server.url}/v2/").status_code == 200
    log = server.log.read_text()
    assert "the new certificate cannot be used, the old one serves on" in log
    # That others may read the key: said by the two listeners of the first worker.
    assert log.count(f'"file": "{served[1]}", "mode": "0644"') == 2
    assert f'"file": "{served[1]}", "mode": "0600"' not in log


def test_old_versions_and_weak_suites_are_refused(server: Server, served: Pair) -> None:
    def speak(suites: str, most: ssl.TLSVersion) -> tuple[str | None, str | None, object]:
        context = trusting(served)
        context.minimum_version, context.maximum_version = ssl.TLSVersion.MINIMUM_SUPPORTED, most
        context.set_ciphers(f"{suites}:@SECLEVEL=0")
        context.set_alpn_protocols(["h2", "http/1.1"])
        with connect(server.port, context) as client:
            cipher = client.cipher()
            return client.version(), cipher and cipher[0], (client.selected_alpn_protocol(), client.compression())

    spoken = ("http/1.1", None)
    assert speak("ALL", ssl.TLSVersion.TLSv1_3)[::2] == ("TLSv1.3", spoken)
    good = "ECDHE-ECDSA-AES128-GCM-SHA256"
    assert speak(f"ECDHE-ECDSA-AES128-SHA256:{good}", ssl.TLSVersion.TLSv1_2) == ("TLSv1.2", good, spoken)
    # That it refuses the loop says by closing.
    refused = pytest.raises(ssl.SSLError, match=r"(?i)alert|EOF")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"), refused:
        speak("ALL", ssl.TLSVersion.TLSv1_1)
    for weak in ("ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES256-SHA", "ECDHE-ECDSA-AES128-CCM"):
        with refused:
            speak(weak, ssl.TLSVersion.TLSv1_2)
