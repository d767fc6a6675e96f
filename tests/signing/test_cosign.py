"""cosign 2 and 3 take what is signed here, and what they sign is good here; nobody is asked outside this machine."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.oci.client import Registry
from tests.oci.content import Document
from tests.signing.cosign import PASSWORD, Cosign
from tests.signing.place import ENFORCED, Place, pulled, push_image, sign, verify

PROVENANCE = "https://slsa.dev/provenance/v1"
BOTH = pytest.mark.parametrize("version", ["cosign2", "cosign"])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("cosign")
    generated = Cosign(folder, "cosign")
    generated.run("generate-key-pair")
    generated.run("trusted-root", "create", "--out", "root.json")
    keys: dict[str, Any] = {
        "signing_keys": [
            {"key_id": "default", "key_path": str(folder / "default.key")},
            {"key_id": "sealed", "key_path": str(folder / "cosign.key"), "password": PASSWORD},
        ],
        "verification_keys": [
            {"key_id": "default", "public_key_path": str(folder / "default.pub")},
            {"key_id": "sealed", "public_key_path": str(folder / "cosign.pub")},
        ],
    }
    predicate = {"runDetails": {"builder": {"id": "https://ci.example.org/release/1"}}}
    (folder / "attested.json").write_text(json.dumps(predicate))
    keys["in_toto"] = {
        "builders": ["https://ci.example.org/release/*"],
        "predicate_type": PROVENANCE,
        "predicate_path": str(folder / "attested.json"),
    }
    # Signatures are those of cosign, but where images are built those of the builder.
    built = {"match": "built/*", "allowed_signature_formats": ["in-toto"]}
    place = Place(folder, {**ENFORCED, "repositories": [built]}, signing=keys)
    login = {"auths": {place.server.host: {"username": "ann", "password": "ann-password"}}}
    (folder / "config.json").write_text(json.dumps(login))
    with place:
        yield place


@pytest.fixture(scope="module")
def root(place: Place) -> Iterator[Registry]:
    with place.client("root") as client:
        yield client


@pytest.fixture
def bob(place: Place) -> Iterator[Registry]:
    with place.client("bob") as client:
        yield client


def at(place: Place, repository: str, manifest: Document) -> str:
    return f"{place.server.host}/{repository}@{manifest.digest}"


def judged(root: Registry, repository: str, manifest: Document) -> list[tuple[str, bool]]:
    """Returns key and verdict of each signature."""
    found: dict[str, Any] = verify(root, repository, manifest.digest)
    return [(one["key_id"], one["trusted"]) for one in found["signatures"]]


@BOTH
@pytest.mark.parametrize("layout", [["--new-bundle-format"], ["--new-bundle-format=false"]])
def test_what_cosign_signs(place: Place, root: Registry, bob: Registry, version: str, layout: list[str]) -> None:
    cosign, repository = Cosign(place.folder, version), f"theirs/{version}-{len(layout[0])}"
    manifest = push_image(root, repository, "latest")
    assert pulled(bob, repository, "latest") == 403
    cosign.sign(at(place, repository, manifest), "cosign.key", *layout)
    assert judged(root, repository, manifest) == [("sealed", True)]
    assert pulled(bob, repository, "latest") == 200
    # Twice by one key is still one signer, and two are two.
    cosign.sign(at(place, repository, manifest), "cosign.key", *layout, "-a", "build=7")
    assert len(verify(root, repository, "latest")["signers"]) == 1
    sign(root, repository, "latest", key_id="default", formats=["cosign"])
    assert len(verify(root, repository, "latest")["signers"]) == 2


@BOTH
@pytest.mark.parametrize("key", ["default", "sealed"])
def test_what_is_signed_here(place: Place, root: Registry, version: str, key: str) -> None:
    cosign, repository = Cosign(place.folder, version), f"ours/{version}-{key}"
    manifest = push_image(root, repository)
    public = "cosign.pub" if key == "sealed" else "default.pub"
    cosign.verify(at(place, repository, manifest), public, good=False)
    sign(root, repository, manifest.digest, key_id=key, formats=["cosign"], annotations={"build": "7"})
    for layout in ("--new-bundle-format=true", "--new-bundle-format=false"):
        said = cosign.verify(at(place, repository, manifest), public, layout)
        assert manifest.digest in said
    older = "--new-bundle-format=false"
    cosign.verify(at(place, repository, manifest), public, older, "-a", "build=7")
    # Where there is a bundle cosign 2 looks at nothing else, and at no annotations in it.
    cosign.verify(at(place, repository, manifest), public, older, "-a", "build=8", good=not cosign.newest)
    other = "default.pub" if key == "sealed" else "cosign.pub"
    cosign.verify(at(place, repository, manifest), other, good=False)


@BOTH
def test_cosign_adds_to_what_is_signed_here(place: Place, root: Registry, version: str) -> None:
    cosign, repository = Cosign(place.folder, version), f"both/{version}"
    manifest = push_image(root, repository)
    sign(root, repository, manifest.digest, key_id="default", formats=["cosign"])
    cosign.sign(at(place, repository, manifest), "cosign.key", "--new-bundle-format=false")
    layers = root.get(f"/v2/{repository}/manifests/{manifest.digest.replace(':', '-')}.sig").json()["layers"]
    assert len(layers) == 2
    assert sorted(judged(root, repository, manifest)) == [("default", True), ("default", True), ("sealed", True)]


@BOTH
@pytest.mark.parametrize("layout", [["--new-bundle-format"], ["--new-bundle-format=false"]])
def test_an_attestation_is_no_signature(
    place: Place, root: Registry, bob: Registry, version: str, layout: list[str]
) -> None:
    """The client itself takes any bundle by the key for a signature."""
    cosign, repository = Cosign(place.folder, version), f"attested/{version}-{len(layout[0])}"
    manifest = push_image(root, repository, "latest")
    (place.folder / "predicate.json").write_text('{"builder": "here"}')
    words = ("--type", "custom", "--predicate", "predicate.json", *layout)
    cosign.attest(at(place, repository, manifest), "cosign.key", *words)
    assert pulled(bob, repository, "latest") == 403
    assert not [one for one in verify(root, repository, "latest")["signatures"] if one["format"] == "cosign"]


@BOTH
@pytest.mark.parametrize("layout", [["--new-bundle-format"], ["--new-bundle-format=false"]])
def test_what_cosign_attests(place: Place, root: Registry, bob: Registry, version: str, layout: list[str]) -> None:
    """Where provenance by a builder is required, that of another builder is not enough."""
    cosign, repository = Cosign(place.folder, version), f"built/{version}-{len(layout[0])}"
    for builder, status in (("https://ci.example.org/other", 403), ("https://ci.example.org/release/7", 200)):
        manifest = push_image(root, repository, "latest")
        predicate = {"buildDefinition": {"buildType": "make"}, "runDetails": {"builder": {"id": builder}}}
        (place.folder / "predicate.json").write_text(json.dumps(predicate))
        words = ("--type", PROVENANCE, "--predicate", "predicate.json", *layout)
        cosign.attest(at(place, repository, manifest), "cosign.key", *words)
        assert pulled(bob, repository, "latest") == status
        (said,) = verify(root, repository, "latest")["signatures"]
        assert (said["format"], said["key_id"], said["trusted"]) == ("in-toto", "sealed", status == 200)


@BOTH
def test_what_is_attested_here(place: Place, root: Registry, version: str) -> None:
    cosign, repository = Cosign(place.folder, version), f"attests/{version}"
    manifest = push_image(root, repository, "latest")
    offline = ["--insecure-ignore-tlog", "--type", PROVENANCE]
    offline += [] if cosign.newest else ["--trusted-root", "root.json", "--new-bundle-format"]
    image = at(place, repository, manifest)
    cosign.run("verify-attestation", "--key", "default.pub", *offline, image, good=False)
    sign(root, repository, "latest", formats=["in-toto"])
    cosign.run("verify-attestation", "--key", "default.pub", *offline, image)
    cosign.run("verify-attestation", "--key", "cosign.pub", *offline, image, good=False)


@BOTH
def test_cosign_takes_signatures_away(place: Place, root: Registry, bob: Registry, version: str) -> None:
    cosign, repository = Cosign(place.folder, version), f"clean/{version}"
    (place.folder / "config.json").write_text(
        json.dumps({"auths": {place.server.host: {"username": "root", "password": "root-password"}}})
    )
    manifest = push_image(root, repository, "latest")
    sign(root, repository, "latest", key_id="default", formats=["cosign"])
    assert pulled(bob, repository, "latest") == 200
    cosign.run("clean", "-f", "--type", "all", at(place, repository, manifest))
    assert root.head(f"/v2/{repository}/manifests/{manifest.digest.replace(':', '-')}.sig").status_code == 404
    cosign.run("tree", at(place, repository, manifest))
