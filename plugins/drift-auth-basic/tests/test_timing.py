"""Nobody learns from the clock who exists: by statistics over many guesses, not by one."""

import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest
from drift_auth_basic.accounts import Account, Directory, Roster
from drift_auth_basic.config import BasicConfig
from drift_auth_basic.passwords import DECOY, hash_password, matches

from drift_core.api import Credentials, Unauthorized

ROUNDS = 40


@pytest.fixture
def database_url() -> None:
    """SQLite alone: nothing here depends on what the database is."""


@pytest.mark.parametrize("kind", ["argon2", "bcrypt"])
async def test_an_unknown_user_costs_the_same(
    kind: str, open_with: Any, sent: Callable[..., Credentials], tmp_path: Any, bcrypt_of: Callable[..., str]
) -> None:
    """Also one who is disabled; each guess is a new one, in random order, so that a busy machine is fair."""
    file = tmp_path / "htpasswd"
    file.write_text(f"ann:{bcrypt_of('correct horse', cost=8)}\n" if kind == "bcrypt" else "")
    config = BasicConfig(htpasswd_files=(str(file),), failures_per_user=0, failures_per_address=0)
    names = ["ann", "nobody"] if kind == "bcrypt" else ["ann", "nobody", "gone"]
    spent: dict[str, list[float]] = {name: [] for name in names}
    async with open_with(config) as basic:
        if kind == "argon2":
            await basic.users.add("ann", "correct horse")
            await basic.users.add("gone", "correct horse")
            await basic.users.set_disabled("gone", disabled=True)
        for number in range(ROUNDS):
            for name in random.sample(names, len(names)):
                began = time.process_time()
                with pytest.raises(Unauthorized, match="the user name or the password is wrong"):
                    await basic.authenticate(sent(name, f"guess {number}"))
                spent[name].append(time.process_time() - began)
    known = statistics.median(spent.pop("ann"))
    for times in spent.values():
        # A fifth of what a hash takes: on a busy machine medians differ, and without the hash they differ by all of it.
        assert abs(statistics.median(times) - known) < known / 5


async def test_the_decoy_costs_what_most_users_cost(bcrypt_of: Callable[..., str]) -> None:
    cheap, dear = bcrypt_of("x", cost=4), bcrypt_of("x", cost=12)
    first = Roster.of([Account("a", dear), Account("b", cheap), Account("c", hash_password("x"))])
    second = Roster.of([Account("d", cheap), Account("e", dear), Account("f", dear), Account("f", cheap)])
    assert await Directory([first, second]).decoy() == dear
    assert (await Directory([Roster.of([])]).decoy()) == DECOY


def test_the_decoy_of_a_server_without_users_is_as_dear_as_a_user() -> None:
    assert DECOY.split("$")[1:4] == hash_password("x").split("$")[1:4]
    assert not matches("", DECOY)
