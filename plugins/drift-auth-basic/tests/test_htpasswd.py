"""Files of users: read, read again when they change, and kept as they were while they are broken."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from drift_auth_basic import htpasswd
from drift_auth_basic.config import BasicConfig

from drift_core.api import Credentials, Identity, Secret, StartError, Unauthorized

Sent = Callable[..., Credentials]


@pytest.fixture
def database_url() -> None:
    """SQLite alone: nothing here depends on what the database is."""


@pytest.fixture
def file(tmp_path: Path, bcrypt_of: Callable[..., str]) -> Path:
    file = tmp_path / "htpasswd"
    ann, ben, cleo = (bcrypt_of("correct horse", prefix=prefix) for prefix in ("2y", "2b", "2a"))
    file.write_text(f"# our users\r\n\r\nann:{ann}\r\nben:{ben}\ncleo:{cleo}\nann:{bcrypt_of('another')}\n")
    return file


@pytest.fixture
def config(file: Path) -> BasicConfig:
    return BasicConfig(htpasswd_files=(str(file),), failures_per_user=0, failures_per_address=0)


async def may(basic: Any, credentials: Credentials) -> bool:
    try:
        return isinstance(await basic.authenticate(credentials), Identity)
    except Unauthorized:
        return False


async def eventually(basic: Any, credentials: Credentials, *, expected: bool) -> float:
    """Returns after how many seconds the answer is what is expected."""
    began = time.monotonic()
    while await may(basic, credentials) is not expected:
        assert time.monotonic() - began < 10
        await anyio.sleep(0.02)
    return time.monotonic() - began


def write(file: Path, text: str) -> None:
    """In place, as an operator with an editor."""
    file.write_bytes(text.encode())


def read(file: Path) -> str:
    return file.read_bytes().decode()


def write_unseen(file: Path, text: str) -> None:
    """Leaves time, name and size of the file as they are."""
    before = file.stat()
    assert len(text) == before.st_size
    file.write_bytes(text.encode())
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(file: Path, text: str) -> None:
    """As `htpasswd` and every careful editor does."""
    new = file.with_name("new")
    new.write_text(text)
    new.rename(file)


async def test_users_of_a_file(config: BasicConfig, open_with: Any, sent: Sent) -> None:
    async with open_with(config) as basic:
        for name in ("ann", "ben", "cleo"):
            assert await may(basic, sent(name, "correct horse"))
            assert not await may(basic, sent(name, "Tr0ub4dor"))
        # Of two lines for one user the first counts, as for Apache.
        assert not await may(basic, sent("ann", "another"))


async def test_a_password_that_is_too_long_for_bcrypt_is_wrong(
    config: BasicConfig, file: Path, open_with: Any, sent: Sent, bcrypt_of: Callable[..., str]
) -> None:
    longest = "x" * 72
    write(file, f"ann:{bcrypt_of(longest)}")
    async with open_with(config) as basic:
        assert await may(basic, sent("ann", longest))
        assert not await may(basic, sent("ann", longest + "x"))
        assert not await may(basic, sent("nobody", longest + "x"))


async def test_a_change_has_effect_within_a_second(
    config: BasicConfig, file: Path, open_with: Any, sent: Sent, bcrypt_of: Callable[..., str]
) -> None:
    async with open_with(config) as basic:
        assert await may(basic, sent("ann", "correct horse"))
        replace(file, f"ann:{bcrypt_of('battery staple')}\n")
        assert await eventually(basic, sent("ann", "correct horse"), expected=False) < 1.5
        assert await may(basic, sent("ann", "battery staple"))
        write(file, "")
        assert await eventually(basic, sent("ann", "battery staple"), expected=False) < 1.5


async def test_a_change_that_no_time_or_size_shows_has_effect(
    config: BasicConfig, file: Path, open_with: Any, sent: Sent
) -> None:
    """Two changes within the resolution of a file's time, of which the second came while the first was read."""
    async with open_with(config) as basic:
        write_unseen(file, read(file).replace("ann:", "eve:"))
        assert await eventually(basic, sent("eve", "correct horse"), expected=True) < 1.5


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        ("ann:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n", ":1: not a hash of bcrypt"),
        ("# users\n\nann:$apr1$yBbl1Jwa$VGLkPKSPA4JgrXiq/mXcd1\n", ":3: not a hash of bcrypt"),
        pytest.param("hunter2\n", ":1: there is no colon behind the name", id="a password alone"),
        ("robot$ci:x\n", ":1: a name that begins with robot$"),
        ("\xff", ": not UTF-8"),
        (None, ": No such file or directory"),
    ],
)
async def test_a_broken_file(
    broken: str | None,
    complaint: str,
    config: BasicConfig,
    file: Path,
    open_with: Any,
    sent: Sent,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At the start it is an error, later a complaint, once, and the users stay as they were."""
    good = read(file)

    def spoil() -> None:
        if broken is None:
            file.unlink()
        else:
            file.write_bytes(broken.encode("latin-1"))

    monkeypatch.setattr(htpasswd, "LOOK_SECONDS", 0.05)
    async with open_with(config) as basic:
        spoil()
        for _ in range(3):
            await anyio.sleep(0.06)
            assert await may(basic, sent("ann", "correct horse"))
        said = capsys.readouterr().out
        assert said.count("cannot be used; its users stay as they were") == 1
        assert f"{file}{complaint}" in said
        assert "hunter2" not in said
        write(file, good.replace("ann:", "eve:"))
        await eventually(basic, sent("eve", "correct horse"), expected=True)
    spoil()
    with pytest.raises(StartError) as refused:
        async with open_with(config):
            pass
    assert f"auth.basic.htpasswd_files: {file}{complaint}" in str(refused.value)


async def test_sources_count_in_their_order(
    file: Path, open_with: Any, sent: Sent, bcrypt_of: Callable[..., str]
) -> None:
    second = file.with_name("second")
    second.write_text(f"ann:{bcrypt_of('of the second')}\ndan:{bcrypt_of('of the second')}\n")
    both = BasicConfig(
        users=(Secret("cleo:of the table"),), htpasswd_files=(str(file), str(second)), failures_per_user=0
    )
    async with open_with(both) as basic:
        await basic.users.add("dan", "of the database")
        await basic.users.add("fay", "of the database")
        right = {"cleo": "of the table", "ann": "correct horse", "dan": "of the second", "fay": "of the database"}
        for name, own in right.items():
            for word in {*right.values()}:
                assert await may(basic, sent(name, word)) is (own == word), (name, word)


async def test_a_large_file(tmp_path: Path, open_with: Any, sent: Sent, bcrypt_of: Callable[..., str]) -> None:
    """Fifty thousand users are read in a thread; requests go on meanwhile."""
    file, hashed = tmp_path / "many", bcrypt_of("correct horse")
    write(file, "".join(f"user{number}:{hashed}\n" for number in range(50_000)))
    config = BasicConfig(htpasswd_files=(str(file),))
    async with open_with(config) as basic:
        assert await may(basic, sent("user49999", "correct horse"))
        write(file, read(file) + f"last:{hashed}\n")
        await eventually(basic, sent("last", "correct horse"), expected=True)
