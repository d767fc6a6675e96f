"""How a message that a client brings is stored, and given back."""

import json

import pytest
from drift_sign_simple.artifact import FORMAT, LARGEST_MANIFEST, read_artifact
from drift_sign_simple.message import LARGEST
from drift_sign_simple.refusal import Refused
from drift_sign_simple.trust import Trust
from drift_sign_simple.verifier import SimpleVerifier
from msgspec.structs import replace

from drift_core.api import Denied, Digest, Signature, SupportsExchange
from drift_core.conformance.suites.signing import IMAGE, OTHER

from . import conftest as made
from .conftest import Gnupg


@pytest.fixture
def verifier() -> SimpleVerifier:
    return SimpleVerifier(made.CONFIG, Trust())


@pytest.fixture
def content(gpg: Gnupg) -> bytes:
    gpg.make("ed25519")
    return gpg.sign("ed25519", made.payload())


def test_the_artifact(verifier: SimpleVerifier, content: bytes) -> None:
    assert isinstance(verifier, SupportsExchange)
    artifact = verifier.wrap(IMAGE, content)
    assert artifact == verifier.wrap(IMAGE, content)
    assert (artifact.media_type, artifact.blobs, artifact.tag) == (IMAGE.media_type, (content, b"{}"), None)
    assert json.loads(artifact.manifest) == {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/vnd.drift.simple-signature.v1+openpgp",
        "config": {
            "mediaType": "application/vnd.oci.empty.v1+json",
            "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
            "size": 2,
        },
        "layers": [{"mediaType": FORMAT, "digest": str(Digest.of(content)), "size": len(content)}],
        "subject": {"mediaType": IMAGE.media_type, "digest": IMAGE.digest, "size": IMAGE.size},
    }
    assert verifier.claims(artifact.media_type, artifact.manifest)
    assert not verifier.claims("application/vnd.oci.image.index.v1+json", artifact.manifest)
    assert not verifier.claims(artifact.media_type, artifact.manifest + b" " * LARGEST_MANIFEST)
    assert list(verifier.unwrap(artifact)) == [content]


def test_another_subject_gives_another_artifact(verifier: SimpleVerifier, content: bytes) -> None:
    assert verifier.wrap(IMAGE, content).manifest != verifier.wrap(OTHER, content).manifest


def test_what_is_not_stored(verifier: SimpleVerifier, content: bytes, gpg: Gnupg) -> None:
    detached = gpg.sign("ed25519", b"x", how="--detach-sign")
    junk = (b"", b"junk", b"{}", b"\x99\x01junk", content[:-1], detached, content + bytes(LARGEST))
    for bad in junk:
        with pytest.raises(Denied, match="it is no signature of this format: "):
            verifier.wrap(IMAGE, bad)


def test_as_large_as_may_be(verifier: SimpleVerifier) -> None:
    """The limit is met in bytes: one more is refused."""
    announced = b"\xc4\x0d\x03\x00\x08\x16" + bytes(8) + b"\x01"
    signature = b"\xc2\x04\x04\x00\x16\x08"
    size = LARGEST - len(announced) - len(signature) - 6
    for more in (0, 1):
        literal = b"\xcb\xff" + (size + more).to_bytes(4, "big") + b"b" + bytes(size + more - 1)
        message = announced + literal + signature
        assert len(message) == LARGEST + more
        if more:
            with pytest.raises(Denied, match=f"more than {LARGEST} bytes"):
                verifier.wrap(IMAGE, message)
        else:
            assert verifier.wrap(IMAGE, message)


def test_what_was_not_wrapped(verifier: SimpleVerifier, content: bytes) -> None:
    artifact = verifier.wrap(IMAGE, content)
    manifest = json.loads(artifact.manifest)

    def otherwise(**members: object) -> Signature:
        return replace(artifact, manifest=json.dumps(manifest | members).encode())

    layer = manifest["layers"][0]
    for other in (
        otherwise(artifactType="application/vnd.example"),
        otherwise(layers=[]),
        otherwise(layers=[layer, layer]),
        otherwise(layers=[layer | {"mediaType": "text/plain"}]),
        otherwise(layers=[layer | {"digest": "none"}]),
        otherwise(layers=[layer | {"size": len(content) + 1}]),
        otherwise(layers=[layer | {"size": "1"}]),
        replace(artifact, blobs=()),
        replace(artifact, blobs=(content + b"\0",)),
        replace(artifact, blobs=(content[:-1] + bytes([content[-1] ^ 1]),)),
    ):
        assert not verifier.unwrap(other)
    large = bytes(LARGEST + 1)
    described = layer | {"digest": str(Digest.of(large)), "size": len(large)}
    with pytest.raises(Refused, match="too large"):
        read_artifact(replace(otherwise(layers=[described]), blobs=(large,)))
