"""Which users a configuration may have, and that nothing of a password is shown where it may not."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from drift_auth_basic.config import BasicConfig
from drift_auth_basic.hashes import cost_of, is_hash

from drift_core.api import Config, Secret, StartError
from drift_core.config import load

ARGON2 = "$argon2id$v=19$m=19456,t=2,p=1$6p7GphQQs3/Tyc1jxiOhIQ$Xn9hSNqd1gcLD5NeDZZ/bvEXJBrO4TuTKo5/WljgVRw"
BCRYPT = "$2y$04$n4jsGnk7jkJqoP1H7SExCedBgDkgQ2bHznB4EUGI7OMfEQWZzl.Ce"


@pytest.fixture
def database_url() -> None:
    """SQLite alone: nothing here depends on what the database is."""


def section(table: dict[str, Any]) -> Any:
    config: Config = load({"auth": {"mode": "basic", "basic": table}}, {}, ())
    return config.section("auth.basic", BasicConfig, "auth")


@pytest.mark.parametrize(
    ("hashed", "cost"),
    [
        (ARGON2, "argon2id 19456 2 1"),
        (BCRYPT, "bcrypt 04"),
        (BCRYPT.replace("$2y$", "$2b$"), "bcrypt 04"),
        (BCRYPT.replace("$2y$04", "$2a$12"), "bcrypt 12"),
    ],
)
def test_a_hash_says_what_it_costs(hashed: str, cost: str) -> None:
    assert cost_of(hashed) == cost
    assert is_hash(hashed)


@pytest.mark.parametrize(
    "text",
    [
        *("", "secret", "rqXexS6ZhobKA", "$apr1$yBbl1Jwa$VGLkPKSPA4JgrXiq/mXcd1", "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g="),
        *("$5$a$b", "$2x$04$" + BCRYPT[7:], "$2y$17$" + BCRYPT[7:], "$2y$03$" + BCRYPT[7:], BCRYPT[:-1]),
        # The last character of a salt has two bits.
        *(BCRYPT[:28] + "z" + BCRYPT[29:], BCRYPT + "\n"),
        *(ARGON2.replace("m=19456", memory) for memory in ("m=1048577", "m=7", "m=0", "m=x")),
        *(ARGON2.replace("t=2", "t=65"), ARGON2.replace("t=2", "t=0"), ARGON2.replace("p=1", "p=65")),
        *(ARGON2.replace("v=19", "v=16"), ARGON2.replace("argon2id", "argon2x")),
    ],
)
def test_other_hashes_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"hash") as refused:
        cost_of(text)
    assert not text or text not in str(refused.value)


def test_users_of_a_configuration() -> None:
    users = ["ann:correct horse", f"ben:{ARGON2}", f"cleo:{BCRYPT}", "dan:a:b", "eve:$2 and a half"]
    config = section({"users": users})
    assert list(config.users) == users
    assert all(isinstance(user, Secret) for user in config.users)
    assert "horse" not in repr(config)


@pytest.mark.parametrize(
    ("users", "reason"),
    [
        (["hunter2"], r"users\[0\]: there is no colon behind the name"),
        ([":hunter2"], r"users\[0\]: a user name has 1 to 128 characters"),
        ([f"{'n' * 129}:hunter2"], r"users\[0\]: a user name has 1 to 128 characters"),
        (["ann:"], r"users\[0\]: a password has 1 to 1024 bytes"),
        (["ann:hunter2" + "ä" * 510], r"users\[0\]: a password has 1 to 1024 bytes"),
        (["ann:x", "ben\t:hunter2"], r"users\[1\]: a user name has no colon, no control characters"),
        (["ann:hunter2\n"], r"users\[0\]: a password has no control characters"),
        (["robot$ci:hunter2"], r"users\[0\]: a name that begins with robot\$ is that of a robot account"),
        (["ann:x", "ben:y", "ann:hunter2"], r"users\[2\]: users\[0\] has the same name"),
        (["ann:$2y$99$hunter2"], r"users\[0\]: not a hash"),
        (["ann:$argon2id$hunter2"], r"users\[0\]: not a hash"),
    ],
)
def test_users_that_cannot_be(users: list[str], reason: str) -> None:
    with pytest.raises(StartError) as refused:
        section({"users": users})
    assert re.search(reason, str(refused.value))
    assert str(refused.value).startswith("auth.basic")
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("table", [{"user": []}, {"remember_seconds": -1}, {"failures_per_user": -1}, {"users": "a:b"}])
def test_other_mistakes(table: dict[str, Any]) -> None:
    with pytest.raises(StartError, match=r"^auth\.basic\."):
        section(table)


@pytest.mark.parametrize("user", ["admin:changeme", "ci:tokenonly", "developer:devpass123"])
@pytest.mark.parametrize("address", ["0.0.0.0:5000", "[::]:5000", "192.0.2.1:5000", "registry.example:5000"])
async def test_a_password_that_everybody_knows_is_refused_for_others(
    user: str, address: str, open_on: Callable[..., Any]
) -> None:
    with pytest.raises(StartError, match=r"everybody knows the password of .*`drift user add`") as refused:
        async with open_on(address, section({"users": ["ann:correct horse", user]})):
            pass
    assert user.partition(":")[2] not in str(refused.value)


@pytest.mark.parametrize("address", ["127.0.0.1:5000", "[::1]:5000", "localhost:5000"])
async def test_a_password_that_everybody_knows_is_a_warning_here(
    address: str, open_on: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_on(address, section({"users": ["admin:changeme"]})):
        assert "everybody knows a password" in capsys.readouterr().out
    async with open_on("0.0.0.0:5000", section({"users": ["admin:changed"]})):
        assert "everybody" not in capsys.readouterr().out


async def test_an_authenticator_keeps_no_password(open_on: Callable[..., Any], tmp_path: Path) -> None:
    del tmp_path
    async with open_on("127.0.0.1:5000", section({"users": ["ann:correct horse"]})) as basic:
        account = await basic.directory.find("ann")
        assert account.hashed.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
