"""Signatures live and die with what they are about: by deletion, restoring, retention and collection."""

import sqlite3
from collections.abc import Iterator

import pytest

from tests.faults.inspection import PATIENCE, fsck
from tests.oci.client import Registry
from tests.signing.place import Place, drift, push_image, sign, verify

COLLECTOR = {"enabled": True, "grace_period_hours": 0, "max_share": 1.0, "interval_hours": 10_000}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with Place(tmp_path_factory.mktemp("life"), garbage_collector=COLLECTOR) as place:
        yield place


@pytest.fixture(scope="module")
def root(place: Place) -> Iterator[Registry]:
    with place.client("root") as client:
        yield client


def collect(place: Place, root: Registry) -> None:
    """Runs the collector after all times of grace are over."""
    with sqlite3.connect(place.folder / "data/drift.db", timeout=PATIENCE) as database:
        database.execute("UPDATE unreached SET since = since - 1e6")
    database.close()
    assert root.post("/admin/gc").status_code == 200


def judged(place: Place) -> int:
    with sqlite3.connect(place.folder / "data/drift.db", timeout=PATIENCE) as database:
        (count,) = database.execute("SELECT count(*) FROM judgements").fetchone()
    database.close()
    return int(count)


def test_they_stay_while_their_subject_does(place: Place, root: Registry) -> None:
    manifest = push_image(root, "team/app", "one")
    sign(root, "team/app", "one")
    collect(place, root)
    assert len(verify(root, "team/app", manifest.digest)["signatures"]) == 2


def test_they_go_with_it_and_come_back(place: Place, root: Registry) -> None:
    manifest = push_image(root, "team/gone", "one")
    sign(root, "team/gone", "one")
    assert verify(root, "team/gone", "one")["verified"]
    known = judged(place)
    assert root.delete(f"/v2/team/gone/manifests/{manifest.digest}").status_code == 202
    tag = f"{manifest.digest.replace(':', '-')}.sig"
    assert root.head(f"/v2/team/gone/manifests/{tag}").status_code == 404
    for _ in range(2):
        collect(place, root)
    assert root.referrers("team/gone", manifest.digest) == []
    assert judged(place) <= known - 2
    answer = root.post("/admin/signing/verify", None, b'{"repository": "team/gone", "reference": "one"}')
    assert answer.status_code == 404
    drift(place, "gc", "restore", manifest.digest)
    assert root.head(f"/v2/team/gone/manifests/{tag}").status_code == 200
    found = verify(root, "team/gone", manifest.digest)
    assert (found["verified"], len(found["signatures"])) == (True, 2)
    assert fsck(place.server).clean
