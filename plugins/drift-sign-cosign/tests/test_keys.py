"""Key files: which are read, and which are refused with a reason and without their content."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ed448, ed25519, rsa, x25519
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS, PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
)
from drift_sign_cosign import algorithms
from drift_sign_cosign.keys import (
    LARGEST,
    Trusted,
    load_signing_key,
    load_verification_key,
    read_private_key,
    read_public_key,
)
from drift_sign_cosign.refusal import Refused
from drift_sign_cosign.trust import Trust
from hypothesis import given
from hypothesis import strategies as st

from drift_core.api import Secret, SigningKey, StartError, VerificationKey

from .conftest import (
    CLI,
    DAY,
    IMAGE,
    NOW,
    REPOSITORY,
    SIGSTORE,
    Authority,
    at,
    judged,
    pem,
    private_key,
    public_pem,
    signer,
    trust,
)

ALGORITHMS = {
    "p256": "ecdsa-p256-sha256",
    "p384": "ecdsa-p384-sha384",
    "rsa-2048": "rsa-pkcs1-sha256",
    "ed25519": "ed25519",
}
PASSWORD = "correct horse"


@pytest.mark.parametrize(("name", "algorithm"), ALGORITHMS.items())
def test_what_a_key_does(name: str, algorithm: str) -> None:
    key = private_key(name)
    assert algorithms.algorithm_of(key) == algorithms.algorithm_of(key.public_key()) == algorithm
    signature = algorithms.sign(key, b"message")
    assert algorithms.check(key.public_key(), signature, b"message") == algorithm
    assert algorithms.check(key.public_key(), signature, b"massage") is None
    assert algorithms.check(key.public_key(), signature[:-1], b"message") is None
    assert algorithms.check(key.public_key(), b"", b"message") is None


@given(st.sampled_from(sorted(ALGORITHMS)), st.binary(max_size=600), st.binary(max_size=100))
def test_what_is_no_signature(name: str, signature: bytes, message: bytes) -> None:
    assert algorithms.check(private_key(name).public_key(), signature, message) is None


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: private_key("p521"), "neither P-256 nor P-384"),
        (lambda: private_key("k1"), "neither P-256 nor P-384"),
        (lambda: private_key("rsa-1024"), "2048 to 4096 bits, not 1024"),
        (lambda: rsa.generate_private_key(3, 2048), "public exponent"),
        (lambda: dsa.generate_private_key(1024), "neither an ECDSA, an RSA nor an Ed25519 key"),  # noqa: S505
        (ed448.Ed448PrivateKey.generate, "neither an ECDSA, an RSA nor an Ed25519 key"),
        (x25519.X25519PrivateKey.generate, "neither an ECDSA, an RSA nor an Ed25519 key"),
    ],
)
def test_a_weak_key_or_one_for_something_else(make: Callable[[], Any], reason: str) -> None:
    key = make()
    for read in (lambda: read_private_key(pem(key), None), lambda: read_public_key(public_pem(key))):
        with pytest.raises(Refused, match=reason):
            read()


def test_a_long_key() -> None:
    """It is not generated, which would take a minute: what is public of it suffices."""
    key = rsa.RSAPublicNumbers(65537, (1 << 4096) + 1).public_key()
    with pytest.raises(Refused, match="2048 to 4096 bits, not 4097"):
        read_public_key(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


@pytest.mark.parametrize("ordinate", sorted(algorithms.SMALL_ORDER))
@pytest.mark.parametrize("sign", [0, 1])
def test_a_key_of_small_order(ordinate: int, sign: int) -> None:
    content = (ordinate | sign << 255).to_bytes(32, "little")
    with pytest.raises(Refused, match="small order"):
        algorithms.algorithm_of(ed25519.Ed25519PublicKey.from_public_bytes(content))


def test_why_a_key_of_small_order_is_refused() -> None:
    """Everybody has its signature, under any message."""
    neutral = (1).to_bytes(32, "little")
    ed25519.Ed25519PublicKey.from_public_bytes(neutral).verify(neutral + bytes(32), b"any message")


def test_small_orders_are_what_they_are_said_to_be() -> None:
    """Each, where it is on the curve, is the neutral element when it is doubled three times (RFC 8032 section 5.1)."""
    p = 2**255 - 19
    d = -121665 * pow(121666, -1, p)
    for ordinate in algorithms.SMALL_ORDER:
        y = ordinate % p
        square = (y * y - 1) * pow(d * y * y + 1, -1, p) % p
        x = pow(square, (p + 3) // 8, p)
        x = x if x * x % p == square else x * pow(2, (p - 1) // 4, p) % p
        assert x * x % p == square
        for _ in range(3):
            cross = d * x * x * y * y
            x, y = (
                2 * x * y * pow(1 + cross, -1, p) % p,
                (y * y + x * x) * pow(1 - cross, -1, p) % p,
            )
        assert (x, y) == (0, 1)


@pytest.mark.parametrize("name", ["cosign", "ec256", "ec384", "ed25519", "other", "rsa2048", "rsa4096"])
def test_public_keys_of_cosign(name: str) -> None:
    assert algorithms.algorithm_of(read_public_key((CLI / f"keys/{name}.pub").read_bytes()))


def test_the_key_of_a_certificate(root: Authority) -> None:
    certificate = root.certificate.public_bytes(Encoding.PEM)
    assert read_public_key(certificate) == root.key.public_key()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0",
        b"no key",
        (SIGSTORE / "managed-key-wrong-key_fail/key.pub").read_bytes(),
        b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        pem(private_key("p256")),
    ],
)
def test_what_is_no_public_key(content: bytes) -> None:
    with pytest.raises(Refused):
        read_public_key(content)


@pytest.mark.parametrize(
    "content", [b"", b"no key", public_pem(private_key("p256")), pem(private_key("p256"))[:-60], b"\xff" * 100]
)
def test_what_is_no_private_key(content: bytes) -> None:
    with pytest.raises(Refused, match="it is no private key"):
        read_private_key(content, None)


def test_an_encrypted_key() -> None:
    key = private_key("p256")
    content = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(PASSWORD.encode()))
    assert pem(read_private_key(content, PASSWORD)) == pem(key)
    with pytest.raises(Refused, match="or the password is wrong"):
        read_private_key(content, "wrong")
    for content_, password in ((content, None), (pem(key), PASSWORD)):
        with pytest.raises(Refused, match="no password is given, or the other way round"):
            read_private_key(content_, password)


def write(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


def test_an_entry_for_signing(tmp_path: Path, root: Authority) -> None:
    key, middle = private_key("p256"), Authority("middle", root)
    leaf = middle.issue(key=key)
    chain = b"".join(one.public_bytes(Encoding.PEM) for one in (leaf, middle.certificate, root.certificate))
    entry = SigningKey(
        key_id="release",
        algorithm="ecdsa-p256-sha256",
        key_path=write(tmp_path / "key", pem(key)),
        certificate_path=write(tmp_path / "chain", chain),
    )
    loaded = load_signing_key(entry)
    assert pem(loaded.private) == pem(key)
    # The root proves nothing to who does not have it.
    assert loaded.chain == (leaf, middle.certificate)
    other = SigningKey(key_id="x", key_path=write(tmp_path / "other", pem(private_key("p384"))))
    assert load_signing_key(other).chain == ()


def test_an_entry_for_verification_with_a_certificate(tmp_path: Path, root: Authority) -> None:
    key = private_key("p256")
    certificate = root.issue(key=key, ends=at(NOW) + DAY)
    path = write(tmp_path / "leaf", certificate.public_bytes(Encoding.PEM))
    entry = VerificationKey(key_id="a", public_key_path=path, certificate_path=path)
    loaded = load_verification_key(entry)
    assert (loaded.public, loaded.certificate, loaded.trusted) == (key.public_key(), certificate, True)


@pytest.mark.parametrize("layout", ["legacy", "bundle"])
async def test_a_key_counts_while_its_certificate_is_valid(layout: str, root: Authority) -> None:
    (trusted,) = trust().keys
    limited = Trust((Trusted("a", trusted.public, certificate=root.issue(key=private_key("p256"))),))
    (made,) = await signer(layout).sign(REPOSITORY, IMAGE, "release")
    good = judged(limited, made)
    assert (good.good, good.valid_until) == (True, (at(NOW) + 30 * DAY).timestamp())
    late = judged(limited, made, now=(at(NOW) + 31 * DAY).timestamp())
    assert (late.good, late.reason) == (False, "the certificate has expired")
    early = judged(limited, made, now=(at(NOW) - 2 * DAY).timestamp())
    assert (early.good, early.reason) == (False, "the certificate is not yet valid")
    # What is refused today may be good tomorrow.
    assert (early.valid_until, late.valid_until) == ((at(NOW) - DAY).timestamp(), None)


def test_an_entry_that_cannot_be_used(tmp_path: Path, root: Authority) -> None:
    key = write(tmp_path / "key", pem(private_key("p256")))
    public = write(tmp_path / "public", public_pem(private_key("p256")))
    foreign = write(tmp_path / "foreign", root.issue(key=private_key("p384")).public_bytes(Encoding.PEM))
    large = write(tmp_path / "large", bytes(LARGEST + 1))
    secret = Secret("hush")
    for path, options, reason in (
        (str(tmp_path / "none"), {}, "it cannot be read: No such file or directory"),
        (large, {}, "it is too large for a key"),
        (str(tmp_path), {}, "it cannot be read: Is a directory"),
        ("\0", {}, "it cannot be read: embedded null byte"),
        (foreign, {}, "it is no private key, or the password is wrong"),
        (key, {"algorithm": "ed25519"}, "it is a key for ecdsa-p256-sha256, not for ed25519"),
        (key, {"certificate_path": foreign}, "the first certificate is that of another key"),
        (key, {"certificate_path": key}, "it is no PEM file with certificates"),
    ):
        with pytest.raises(StartError, match="the key 'release' cannot be used; ") as failed:
            load_signing_key(SigningKey(key_id="release", key_path=path, **options))  # type: ignore[arg-type]
        assert str(failed.value).endswith(f"{options.get('certificate_path', path)}: {reason}")
    for path, options, reason in (
        (key, {}, "it is no public key"),
        (public, {"algorithm": "ecdsa-p384-sha384"}, "it is a key for ecdsa-p256-sha256, not for ecdsa-p384-sha384"),
        (public, {"certificate_path": foreign}, "the first certificate is that of another key"),
    ):
        with pytest.raises(StartError, match="the key 'a' cannot be used; ") as failed:
            load_verification_key(VerificationKey(key_id="a", public_key_path=path, **options))  # type: ignore[arg-type]
        assert str(failed.value).endswith(f"{options.get('certificate_path', path)}: {reason}")
    with pytest.raises(StartError) as failed:
        load_signing_key(SigningKey(key_id="release", key_path=key, password=secret))
    error: BaseException | None = failed.value
    while error is not None:
        assert "hush" not in f"{error} {error!r}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def test_no_secret_in_a_repr(tmp_path: Path) -> None:
    key = private_key("p256")
    entry = SigningKey(key_id="a", key_path=write(tmp_path / "key", pem(key)), password=None)
    number = key.private_numbers().private_value
    text = repr(load_signing_key(entry))
    assert str(number) not in text
    assert f"{number:x}" not in text
    assert "hush" not in repr(SigningKey(key_id="a", key_path="x", password=Secret("hush")))


def test_a_p384_key_signs_by_sha384_alone() -> None:
    """Cosign also takes SHA-256 under such a key; which hash it is the key says alone."""
    key = private_key("p384")
    assert algorithms.check(key.public_key(), key.sign(b"m", ECDSA(SHA384())), b"m") == "ecdsa-p384-sha384"
    assert algorithms.check(key.public_key(), key.sign(b"m", ECDSA(SHA256())), b"m") is None


def test_rsa_by_another_padding_or_hash() -> None:
    key = private_key("rsa-2048")
    for padding, used in ((PKCS1v15(), SHA384()), (PSS(MGF1(SHA256()), 32), SHA256())):
        assert algorithms.check(key.public_key(), key.sign(b"m", padding, used), b"m") is None
