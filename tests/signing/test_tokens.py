"""Where clients log in by tokens made for one thing, they sign and pull as where they send a password."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.signing.cosign import PASSWORD, Cosign
from tests.signing.place import ENFORCED, Place, push_image, verify

USERS = ["root:root-password", "ann:ann-password", "bob:bob-password"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("tokens")
    Cosign(folder, "cosign").run("generate-key-pair")
    keys = {
        "signing_keys": [],
        "verification_keys": [{"key_id": "sealed", "public_key_path": str(folder / "cosign.pub")}],
    }
    auth = {"chain": ["token", "basic"], "basic": {"users": USERS}}
    with Place(folder, ENFORCED, signing=keys, auth=auth) as place:
        yield place


def logged_in(place: Place, folder: Path, user: str) -> Cosign:
    folder.mkdir()
    cosign = Cosign(folder, "cosign")
    login = {"auths": {place.server.host: {"username": user, "password": f"{user}-password"}}}
    (folder / "config.json").write_text(json.dumps(login))
    for file in ("cosign.key", "cosign.pub"):
        (folder / file).write_bytes((place.folder / file).read_bytes())
    return cosign


def test_who_may_push_signs_and_who_may_not_is_refused(place: Place, tmp_path: Path) -> None:
    with place.client("root") as root:
        manifest = push_image(root, "team/app", "one")
        image = f"{place.server.host}/team/app@{manifest.digest}"
        bob = logged_in(place, tmp_path / "bob", "bob")
        assert "DENIED" in bob.sign(image, "cosign.key", good=False)
        ann = logged_in(place, tmp_path / "ann", "ann")
        ann.sign(image, "cosign.key")
        assert verify(root, "team/app", "one")["verified"]
    bob.verify(image, "cosign.pub")
    assert PASSWORD not in place.server.log.read_text()
