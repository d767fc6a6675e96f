"""What a collection asks of all there is, it asks no further than the answer decides anything."""

import pytest
from sqlalchemy import insert

from drift_core.metadata import reach
from drift_core.metadata.database import create_engine
from drift_core.metadata.tables import blobs, manifests, repositories, repository_blobs


@pytest.mark.parametrize(("at_most", "total"), [(1, 1), (3, 3), (5, 5), (7, 7), (100, 7)])
def test_all_there_is_is_counted_up_to_a_bound(either_url: str, at_most: int, total: int) -> None:
    engine = create_engine(either_url)
    about = {"media_type": "", "size": 0, "content": b"", "pushed_at": 0, "repository_id": 1}
    with engine.connect().execution_options(drift_write=True) as db, db.begin():
        db.execute(insert(repositories), [{"id": 1, "name": "team/app", "created_at": 0}])
        db.execute(insert(manifests), [{"digest": f"m{number}", **about} for number in range(3)])
        db.execute(insert(blobs), [{"digest": f"b{number}", "size": 0, "created_at": 0} for number in range(4)])
        db.execute(insert(repository_blobs), [{"repository_id": 1, "digest": f"b{number}"} for number in range(4)])
        assert reach.total(db, at_most) == total
    engine.dispose()
