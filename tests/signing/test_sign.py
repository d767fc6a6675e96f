"""Signing and verifying as an operator does: by the API and by `drift sign` and `drift verify`."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from tests.faults.inspection import eventually, fsck
from tests.oci.client import Registry, refused
from tests.oci.content import digest_of, unknown_digest
from tests.signing.place import Place, drift, push_image, sign, verify


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with Place(tmp_path_factory.mktemp("sign"), audit={"enabled": True}) as place:
        yield place


@pytest.fixture(scope="module")
def root(place: Place) -> Iterator[Registry]:
    with place.client("root") as client:
        yield client


def about(digest: str) -> str:
    return digest.replace(":", "-") + ".sig"


def legacy(root: Registry, repository: str, digest: str) -> list[Any]:
    layers: list[Any] = root.get(f"/v2/{repository}/manifests/{about(digest)}").json()["layers"]
    return layers


def test_both_layouts_are_where_clients_look(root: Registry) -> None:
    manifest = push_image(root, "team/app", "one")
    made = {one["tag"]: one for one in sign(root, "team/app", "one", annotations={"build": "7"})}
    assert made.keys() == {about(manifest.digest), None}
    (referrer,) = root.referrers("team/app", manifest.digest)
    assert referrer["digest"] == made[None]["digest"]
    (layer,) = legacy(root, "team/app", manifest.digest)
    payload = root.get(f"/v2/team/app/blobs/{layer['digest']}").json()
    assert payload["critical"]["image"]["docker-manifest-digest"] == manifest.digest
    assert payload["optional"]["build"] == "7"
    found = verify(root, "team/app", manifest.digest)
    assert (found["verified"], found["required"], len(found["signatures"])) == (True, False, 2)
    assert {one["key_id"] for one in found["signatures"]} == {"default"}


def test_what_a_key_has_signed_is_not_signed_again(root: Registry) -> None:
    manifest = push_image(root, "team/again", "one")
    first = sign(root, "team/again", "one")
    again = sign(root, "team/again", manifest.digest)
    assert [one["already"] for one in first + again] == [False, False, True, True]
    assert {one["digest"] for one in first} == {one["digest"] for one in again}
    assert len(legacy(root, "team/again", manifest.digest)) == 1
    sign(root, "team/again", "one", key_id="other")
    assert len(legacy(root, "team/again", manifest.digest)) == 2


def test_signatures_at_the_same_time_are_all_kept(root: Registry, place: Place) -> None:
    """The older layout has all signatures under one tag: who reads, adds and writes must not lose another's."""
    manifest = push_image(root, "team/race", "one")

    def one(number: int) -> None:
        with place.client("root") as client:
            sign(client, "team/race", manifest.digest, annotations={"number": str(number)})

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(one, range(6)))
    assert len(legacy(root, "team/race", manifest.digest)) == 6
    assert len(root.referrers("team/race", manifest.digest)) == 6
    found = verify(root, "team/race", "one")
    assert [one["errors"] for one in found["signatures"]] == [[]] * 12
    assert len(found["signers"]) == 1


@pytest.mark.parametrize(
    ("wanted", "status", "code"),
    [
        ({"reference": "none"}, 404, "MANIFEST_UNKNOWN"),
        ({"reference": unknown_digest()}, 404, "MANIFEST_UNKNOWN"),
        ({"reference": "sha256:0"}, 400, "DIGEST_INVALID"),
        ({"key_id": "nobody"}, 403, "DENIED"),
        ({"key_id": "nobody", "formats": ["cosign"]}, 403, "DENIED"),
        ({"formats": ["gpg"]}, 405, "UNSUPPORTED"),
        ({"repository": "../etc"}, 400, "NAME_INVALID"),
        ({"format": "cosign"}, 400, "UNSUPPORTED"),
        ({"annotations": {"timestamp": 1}}, 400, "UNSUPPORTED"),
    ],
)
def test_bad_wishes(root: Registry, wanted: dict[str, Any], status: int, code: str) -> None:
    push_image(root, "team/bad", "one")
    body = json.dumps({"repository": "team/bad", "reference": "one"} | wanted).encode()
    answer = root.post("/admin/signing/sign", None, body)
    refused(answer, status, code)


def test_only_who_may_do_everything(place: Place, root: Registry) -> None:
    push_image(root, "team/app", "mine")
    body = b'{"repository": "team/app", "reference": "mine"}'
    with place.client("ann") as ann, Registry(place.server.url) as nobody:
        for path in ("/admin/signing/sign", "/admin/signing/verify"):
            refused(ann.post(path, None, body), 403, "DENIED")
            assert nobody.post(path, None, body).status_code == 401
        refused(ann.get("/admin/signing/keys"), 403, "DENIED")


def test_commands(place: Place, root: Registry) -> None:
    manifest = push_image(root, "team/command", "one")
    assert "it has no signature" in drift(place, "verify", "team/command:one", code=1)
    made = json.loads(drift(place, "sign", f"team/command@{manifest.digest}", "--json", "--annotation", "a=b"))
    assert [one["format"] for one in made] == ["cosign", "cosign"]
    table = drift(place, "verify", f"team/command@{manifest.digest}")
    assert ("counts" in table, "default" in table, "enough" in table) == (True, True, True)
    found = json.loads(drift(place, "verify", "team/command:one", "--json"))
    assert found == verify(root, "team/command", "one")
    assert "no format has such a key" in drift(place, "sign", "team/command:one", "--key", "nobody", code=1)
    assert "NAME=VALUE" in drift(place, "sign", "team/command:one", "--annotation", "a", code=2)
    assert fsck(place.server).clean


def test_it_is_explained(tmp_path: Path) -> None:
    place = Place(
        tmp_path, {"require_signatures": True, "repositories": [{"match": "free/*", "require_signatures": False}]}
    )
    steps = json.loads(drift(place, "plugins", "explain", "manifest.pull", "--json"))
    assert ("gate", "signing") in [(step["step"], step["plugin"]) for step in steps]
    steps = json.loads(drift(place, "plugins", "explain", "manifest.push", "--json"))
    (told,) = [step for step in steps if step["step"] == "subscriber" and step["plugin"] == "signing"]
    assert "cosign" in told["driver"]
    routes = json.loads(drift(place, "plugins", "routes", "--json"))
    assert {"/admin/signing/sign", "/extensions/v2/{image}"} <= {route["path"] for route in routes}


def test_keys(root: Registry) -> None:
    keys = root.get("/admin/signing/keys").json()
    assert {(key["format"], key["name"], key["kind"]) for key in keys if key["format"] == "cosign"} == {
        ("cosign", name, kind) for name in ("default", "other") for kind in ("signing key", "verification key")
    }
    assert "PRIVATE" not in json.dumps(keys)


def test_the_trail_has_what_was_signed_and_judged(root: Registry) -> None:
    manifest = push_image(root, "team/trail", "one")
    sign(root, "team/trail", "one")

    def kinds() -> set[str]:
        page = root.get("/api/audit/events", {"resource_id": "team/trail", "limit": 100}).json()
        return {event["event_type"] for event in page["events"]}

    eventually(lambda: {"SignatureCreated", "SignatureVerified"} <= kinds(), "events of signatures")
    bad = push_image(root, "team/trail", "two")
    (one,) = [one for one in sign(root, "team/trail", "one", annotations={"a": "b"}) if one["tag"] is None]
    signature = root.get(f"/v2/team/trail/manifests/{one['digest']}")
    forged = signature.content.replace(manifest.digest.encode(), bad.digest.encode())
    path = f"/v2/team/trail/manifests/{digest_of(forged)}"
    assert root.put(path, None, forged, content_type=signature.headers["content-type"]).status_code == 201
    eventually(lambda: "SignatureInvalid" in kinds(), "an event of a bad signature")


def test_a_key_that_cannot_be_read(tmp_path: Path) -> None:
    place = Place(tmp_path)
    (tmp_path / "default.key").write_bytes(b"no key")
    with pytest.raises(RuntimeError, match=r"default\.key: it is no private key"):
        place.start()
    (tmp_path / "drift.toml").write_bytes(tomli_w.dumps({"signing": {"enabled": True, "signing_key": []}}).encode())
    with pytest.raises(RuntimeError, match=r"signing\.signing_key.*signing_keys"):
        place.start()
