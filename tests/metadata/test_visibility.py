"""The catalogue's query finds exactly the repositories that globs allow and none denies, in order and page by page."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, insert

from drift_core.metadata.database import create_engine
from drift_core.metadata.migrations import migrate
from drift_core.metadata.queries import visible_repository_names
from drift_core.metadata.tables import repositories
from drift_core.model import Visible

PARTS = ("a", "ab", "a_b", "axb", "a-b", "b", "z", "team", "team0", "zz9")
NAMES = sorted({*PARTS, *(f"{one}/{two}" for one in PARTS for two in PARTS), *(f"team/{one}/x" for one in PARTS)})
GLOBS = st.one_of(
    st.sampled_from(NAMES),
    st.builds("".join, st.lists(st.sampled_from(["*", "/", *PARTS]), min_size=1, max_size=4)),
)
DENIED = st.one_of(st.just(()), st.lists(GLOBS, max_size=2).map(tuple))
VISIBLES = st.builds(Visible, st.lists(GLOBS, max_size=4).map(tuple), DENIED, DENIED)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    url = f"sqlite:///{Path(tmp_path_factory.mktemp('visibility')) / 'drift.db'}"
    migrate(url)
    engine = create_engine(url)
    with engine.connect().execution_options(drift_write=True) as db, db.begin():
        db.execute(insert(repositories), [{"name": name, "created_at": 0} for name in NAMES])
    yield engine
    engine.dispose()


def expected(policies: Sequence[Visible]) -> list[str]:
    """The same, name by name."""

    def fits(name: str, globs: Sequence[str]) -> bool:
        return any(re.fullmatch(".*".join(map(re.escape, glob.split("*"))), name) for glob in globs)

    return [
        name
        for name in NAMES
        if any(fits(name, policy.allowed) for policy in policies)
        and all(not fits(name, policy.denied) or fits(name, policy.despite) for policy in policies)
    ]


@given(st.lists(VISIBLES, min_size=1, max_size=3), st.sampled_from(["", *NAMES]), st.integers(1, 30))
@example([Visible(("*",), ("a_b",))], "", 100)
@example([Visible(("*/a_b",))], "", 100)
@settings(deadline=None, max_examples=300)
def test_the_query_is_the_globs(engine: Engine, policies: list[Visible], after: str, limit: int) -> None:
    with engine.connect() as db:
        found = visible_repository_names(db, after, limit, policies)
    assert found == [name for name in expected(policies) if name > after][:limit]


def test_thousands_of_globs_are_no_error(engine: Engine) -> None:
    many = tuple(f"no/{number}-*" for number in range(3000))
    with engine.connect() as db:
        assert visible_repository_names(db, "", 1000, [Visible((*many, *NAMES, "team/*"), many, many)]) == NAMES
