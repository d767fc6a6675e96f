"""`drift import registry` from a registry that serves: anonymous, by password, by token, and over a bad line."""

import asyncio
import os
from pathlib import Path

import bcrypt
import pytest

from drift_core.conformance import Fault, FaultProxy
from tests.clients.image_layout import ImageLayout
from tests.clients.programs import Programs
from tests.clients.registry_api import RegistryApi
from tests.server import Server
from tests.transfer.distribution import Distribution
from tests.transfer.moves import Done, Filled, assert_same, drift

MIB = 1 << 20
PASSWORD = "correct horse"


def test_everything_that_it_lists(
    run: Programs, old: Distribution, filled: Filled, place: Path, tmp_path: Path
) -> None:
    with Server(place) as server:
        planned = drift("import", "registry", old.url, "--dry-run", folder=place)
        done = drift("import", "registry", old.url, folder=place)
        assert (planned.code, done.code, done.copied()) == (0, 0, planned.copied())
        assert_same(run, old.address, server.host, filled.tags, tmp_path / "pulled")
        new = RegistryApi(server.host)
        # distribution has no list of referrers, and lends them a tag.
        assert {found["digest"] for found in new.referrers("team/app", filled.subject)} >= filled.referrers
        assert new.manifest_status("team/app", filled.untagged) == 404
        again = drift("import", "registry", old.url, folder=place)
        assert (again.code, again.copied(), again.counts["bytes"]) == (0, (0, 0, 0), 0)


def test_named_repositories_and_new_referrers(
    run: Programs, old: Distribution, filled: Filled, place: Path, tmp_path: Path
) -> None:
    """From a Drift, which lists referrers; what is attached after the first run comes with the second."""
    source = tmp_path / "source"
    assert drift("import", "distribution", old.data, folder=source).code == 0
    with Server(source) as server:
        run("crane", "delete", "--insecure", f"{server.host}/team/app:{filled.subject.replace(':', '-')}")
        for expected in (filled.referrers, {*filled.referrers, "new"}):
            attached = set(expected)
            if "new" in expected:
                attached = {*filled.referrers, _attach(run, f"{server.host}/team/app:v1")}
            done = drift("import", "registry", server.url, "team/app", "copied", folder=place)
            assert (done.code, done.counts["repositories"]) == (0, 2)
            with Server(place) as target:
                new = RegistryApi(target.host)
                assert {found["digest"] for found in new.referrers("team/app", filled.subject)} == attached
                assert_same(run, server.host, target.host, {"copied": {"v1"}}, tmp_path / str(len(attached)))


def _attach(run: Programs, reference: str) -> str:
    (run.home / "late").write_text("late")
    options = ("--plain-http", "--no-tty", "--artifact-type", "application/vnd.late", "--format", "json")
    return str(run("oras", "attach", *options, reference, "late", folder=run.home).json()["digest"])


def test_by_password(run: Programs, place: Path, tmp_path: Path) -> None:
    htpasswd = tmp_path / "htpasswd"
    htpasswd.write_text(_htpasswd("bob", PASSWORD))
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    layout = ImageLayout(tmp_path / "image")
    layout.tag(layout.add_image(70))
    with Distribution(htpasswd=htpasswd) as old:
        run("crane", "auth", "login", old.address, "-u", "bob", "--password-stdin", data=PASSWORD.encode())
        run("crane", "push", "--insecure", layout.folder, f"{old.address}/app:v1")

        def imported(*options: str | Path, data: str = "") -> Done:
            environment = {**os.environ, "REGISTRY_PASSWORD": PASSWORD}
            return drift("import", "registry", old.url, *options, folder=place, environment=environment, data=data)

        refused = imported()
        assert refused.code == 1
        assert "has to log in by --username" in refused.errors
        wrong = imported("--username", "bob", "--password-stdin", data="wrong")
        assert wrong.code == 1
        assert "401" in wrong.errors
        assert "wrong" not in wrong.errors
        ways: tuple[tuple[str | Path, ...], ...] = (
            ("--password-stdin",),
            ("--password-file", file),
            ("--password-env", "REGISTRY_PASSWORD"),
        )
        for number, way in enumerate(ways):
            done = imported("--username", "bob", *way, data=PASSWORD)
            assert (done.code, done.counts["tags"]["copied"]) == (0, 1 if number == 0 else 0)
        assert imported("--username", "bob").code == imported("--password-stdin", data="x").code == 2


def _htpasswd(user: str, password: str) -> str:
    return f"{user}:{bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()}\n"


@pytest.mark.parametrize("user", [None, "alice"])
def test_by_token(user: str | None, place: Path, tmp_path: Path) -> None:
    """Of Drift itself: nobody gets a token for what is public, alice one for everything."""
    settings = (
        'auth.chain=["token", "basic"]',
        f'auth.basic.users=["alice:{PASSWORD}"]',
        "rbac.enabled=true",
        'rbac.admins=["alice"]',
        'rbac.public=["public/*"]',
    )
    source = tmp_path / "source"
    layout = ImageLayout(tmp_path / "image")
    layout.tag(layout.add_image(80))
    for repository in ("public/app", "private/app"):
        assert drift("import", "oci-layout", layout.folder, repository, folder=source).code == 0
    login = ("--username", user, "--password-stdin") if user else ()
    with Server(source, *settings) as server:
        every = ("public/app", "private/app")
        done = drift("import", "registry", server.url, *every, *login, folder=place, data=PASSWORD)
    assert done.code == (0 if user else 1)
    assert done.counts["tags"]["copied"] == (2 if user else 1)
    if user is None:
        assert "401" in done.reasons("repository") or "no token" in done.reasons("repository")


async def test_an_answer_that_breaks_off_goes_on_from_there(run: Programs, place: Path, tmp_path: Path) -> None:
    layout = ImageLayout(tmp_path / "image")
    layout.tag(layout.add_image(90, layers=1, layer_size=20 * MIB, compression="stored"))
    with Distribution() as old:
        RegistryApi(old.address).put_content("app", "v1", layout)
        async with FaultProxy("127.0.0.1", old.port) as proxy:
            # Less than the layer on each connection: without going on, it would never arrive.
            proxy.inject(Fault("reset", after=7 * MIB))
            done = await asyncio.to_thread(drift, "import", "registry", f"http://{proxy.address}", "app", folder=place)
            assert proxy.struck.is_set()
        assert (done.code, done.counts["tags"]["copied"]) == (0, 1)
        with Server(place) as server:
            assert_same(run, old.address, server.host, {"app": {"v1"}}, tmp_path / "pulled")


def test_a_registry_that_is_not_there(place: Path) -> None:
    done = drift("import", "registry", "ftp://example.com", folder=place)
    assert done.code == 1
    assert "a registry is named by its URL" in done.errors
