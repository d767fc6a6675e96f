"""A machine from which a registry is used, by curl and crane, as its users would."""

import hashlib
import os
import tarfile
from pathlib import Path

from tests.deploy.machines import Machine

MIB = 1024 * 1024


class Client:
    """Uses the registry at ``host`` from a machine; with a certificate it speaks TLS and trusts no other.

    ``folder`` of the machine has the client's files; None is that of the machine's own files.
    """

    def __init__(self, machine: Machine, host: str, certificate: str | None = None, folder: str | None = None) -> None:
        self.machine = machine
        self.folder = folder or str(machine.folder)
        self.host = host
        self.url = f"{'https' if certificate else 'http'}://{host}"
        self.trust = {"SSL_CERT_FILE": certificate} if certificate else {}
        """Variables by which curl and crane trust the certificate."""
        self._insecure = () if certificate else ("--insecure",)
        machine.path(self.folder).mkdir(parents=True, exist_ok=True)

    def curl(self, path: str, *arguments: str) -> str:
        """Returns the body of an answer. Fails where it is an error, or there is none."""
        command = ["curl", "--silent", "--show-error", "--fail-with-body", "--max-time", "60", *arguments]
        return self.machine.run(*command, path if "://" in path else self.url + path, **self.trust)

    def crane(self, *arguments: str) -> str:
        """Returns what crane said. Fails where it fails."""
        return self.machine.run("crane", *arguments, *self._insecure, HOME=self.folder, **self.trust)

    def push_and_pull(self, repository: str, megabytes: int) -> None:
        """Pushes an image with one random layer, pulls it again, and compares."""
        folder = self.machine.path(self.folder)
        (folder / "content").write_bytes(os.urandom(megabytes * MIB))
        with tarfile.open(folder / "layer.tar", "w") as layer:
            layer.add(folder / "content", "content")
        name = f"{self.host}/{repository}"
        self.crane("append", "--new_layer", f"{self.folder}/layer.tar", "--new_tag", f"{name}:v1")
        assert self.crane("ls", name).split() == ["v1"]
        self.crane("pull", f"{name}:v1", f"{self.folder}/pulled.tar")
        assert digest_of_layer(folder / "pulled.tar") == digest_of_layer(folder / "layer.tar", "content")

    def begin_upload(self, repository: str) -> str:
        """Returns where an upload goes on."""
        head = self.curl(f"/v2/{repository}/blobs/uploads/", "--request", "POST", "--include", "--data", "")
        return headers(head)["location"]

    def held(self, upload: str) -> int:
        """Returns how many bytes of an upload the registry has."""
        found = headers(self.curl(upload, "--include"))["range"]
        return int(found.partition("-")[2]) + 1


def headers(answer: str) -> dict[str, str]:
    """Returns the headers of an answer that curl included; names in lower case."""
    lines = [line.partition(": ") for line in answer.splitlines() if ": " in line]
    return {name.lower(): value for name, _, value in lines}


def digest_of_layer(archive: Path, member: str | None = None) -> str:
    """Returns the digest of a file in an archive; of the one file in the only layer of an image that crane pulled."""
    with tarfile.open(archive) as outer:
        if member is not None:
            content = outer.extractfile(member)
            assert content is not None
            return hashlib.file_digest(content, "sha256").hexdigest()
        (name,) = [one for one in outer.getnames() if one.endswith(".tar.gz")]
        layer = outer.extractfile(name)
        assert layer is not None
        with tarfile.open(fileobj=layer) as inner:
            content = inner.extractfile("content")
            assert content is not None
            return hashlib.file_digest(content, "sha256").hexdigest()
