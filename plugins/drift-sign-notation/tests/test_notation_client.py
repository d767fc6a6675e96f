"""The Notary Project's own library takes what is signed here, and what it signs is good here.

The program is `notation_helper`, on notation-go: ``go build -o .tools/bin/notation-helper .`` in its folder makes it.
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from drift_sign_notation.signer import WRITERS, NotationSigner
from msgspec.structs import replace

from drift_core.api import Descriptor, Digest, Signature
from tests.oci.content import EMPTY_CONFIG, image, unique_blob
from tests.server import Server
from tests.tools import tool

from .artifacts import MANIFEST, judge
from .authorities import Certified

KEY = "release"
REPOSITORY = "team/app"
PATIENCE = 60.0
EVERY_KEY = pytest.mark.parametrize("kind", ["rsa2048", "rsa3072", "rsa4096", "ec256", "ec384", "ec521"])
BOTH = pytest.mark.parametrize("envelope", ["jws", "cose"])
ROOT = Certified.root()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    tool("notation-helper")
    with Server(tmp_path_factory.mktemp("registry"), "auth.mode=none") as server:
        yield server


def push_blob(server: Server, content: bytes) -> None:
    url = f"{server.url}/v2/{REPOSITORY}/blobs/uploads/?digest={Digest.of(content)}"
    headers = {"content-type": "application/octet-stream"}
    assert httpx.post(url, content=content, headers=headers).status_code == 201


def push_manifest(server: Server, content: bytes) -> None:
    url = f"{server.url}/v2/{REPOSITORY}/manifests/{Digest.of(content)}"
    assert httpx.put(url, content=content, headers={"content-type": MANIFEST}).status_code == 201


def push_image(server: Server) -> Descriptor:
    layer = unique_blob(100)
    made = image(EMPTY_CONFIG, layer)
    for blob in (EMPTY_CONFIG.content, layer.content):
        push_blob(server, blob)
    push_manifest(server, made.content)
    return Descriptor(MANIFEST, Digest.of(made.content), len(made.content))


def push(server: Server, signature: Signature) -> None:
    for blob in signature.blobs:
        push_blob(server, blob)
    push_manifest(server, signature.manifest)


def fetch(server: Server, subject: Descriptor) -> Signature:
    """Returns the one signature that the registry has of an image."""
    base = f"{server.url}/v2/{REPOSITORY}"
    (found,) = httpx.get(f"{base}/referrers/{subject.digest}").json()["manifests"]
    content = httpx.get(f"{base}/manifests/{found['digest']}", headers={"accept": MANIFEST}).content
    (layer,) = json.loads(content)["layers"]
    return Signature(MANIFEST, content, (httpx.get(f"{base}/blobs/{layer['digest']}").content,))


def helper(server: Server, action: str, subject: Descriptor, *arguments: str) -> "subprocess.CompletedProcess[str]":
    reference = f"{server.url.removeprefix('http://')}/{REPOSITORY}@{subject.digest}"
    words = [tool("notation-helper"), action, reference, *arguments]
    return subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, check=False)


@EVERY_KEY
@BOTH
async def test_the_library_takes_ours(server: Server, tmp_path: Path, kind: str, envelope: str) -> None:
    subject = push_image(server)
    key = ROOT.authority().signer(kind=kind).signing_key(KEY)
    signer = NotationSigner({KEY: key}, envelope, 3600)
    (signature,) = await signer.sign(REPOSITORY, subject, KEY, annotations={"build": "42"})
    push(server, signature)
    root = ROOT.write_chain(tmp_path / "root.pem")
    done = helper(server, "verify", subject, root)
    assert done.returncode == 0, done.stdout + done.stderr
    other = Certified.root().write_chain(tmp_path / "other.pem")
    assert helper(server, "verify", subject, other).returncode == 1


@EVERY_KEY
@BOTH
def test_ours_takes_the_librarys(server: Server, tmp_path: Path, kind: str, envelope: str) -> None:
    subject = push_image(server)
    signer = ROOT.signer(kind=kind)
    files = (signer.write_key(tmp_path / "key.pem"), signer.write_chain(tmp_path / "chain.pem"))
    done = helper(server, "sign", subject, *files, envelope)
    assert done.returncode == 0, done.stdout + done.stderr
    signature = fetch(server, subject)
    judgement = judge(ROOT, signature, subject)
    assert judgement.good, judgement.reason
    (layer,) = json.loads(signature.manifest)["layers"]
    assert layer["mediaType"] == WRITERS[envelope][0]
    assert judge(ROOT, signature, replace(subject, size=1)).good is False
    assert judge(Certified.root(), signature, subject).good is False
