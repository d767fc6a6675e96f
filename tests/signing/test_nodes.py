"""Two nodes on one PostgreSQL: what is signed, or taken back, at one counts at once at the other."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

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
    both = tuple(Place(folder / name, ENFORCED, **tables) for name in ("one", "other"))
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
