"""Logs real clients in to a registry with TLS, and pushes and pulls with what they then remember."""

import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.clients.image_layout import ImageLayout
from tests.clients.programs import Output, Programs
from tests.clients.test_helm import package
from tests.clients.test_podman import ContainerTools
from tests.tools import tool

CLIENTS = ("crane", "oras", "regctl", "skopeo", "podman", "helm")


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Makes a certificate for this machine, which signs itself, and its key."""
    files = folder / "server.pem", folder / "server.key"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    command = [
        tool("openssl"),
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        *subject,
    ]
    subprocess.run([*command, "-out", files[0], "-keyout", files[1]], check=True, capture_output=True)
    return files


class Person:
    """Somebody with one client, which trusts the server's certificate and nobody else's."""

    def __init__(self, client: str, home: Path, storage: Path, host: str, certificate: Path) -> None:
        self._client = client
        self._host = host
        self._folder = home
        self._run = Programs(home, SSL_CERT_FILE=str(certificate))
        self._podman = ContainerTools(self._run, storage)
        self._shown: dict[str, tuple[str | Path, ...]] = {}

    def log_in(self, user: str, password: str) -> Output:
        """Logs in as a person does, the password not on the command line where the client can read it elsewhere."""
        commands = {
            "crane": ("crane", "auth", "login", self._host, "--username", user, "--password-stdin"),
            "oras": ("oras", "login", self._host, "--username", user, "--password-stdin"),
            "regctl": ("regctl", "registry", "login", self._host, "--user", user, "--pass-stdin"),
            "skopeo": ("skopeo", "login", self._host, "--username", user, "--password-stdin"),
            "podman": ("podman", "login", self._host, "--username", user, "--password-stdin"),
            "helm": ("helm", "registry", "login", self._host, "--username", user, "--password-stdin"),
        }
        return self._run(*commands[self._client], data=password.encode(), may_fail=True)

    def show(self, folder: Path) -> None:
        """From now on shows the certificate in a folder; see `sign_client`."""
        files = ("--cert-file", folder / "client.cert", "--key-file", folder / "client.key")
        self._shown = {
            "skopeo": ("--src-cert-dir", folder, "--dest-cert-dir", folder),
            "podman": ("--cert-dir", folder),
            "helm": files,
        }

    def push(self, repository: str, layout: ImageLayout) -> Output:
        """Pushes an image, or with helm a chart, as ``v1``."""
        reference = f"{self._host}/{repository}:v1"
        if self._client == "helm":
            chart = package(self._run, self._folder / "chart", "1.0.0")
            url = f"oci://{self._host}/{repository}"
            return self._run("helm", "push", chart, url, *self._options(), may_fail=True)
        if self._client == "podman":
            image = self._podman.podman("pull", "--quiet", f"oci:{layout.folder}:v1").text
            return self._podman.podman("push", *self._options(), image, f"docker://{reference}", may_fail=True)
        commands: dict[str, tuple[str | Path, ...]] = {
            "crane": ("push", layout.folder, reference),
            "oras": ("cp", "--no-tty", "--from-oci-layout", f"{layout.folder}:v1", reference),
            "regctl": ("image", "copy", f"ocidir://{layout.folder}:v1", reference),
            "skopeo": ("copy", "--all", "--preserve-digests", f"oci:{layout.folder}:v1", f"docker://{reference}"),
        }
        return self._run(self._client, *commands[self._client], *self._options(), may_fail=True)

    def pull(self, repository: str) -> Output:
        """Pulls what `push` pushes, into a folder or storage of its own."""
        reference = f"{self._host}/{repository}:v1"
        folder = self._folder / f"pulled-{repository.replace('/', '-')}"
        if self._client == "helm":
            chart = f"oci://{self._host}/{repository}/drifting"
            options = ("--version", "1.0.0", "--destination", self._folder, *self._options())
            return self._run("helm", "pull", chart, *options, may_fail=True)
        if self._client == "podman":
            return self._podman.podman("pull", *self._options(), f"docker://{reference}", may_fail=True)
        commands: dict[str, tuple[str | Path, ...]] = {
            "crane": ("pull", "--format=oci", reference, folder),
            "oras": ("cp", "--no-tty", "--to-oci-layout", reference, f"{folder}:v1"),
            "regctl": ("image", "copy", reference, f"ocidir://{folder}:v1"),
            "skopeo": ("copy", "--all", "--preserve-digests", f"docker://{reference}", f"oci:{folder}:v1"),
        }
        return self._run(self._client, *commands[self._client], *self._options(), may_fail=True)

    def _options(self) -> tuple[str | Path, ...]:
        return self._shown.get(self._client, ())


NewPerson = Callable[[str], Person]
"""Makes somebody with this client."""


def sign_client(folder: Path, name: str) -> Path:
    """Makes an authority, ``clients.pem``, and a folder, as podman wants it, with a certificate that it signs."""
    made = folder / name
    made.mkdir()
    run = [tool("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    authority = folder / "clients.pem", folder / "clients.key"
    purpose = ("-addext", "extendedKeyUsage=clientAuth", "-addext", "basicConstraints=critical,CA:FALSE")
    for subject, more, out in (
        ("/CN=clients", (), authority),
        (
            f"/CN={name}",
            (*purpose, "-CA", authority[0], "-CAkey", authority[1]),
            (made / "client.cert", made / "client.key"),
        ),
    ):
        command = [*run, "-subj", subject, *more, "-out", out[0], "-keyout", out[1]]
        subprocess.run(command, check=True, capture_output=True)
    return made
