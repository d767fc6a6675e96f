"""Two nodes on one PostgreSQL: what is signed, or taken back, at one counts at once at the other."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from tests.services.postgresql import Postgresql
from tests.signing.place import ENFORCED, Place, pulled, push_image, sign, verify


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory, postgresql: Postgresql) -> Iterator[tuple[Place, Place]]:
    folder = tmp_path_factory.mktemp("nodes")
    tables = {
        "metadata": {"url": postgresql.url(postgresql.new_database())},
        "storage": {"type": "filesystem", "filesystem": {"path": str(folder / "blobs")}},
    }
    both = tuple(
        Place(folder / name, ENFORCED, signing={"registry_name": "registry.example.org"}, **tables)
        for name in ("one", "other")
    )
    for place in both:
        place.database = tables["metadata"]["url"].replace("+psycopg", "")
    with both[0], both[1]:
        yield both


def test_both_nodes_agree(places: tuple[Place, Place]) -> None:
    one, other = places
    with one.client("root") as root, other.client("bob") as bob, other.client("root") as there:
        for number in range(5):
            push_image(root, "team/app", f"{number}")
            assert pulled(bob, "team/app", f"{number}") == 403
            made = sign(root, "team/app", f"{number}")
            assert pulled(bob, "team/app", f"{number}") == 200
            assert verify(there, "team/app", f"{number}") == verify(root, "team/app", f"{number}")
            for artifact in made:
                assert there.delete(f"/v2/team/app/manifests/{artifact['digest']}").status_code == 202
            assert pulled(bob, "team/app", f"{number}") == 403


def test_what_one_has_judged_the_other_takes(places: tuple[Place, Place]) -> None:
    """Also where the files lie elsewhere; and no pull of either undoes what the other has kept."""
    with places[0].client("root") as root:
        push_image(root, "team/kept", "one")
        sign(root, "team/kept", "one")
    with places[0].client("bob") as bob, places[1].client("bob") as other:
        for client in (bob, other) * 3:
            assert pulled(client, "team/kept", "one") == 200
    with psycopg.connect(places[0].database) as database:
        rows = database.execute("SELECT count(*), count(DISTINCT trust), min(length(trust)) FROM judgements").fetchone()
    assert rows is not None
    count, labels, length = rows
    assert (count >= 2, labels, length) == (True, 1, 64)


def test_signatures_by_both_at_once(places: tuple[Place, Place]) -> None:
    with places[0].client("root") as root:
        digest = push_image(root, "team/race", "one").digest

    def one(number: int) -> None:
        with places[number % 2].client("root") as client:
            sign(client, "team/race", digest, annotations={"number": str(number)})

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(one, range(6)))
    with places[1].client("root") as root:
        found = verify(root, "team/race", "one")
    assert [said["errors"] for said in found["signatures"]] == [[]] * 12
