"""What is refused, each for its own reason, and what is not."""

import json
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from drift_sign_simple.artifact import read_artifact, write_artifact
from drift_sign_simple.config import Remap, SigningConfig
from drift_sign_simple.message import LARGEST
from drift_sign_simple.openpgp import read_mark
from drift_sign_simple.refusal import Refused
from drift_sign_simple.trust import SKEW, Trust
from msgspec.structs import replace

from drift_core.api import Descriptor, Digest
from drift_core.conformance.suites.signing import IMAGE, OTHER

from . import conftest as made
from .conftest import DAY, REFERENCE, Gnupg, judged

NOW = time.time() // DAY * DAY
"""The beginning of today, by which keys of the past are made."""


def packet(tag: int, body: bytes) -> bytes:
    return bytes([0xC0 | tag, 255]) + len(body).to_bytes(4, "big") + body


def compressed(content: bytes, algorithm: int = 1, window: int = -15) -> bytes:
    return packet(8, bytes([algorithm]) + zlib.compress(content, 9, wbits=window))


def changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    """Returns a payload in which something is otherwise."""
    said = made.said()
    change(said)
    return json.dumps(said).encode()


@pytest.fixture(scope="module")
def trust(gpg: Gnupg, tmp_path_factory: pytest.TempPathFactory) -> Trust:
    gpg.make("ed25519")
    return made.trusting(tmp_path_factory.mktemp("trust"), gpg.certificate("ed25519"))


@pytest.fixture(scope="module")
def plain(gpg: Gnupg, trust: Trust) -> bytes:
    """A good message that is not compressed: a one-pass signature, the literal and the signature."""
    assert trust
    return gpg.sign("ed25519", made.payload(), "--compress-algo", "none")


PAYLOADS = {
    "another digest was signed": made.payload(digest=OTHER.digest),
    "it was signed for another repository": made.payload("registry.example/other/app:v1"),
    "the type of the signature is another": changed(
        lambda said: said["critical"].update(type="cosign container image signature")
    ),
    "there is not exactly critical, optional": changed(lambda said: said.update(more=1)),
    "there is not exactly identity, image, type": changed(lambda said: said["critical"].update(more=1)),
    "there is not exactly docker-reference": changed(lambda said: said["critical"]["identity"].update(more=1)),
    "there is not exactly docker-manifest-digest": changed(lambda said: said["critical"]["image"].update(more=1)),
    "critical is missing or of another type": changed(lambda said: said.pop("critical")),
    "optional is missing or of another type": changed(lambda said: said.update(optional=None)),
    "identity is missing or of another type": changed(lambda said: said["critical"].update(identity="x")),
    "image is missing or of another type": changed(lambda said: said["critical"].update(image=[])),
    "type is missing or of another type": changed(lambda said: said["critical"].update(type=1)),
    "docker-reference is missing or of another type": changed(
        lambda said: said["critical"]["identity"].update({"docker-reference": None})
    ),
    "docker-manifest-digest is missing or of another type": changed(
        lambda said: said["critical"]["image"].update({"docker-manifest-digest": 1})
    ),
    "creator is missing or of another type": changed(lambda said: said["optional"].update(creator=1)),
    "timestamp is missing or of another type": changed(lambda said: said["optional"].update(timestamp=True)),
    "the payload says a key twice": made.payload().replace(b'"critical": {', b'"critical": {}, "critical": {'),
    "the payload is no strict JSON": made.payload() + b"}",
}


@pytest.mark.parametrize("reason", PAYLOADS)
def test_a_payload_that_is_well_signed(gpg: Gnupg, trust: Trust, reason: str) -> None:
    """Who has signed it is proven, and said, all the same."""
    judgement = judged(trust, gpg.sign("ed25519", PAYLOADS[reason]))
    assert (judgement.good, judgement.reason) == (False, reason)
    assert judgement.signer == f"openpgp {gpg.fingerprints('ed25519')[0]}"


@pytest.mark.parametrize("where", ["critical", "optional", "identity", "image"])
def test_a_key_twice(gpg: Gnupg, trust: Trust, where: str) -> None:
    """Also in what nobody reads, since another reader may take the other one."""
    name = f'"{where}": {{'.encode()
    twice = made.payload().replace(name, name + b'"x": 1, "x": 1, ')
    assert judged(trust, gpg.sign("ed25519", twice)).reason == "the payload says a key twice"


MESSAGES: dict[str, Callable[[Gnupg, bytes], bytes]] = {
    "the signature is detached, and its payload missing": lambda gpg, _: gpg.sign(
        "ed25519", made.payload(), how="--detach-sign"
    ),
    "there is more than one signature": lambda gpg, _: gpg.sign(
        "ed25519", made.payload(), "--local-user", "=stranger-ed25519"
    ),
    "the message is not signed": lambda gpg, _: gpg.run("--store", content=made.payload()),
    "the message is cut": lambda _, plain: plain[:-1],
    "the compressed data is cut, or something follows it": lambda gpg, _: gpg.sign("ed25519", made.payload())[:-1],
    "the compressed data is damaged": lambda *_: packet(8, b"\x01\xff\xff"),
    "the message is neither compressed by ZIP nor by ZLIB": lambda gpg, _: gpg.sign(
        "ed25519", made.payload(), "--compress-algo", "bzip2"
    ),
    "it is no OpenPGP message": lambda gpg, _: gpg.sign("ed25519", made.payload(), how="--clear-sign"),
    "it is no OpenPGP signed message": lambda _, plain: compressed(compressed(plain)),
    f"the message has more than {LARGEST} bytes when it is decompressed": lambda *_: compressed(bytes(100 << 20)),
    "the length of a packet is missing": lambda *_: bytes([0b10000000 | 11 << 2 | 3]) + b"b\0\0\0\0\0",
    "a packet comes in parts that may not": lambda *_: bytes([0xC0 | 2, 224, 1, 0]),
    "the payload is no binary data": lambda _, plain: plain[:15] + plain[15:].replace(b"b\0", b"u\0", 1),
    "the signature is not one of binary data": lambda gpg, _: gpg.sign(
        "ed25519", made.payload(), "--textmode", "--compress-algo", "none"
    ).replace(b"t\0", b"b\0", 1),
    "the signature is malformed, or of an unknown kind": lambda *_: (
        packet(4, b"\x03\x00\x08\x16" + bytes(8) + b"\x01")
        + packet(11, b"b\0\0\0\0\0")
        + packet(2, b"\x04\x00\x16\x08\x00\x00\x00\x00")
    ),
    "the signature is not a valid one of the key release": lambda _, plain: plain.replace(b"v1", b"v2", 1),
    "no trusted key has made the signature": lambda gpg, _: gpg.sign("stranger-ed25519", made.payload()),
    "the algorithm ed25519-sha1 is not taken": lambda gpg, _: gpg.sign(
        "ed25519", made.payload(), "--digest-algo", "SHA1"
    ),
    "the algorithm ed25519-sha224 is not taken": lambda gpg, _: gpg.sign(
        "ed25519", made.payload(), "--digest-algo", "SHA224"
    ),
}


@pytest.mark.parametrize("reason", MESSAGES)
def test_a_message(gpg: Gnupg, trust: Trust, plain: bytes, reason: str) -> None:
    gpg.make("stranger-ed25519")
    assert judged(trust, plain).good
    judgement = judged(trust, MESSAGES[reason](gpg, plain))
    assert (judgement.good, judgement.reason) == (False, reason)
    assert judgement.signer is None


@pytest.mark.parametrize("position", [1, 2, 3, 12])
def test_announces_another_signature(trust: Trust, plain: bytes, position: int) -> None:
    """The type, both algorithms, and whether one more signature follows."""
    announced = bytearray(plain)
    announced[2 + position] ^= 1
    assert judged(trust, bytes(announced)).reason == "the message announces another signature than it has"


def test_a_bomb_is_not_blown_up(trust: Trust) -> None:
    bomb = compressed(bytes(100 << 20))
    tracemalloc.start()
    try:
        assert not judged(trust, bomb).good
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_a_message_that_goes_on(trust: Trust, plain: bytes, gpg: Gnupg) -> None:
    """Nothing comes after it, nor before it, nor within what is compressed."""
    marker = packet(10, b"PGP")
    deflated = gpg.sign("ed25519", made.payload())
    for content in (plain + marker, marker + plain, deflated + b"\0", deflated + marker, plain + plain):
        assert not judged(trust, content).good
    assert not judged(trust, compressed(plain + marker)).good
    assert judged(trust, compressed(plain)).good


@pytest.mark.parametrize("options", [("none",), ("zip",), ("zlib",)])
def test_forms_that_gnupg_writes(gpg: Gnupg, trust: Trust, tmp_path: Path, options: tuple[str]) -> None:
    """From a pipe the literal comes in parts where it is long, and from a file it has a name."""
    content = json.dumps(made.said(note="x" * 30000)).encode()
    (tmp_path / "payload").write_bytes(content)
    for how in (
        gpg.sign("ed25519", content, "--compress-algo", *options),
        gpg.run("-u", "=ed25519", "--compress-algo", *options, "-o", "-", "--sign", str(tmp_path / "payload")),
    ):
        judgement = judged(trust, how)
        assert judgement.good, judgement.reason


def test_armor(gpg: Gnupg, trust: Trust) -> None:
    assert judged(trust, gpg.sign("ed25519", made.payload(), "--armor")).reason == "it is no OpenPGP message"


def test_nobody_is_trusted(plain: bytes) -> None:
    assert judged(Trust(), plain).reason == "no key is trusted"


def test_not_trusted(gpg: Gnupg, plain: bytes, tmp_path: Path) -> None:
    untrusting = made.trusting(tmp_path, gpg.certificate("ed25519"), trusted=False)
    assert judged(untrusting, plain).reason == "the key release is not trusted"
    assert not untrusting.infos()


def test_revoked(gpg: Gnupg, tmp_path: Path) -> None:
    """It counts no more, even for what was signed before."""
    gpg.make("revoked")
    content = gpg.sign("revoked", made.payload())
    assert judged(made.trusting(tmp_path, gpg.certificate("revoked")), content).good
    gpg.revoke("revoked")
    trust = made.trusting(tmp_path, gpg.certificate("revoked"))
    assert judged(trust, content).reason == "the key release is revoked"


def test_expired(gpg: Gnupg, tmp_path: Path) -> None:
    """Also for what was signed in time, since the time is only what the signer says."""
    began = NOW - 3 * DAY
    gpg.make("ended", "ed25519", "seconds=86400", now=began)
    content = gpg.sign("ended", made.payload(), now=began + 60)
    trust = made.trusting(tmp_path, gpg.certificate("ended"))
    assert judged(trust, content).reason == "the key release has expired"
    assert judged(trust, content, now=began + DAY).reason == "the key release has expired"
    judgement = judged(trust, content, now=began + DAY - 1)
    assert judgement.good, judgement.reason
    assert judgement.signed_at == began + 60
    assert judgement.valid_until == began + DAY
    assert trust.infos()[0].expires_at == began + DAY


def test_signed_before_there_was_a_key(gpg: Gnupg, tmp_path: Path) -> None:
    gpg.make("young", now=NOW - DAY)
    trust = made.trusting(tmp_path, gpg.certificate("young"))
    early = gpg.sign("young", made.payload(), "--ignore-time-conflict", now=NOW - 2 * DAY)
    assert judged(trust, early).reason == "the signature is not a valid one of the key release"
    assert judged(trust, gpg.sign("young", made.payload(), now=NOW - DAY + 1)).good


def test_made_in_the_future(gpg: Gnupg, trust: Trust) -> None:
    """The answer is another as soon as that is the present."""
    later = NOW + 2 * DAY
    judgement = judged(trust, gpg.sign("ed25519", made.payload(), now=later))
    assert judgement.reason == "the signature was made in the future"
    assert judgement.valid_until == later
    ahead = gpg.sign("ed25519", made.payload(), now=time.time() + SKEW - 30)
    assert judged(trust, ahead).good


def test_a_signature_that_expires(gpg: Gnupg, trust: Trust) -> None:
    content = gpg.sign("ed25519", made.payload(), "--default-sig-expire", "seconds=3600")
    judgement = judged(trust, content)
    assert judgement.good, judgement.reason
    assert judgement.signed_at is not None
    assert judgement.valid_until == judgement.signed_at + 3600
    assert judged(trust, content, now=judgement.valid_until).reason == "the signature has expired"


def test_subkeys(gpg: Gnupg, tmp_path: Path) -> None:
    """The signer is the primary key; a subkey ends and is revoked by itself."""
    began = NOW - 3 * DAY
    primary = gpg.make("primary", now=began)
    gpg.run("--quick-add-key", primary, "ed25519", "sign", "seconds=604800", now=began)
    subkey = gpg.fingerprints("primary")[1]
    content = gpg.run("-u", f"{subkey}!", "--sign", content=made.payload())
    trust = made.trusting(tmp_path, gpg.certificate("primary"))
    judgement = judged(trust, content)
    assert (judgement.good, judgement.signer) == (True, f"openpgp {primary}"), judgement.reason
    assert judgement.valid_until == began + 7 * DAY
    assert judged(trust, content, now=began + 7 * DAY).reason == "the key release has expired"
    commands = b"key 1\nrevkey\ny\n1\n\ny\nsave\n"
    gpg.run("--no-batch", "--command-fd", "0", "--edit-key", "primary", content=commands)
    revoked = made.trusting(tmp_path, gpg.certificate("primary"))
    assert judged(revoked, content).reason == "the key release is revoked"
    assert judged(revoked, gpg.sign("primary", made.payload())).good


def test_another_key_of_the_certificate(gpg: Gnupg, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By which key it says it is may be changed by anybody, and is not what decides how long it is good."""
    primary = gpg.make("two")
    gpg.run("--quick-add-key", primary, "ed25519", "sign", "seconds=604800")
    subkey = gpg.fingerprints("two")[1]
    trust = made.trusting(tmp_path, gpg.certificate("two"))
    content = gpg.run("-u", f"{subkey}!", "--sign", content=made.payload())
    assert judged(trust, content).good
    monkeypatch.setattr("drift_sign_simple.trust.read_mark", lambda packet: replace(read_mark(packet), issuer=primary))
    assert judged(trust, content).reason == "the signature names another key than it is by"


def test_a_short_key_id(gpg: Gnupg, trust: Trust, plain: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Older signers name no fingerprint."""
    short = gpg.fingerprints("ed25519")[0][-16:]
    monkeypatch.setattr("drift_sign_simple.trust.read_mark", lambda packet: replace(read_mark(packet), issuer=short))
    assert judged(trust, plain).good


def test_the_second_certificate_of_a_file(gpg: Gnupg, tmp_path: Path) -> None:
    for name in ("ed25519", "nistp256"):
        gpg.make(name)
    armored = gpg.certificate("ed25519", "--armor") + gpg.certificate("nistp256", "--armor")
    for both in (armored, gpg.certificate("ed25519") + gpg.certificate("nistp256")):
        judgement = judged(made.trusting(tmp_path, both), gpg.sign("nistp256", made.payload()))
        assert (judgement.good, judgement.key_id) == (True, "release")
        assert judgement.signer == f"openpgp {gpg.fingerprints('nistp256')[0]}"


@pytest.mark.parametrize("algorithm", made.ALGORITHMS)
def test_what_is_proven(gpg: Gnupg, tmp_path: Path, algorithm: str) -> None:
    gpg.make(algorithm, algorithm)
    judgement = judged(made.trusting(tmp_path, gpg.certificate(algorithm)), gpg.sign(algorithm, made.payload()))
    assert judgement.good, judgement.reason
    assert judgement.signer == f"openpgp {gpg.fingerprints(algorithm)[0]}"
    assert judgement.fingerprint == gpg.fingerprints(algorithm)[0]
    assert (judgement.key_id, judgement.algorithm) == ("release", made.ALGORITHMS[algorithm])
    assert judgement.signed_at is not None
    assert abs(judgement.signed_at - time.time()) < 60
    assert judgement.valid_until is None


@pytest.mark.parametrize(
    ("algorithm", "hash_name", "name"),
    [
        ("rsa3072", "SHA256", "rsa-pkcs1-sha256"),
        ("rsa3072", "SHA384", "rsa-pkcs1-sha384"),
        ("rsa3072", "SHA1", None),
        ("nistp256", "SHA512", None),
        ("nistp384", "SHA512", None),
        ("ed25519", "SHA512", "ed25519"),
        ("dsa3072", "SHA256", None),
    ],
)
def test_algorithms(gpg: Gnupg, tmp_path: Path, algorithm: str, hash_name: str, name: str | None) -> None:
    gpg.make(algorithm, algorithm)
    trust = made.trusting(tmp_path, gpg.certificate(algorithm))
    judgement = judged(trust, gpg.sign(algorithm, made.payload(), "--digest-algo", hash_name))
    assert (judgement.good, judgement.algorithm) == (name is not None, name), judgement.reason
    if name is None:
        assert judgement.reason.startswith("the algorithm ")
        assert hash_name.lower() in judgement.reason


ANYWHERE = made.configured(registry_name=None)
REMAPPED = made.configured(
    remap=(
        Remap(prefix="registry.example/team", signed_prefix="vendor.example/their"),
        Remap(prefix="registry.example", signed_prefix="last.example"),
    )
)


@pytest.mark.parametrize(
    ("config", "reference", "good"),
    [
        (made.CONFIG, "registry.example/team/app", True),
        (made.CONFIG, REFERENCE, True),
        (made.CONFIG, f"registry.example/team/app:v1@{IMAGE.digest}", True),
        (made.CONFIG, "other.example/team/app:v1", False),
        (made.CONFIG, "team/app:v1", False),
        (made.CONFIG, "registry.example/team/app/more:v1", False),
        (made.CONFIG, "registry.example/team/ap:v1", False),
        (made.CONFIG, "registry.example:443/team/app:v1", False),
        (made.CONFIG, "", False),
        (ANYWHERE, "team/app:v1", True),
        (ANYWHERE, "localhost/team/app", True),
        (ANYWHERE, "127.0.0.1:5000/team/app:v1", True),
        (ANYWHERE, "other/team/app:v1", False),
        (ANYWHERE, "127.0.0.1:5000/other/app:v1", False),
        (made.configured(identity="ignore"), "whatever", True),
        (REMAPPED, "vendor.example/their/app:v1", True),
        (REMAPPED, REFERENCE, False),
        (REMAPPED, "last.example/team/app:v1", False),
    ],
)
def test_references(gpg: Gnupg, trust: Trust, config: SigningConfig, reference: str, good: bool) -> None:
    judgement = judged(trust, gpg.sign("ed25519", made.payload(reference)), config=config)
    assert judgement.good is good, judgement.reason


@pytest.mark.parametrize(
    ("repository", "reference"),
    [("teams/app", "last.example/teams/app"), ("team", "vendor.example/their")],
)
def test_remapping_ends_where_a_part_does(gpg: Gnupg, trust: Trust, repository: str, reference: str) -> None:
    content = gpg.sign("ed25519", made.payload(reference))
    assert judged(trust, content, repository=repository, config=REMAPPED).good


def test_a_repository_that_is_not_remapped(gpg: Gnupg, trust: Trust) -> None:
    config = made.configured(remap=(Remap(prefix="registry.example/other", signed_prefix="vendor.example"),))
    assert judged(trust, gpg.sign("ed25519", made.payload()), config=config).good


def test_another_size_or_media_type(plain: bytes) -> None:
    """The manifest has to have the image as its subject, wholly."""
    artifact = write_artifact(IMAGE, plain)
    for subject in (
        Descriptor(IMAGE.media_type, IMAGE.digest, IMAGE.size + 1),
        Descriptor("application/vnd.oci.image.index.v1+json", IMAGE.digest, IMAGE.size),
        Descriptor(IMAGE.media_type, str(Digest.of(b"x")), IMAGE.size),
    ):
        with pytest.raises(Refused, match="another subject"):
            read_artifact(artifact, subject)
    assert read_artifact(artifact, IMAGE) == plain
