"""Plugins as operators meet them: listed, disabled, broken, in conflict, missing; each said by name and reason."""

from pathlib import Path

import httpx
import pytest

from tests.oci.content import unique_blob
from tests.plugins.installation import Installation
from tests.server import Server, free_port

MEMORY = """
from drift_core.api import Driver, Struct, hookimpl

class Config(Struct, forbid_unknown_fields=True):
    size: int = 1

def open_memory(config, services):
    raise RuntimeError("no memory left")

@hookimpl
def drift_storage():
    return [Driver("memory", Config, open_memory)]
"""
LOGIN = """
from drift_core.api import Driver, Struct, hookimpl

class Config(Struct, forbid_unknown_fields=True):
    enabled: bool = True

@hookimpl
def drift_authn():
    return [Driver("login", Config, None)]
"""
COMMAND = """
import click
from drift_core.api import hookimpl

@click.command("greet")
def greet():
    click.echo("hello from a plugin")

@hookimpl
def drift_commands():
    return [greet]
"""


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation(tmp_path / "site")


def test_lists_what_each_plugin_offers(installation: Installation) -> None:
    installation.add("acme-memory", {"memory": "acme_memory"}, {"acme_memory": MEMORY}, version="3.2")
    rows = installation.plugins()
    assert rows["memory"] == [
        {
            "name": "memory",
            "distribution": "acme-memory",
            "version": "3.2",
            "offers": ["storage:memory"],
            "state": "loaded",
            "error": None,
        }
    ]
    assert rows["storage-fs"][0]["offers"] == ["storage:filesystem"]
    assert rows["http-httptools"][0]["offers"] == ["transport:http"]


def test_the_table_for_people_has_the_same_facts(installation: Installation) -> None:
    installation.add("acme-broken", {"sad": "acme_sad"}, {"acme_sad": "raise ImportError('libsad is missing')"})
    shown = installation.drift("plugins", "list").stdout
    assert "storage:filesystem" in shown
    assert "libsad is missing" in shown


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("raise ValueError('bad day')", "ValueError: bad day"),
        ("assert False, 'bad day'", "AssertionError: bad day"),
        ("raise SystemExit('bad day')", "SystemExit: bad day"),
        (MEMORY.replace("return [", "raise SystemExit(2) #"), "SystemExit: 2"),
        ("raise BaseException('panic')", "BaseException: panic"),
        (MEMORY.replace("def drift_storage()", "def drift_storage(config)"), "PluginValidationError"),
        (MEMORY.replace('"memory", Config', '"memory", dict'), "the config of the driver 'memory' is no Struct"),
        (MEMORY.replace("size: int", "size: 'Nowhere'"), "NameError: name 'Nowhere' is not defined"),
        (MEMORY.replace('Driver("memory"', 'Driver("mem.ory"'), "'mem.ory' is not a name for a driver"),
        (
            MEMORY.replace("drift_storage()", "drift_features()").replace('"memory"', '"registry"'),
            "[registry] is the core's",
        ),
        ("def broken(:", "SyntaxError"),
        (MEMORY.replace('return [Driver("memory", Config, open_memory)]', "raise KeyError('x')"), "KeyError: 'x'"),
        (MEMORY.replace('[Driver("memory", Config, open_memory)]', "[1]"), "a hook returned int, not Driver"),
        (MEMORY.replace("def drift_storage", "def drift_storrage"), "unknown hooks: drift_storrage"),
    ],
)
def test_a_broken_plugin_is_named_with_its_reason(installation: Installation, source: str, reason: str) -> None:
    installation.add("acme-broken", {"sad": "acme_sad"}, {"acme_sad": source})
    rows = installation.plugins()
    assert rows["sad"][0]["state"] == "broken"
    assert reason in rows["sad"][0]["error"]
    assert rows["storage-fs"][0]["state"] == "loaded"
    assert installation.drift("config", "check").returncode == 0


def test_a_broken_plugin_that_was_named_stops_the_start(installation: Installation) -> None:
    installation.add("acme-broken", {"sad": "acme_sad"}, {"acme_sad": "raise ValueError('bad day')"})
    done = installation.drift("config", "check", "--set", 'plugins.enabled=["storage-fs", "http-httptools", "sad"]')
    assert done.returncode == 1
    assert "sad cannot be loaded: ValueError: bad day" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_disabled_plugin_is_not_imported(installation: Installation, tmp_path: Path) -> None:
    witness = tmp_path / "imported"
    installation.add("acme-loud", {"loud": "acme_loud"}, {"acme_loud": f"open({str(witness)!r}, 'w').close()"})
    assert installation.plugins("--set", 'plugins.disabled=["loud"]')["loud"][0]["state"] == "disabled"
    assert installation.plugins("--set", 'plugins.enabled=["storage-fs"]')["loud"][0]["state"] == "disabled"
    assert installation.plugins(DRIFT_PLUGINS="storage-fs,http-httptools")["loud"][0]["state"] == "disabled"
    assert not witness.exists()
    assert installation.plugins()["loud"][0]["state"] == "loaded"
    assert witness.exists()


def test_a_plugin_that_is_not_installed_cannot_be_enabled(installation: Installation) -> None:
    done = installation.drift("config", "check", "--set", 'plugins.enabled=["storage-fs", "storage-moon"]')
    assert done.returncode == 1
    assert "storage-moon is not installed" in done.stderr
    assert "storage-fs" in done.stderr


@pytest.mark.parametrize("between", [False, True])
def test_two_distributions_with_one_name_are_both_named(installation: Installation, *, between: bool) -> None:
    """Neighbours or not: stevedore notices neither."""
    installation.add("acme-one", {"memory": "acme_one"}, {"acme_one": MEMORY}, version="1.0")
    if between:
        installation.add("acme-mid", {"aaa": "acme_mid"}, {"acme_mid": ""}, version="1.0")
    installation.add("zeta-two", {"memory": "zeta_two"}, {"zeta_two": MEMORY}, version="2.0")
    rows = installation.plugins()["memory"]
    assert {row["distribution"] for row in rows} == {"acme-one", "zeta-two"}
    for row in rows:
        assert row["state"] == "broken"
        assert "acme-one 1.0 and zeta-two 2.0" in row["error"]
    assert installation.drift("config", "check").returncode == 0


def test_two_drivers_with_one_name_stop_only_who_chooses_them(installation: Installation) -> None:
    installation.add("acme-one", {"one": "acme_one"}, {"acme_one": MEMORY}, version="1.0")
    installation.add("acme-two", {"two": "acme_two"}, {"acme_two": MEMORY}, version="2.0")
    assert installation.drift("config", "check").returncode == 0
    done = installation.drift("config", "check", "--set", "storage.type=memory")
    assert done.returncode == 1
    assert "'memory' is offered by acme-one 1.0 and acme-two 2.0" in done.stderr


@pytest.mark.parametrize(
    ("kind", "distribution"), [("s3", "drift-storage-s3"), ("ghostbay", "drift-storage-s3"), ("moon", None)]
)
def test_an_unknown_driver_names_who_provides_it(
    installation: Installation, kind: str, distribution: str | None
) -> None:
    settings = (f"storage.type={kind}", 'plugins.disabled=["storage-s3"]')
    done = installation.drift("config", "check", *(part for setting in settings for part in ("--set", setting)))
    assert done.returncode == 1
    assert f"no installed plugin offers the storage driver '{kind}'" in done.stderr
    assert "filesystem" in done.stderr.partition("(installed: ")[2]
    assert (f"{distribution} provides it" in done.stderr) == (distribution is not None)


def test_a_core_without_storage_says_which_package_provides_one(installation: Installation) -> None:
    done = installation.drift("serve", "--set", 'plugins.disabled=["storage-fs"]')
    assert done.returncode == 1
    assert "drift-storage-fs provides it" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("auth", [(), ("--set", "auth.mode=none")])
def test_policies_that_nobody_asks_stop_the_start(installation: Installation, auth: tuple[str, ...]) -> None:
    done = installation.drift("config", "check", *auth, "--set", "rbac.enabled=true")
    assert done.returncode == 1
    assert "auth: nobody has to log in, so that the policies (rbac) would never be asked" in done.stderr


def test_a_login_that_is_switched_on_and_not_chosen_stops_the_start(installation: Installation) -> None:
    """Somebody would wait for a button that never comes."""
    oauth = ("--set", "auth.oauth.enabled=true", "--set", 'auth.basic.users=["ann:a password"]')
    done = installation.drift("config", "check", *oauth)
    assert done.returncode == 1
    assert "auth.oauth.enabled: is true, but no chosen authenticator reads it" in done.stderr
    assert "behind what is there (basic)" in done.stderr


def test_a_driver_that_cannot_be_opened_is_named(installation: Installation, tmp_path: Path) -> None:
    installation.add("acme-memory", {"memory": "acme_memory"}, {"acme_memory": MEMORY}, version="3.2")
    done = installation.drift(
        "serve", "--set", "storage.type=memory", "--set", f"storage.path={tmp_path}", "--set", "server.workers=1"
    )
    assert done.returncode == 1
    assert "the storage driver 'memory' of acme-memory 3.2 cannot be opened" in done.stderr
    assert "no memory left" in done.stderr


def test_a_table_that_switches_on_what_is_missing_stops_the_start(installation: Installation) -> None:
    done = installation.drift("config", "check", "--set", "quic.enabled=true", "--set", 'plugins.disabled=["quic"]')
    assert done.returncode == 1
    assert "quic.enabled is true, but no installed plugin reads [quic]; drift-quic-aioquic does" in done.stderr
    assert installation.drift("config", "check", "--set", "garbage_collector.enabled=true").returncode == 0


def test_a_plugin_adds_a_command(installation: Installation) -> None:
    installation.add("acme-greet", {"greet": "acme_greet"}, {"acme_greet": COMMAND})
    assert "greet" in installation.drift("--help").stdout
    assert installation.drift("greet").stdout == "hello from a plugin\n"


def test_an_authenticator_that_is_chosen_and_switched_off_stops_the_start(installation: Installation) -> None:
    """Left out silently, it would leave the door open to everybody."""
    installation.add("acme-login", {"login": "acme_login"}, {"acme_login": LOGIN})
    chosen = ("--set", "auth.mode=login", "--set", "server.bind_addr=0.0.0.0:5000")
    assert installation.drift("config", "check", *chosen).returncode == 0
    done = installation.drift("config", "check", *chosen, "--set", "auth.login.enabled=false")
    assert done.returncode == 1
    assert "auth.login.enabled: is false, but the configuration chooses this driver by name" in done.stderr


HANGING = """
import asyncio
from contextlib import asynccontextmanager
from drift_core.api import Driver, Struct, hookimpl

class Config(Struct, forbid_unknown_fields=True):
    pass

@asynccontextmanager
async def open_memory(config, services):
    await asyncio.sleep(600)
    yield

@hookimpl
def drift_storage():
    return [Driver("memory", Config, open_memory)]
"""


def refused_start(installation: Installation, data: Path, source: str, *more: str) -> str:
    """Serves with the storage driver ``memory`` of a plugin, and returns why that ended."""
    installation.add("acme-memory", {"memory": "acme_memory"}, {"acme_memory": source})
    settings = ("storage.type=memory", f"storage.path={data}", f"server.bind_addr=127.0.0.1:{free_port()}", *more)
    done = installation.drift("serve", *(part for setting in settings for part in ("--set", setting)))
    assert done.returncode == 1
    return done.stderr


def test_a_driver_that_hangs_while_it_opens_stops_the_start_by_name(installation: Installation, tmp_path: Path) -> None:
    said = refused_start(installation, tmp_path, HANGING, "plugins.open_seconds=0.2")
    assert "the storage driver 'memory' of acme-memory 1.0 cannot be opened: it took more than 0.2 s" in said


def test_a_driver_of_the_wrong_type_stops_the_start(installation: Installation, tmp_path: Path) -> None:
    wrong = HANGING.replace("await asyncio.sleep(600)", "pass")
    assert "the storage driver 'memory' of acme-memory is no BlobStore" in refused_start(installation, tmp_path, wrong)


def test_a_server_runs_beside_every_kind_of_broken_plugin(
    installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None of them is chosen: the filesystem keeps the blobs."""
    installation.add("acme-import", {"import": "acme_import"}, {"acme_import": "raise SystemExit(3)"})
    installation.add("acme-hook", {"hook": "acme_hook"}, {"acme_hook": MEMORY.replace("return [", "return 1 / 0, [")})
    installation.add("acme-types", {"types": "acme_types"}, {"acme_types": MEMORY.replace("return [", "return [1, ")})
    installation.add("acme-newer", {"newer": "acme_newer"}, {"acme_newer": MEMORY}, requires="drift-core>=99")
    installation.add("acme-first", {"twin": "acme_first"}, {"acme_first": MEMORY})
    installation.add("acme-second", {"twin": "acme_second"}, {"acme_second": MEMORY})
    installation.add("acme-open", {"open": "acme_open"}, {"acme_open": MEMORY})
    installation.add("acme-hangs", {"hangs": "acme_hangs"}, {"acme_hangs": HANGING.replace('"memory"', '"hanging"')})
    monkeypatch.setenv("PYTHONPATH", str(installation.folder))
    with Server(tmp_path / "server", workers=1) as server:
        blob = unique_blob(20)
        url = f"{server.url}/v2/app/blobs/"
        assert httpx.post(f"{url}uploads/?digest={blob.digest}", content=blob.content).status_code == 201
        assert httpx.get(url + blob.digest).content == blob.content
    log = server.log.read_text()
    for name in ("import", "hook", "types", "newer", "twin"):
        assert f'"name": "{name}"' in log


def test_what_a_driver_says_of_its_start_is_told_with_its_name(installation: Installation, tmp_path: Path) -> None:
    refusing = HANGING.replace("await asyncio.sleep(600)", 'raise StartError("no tape in the drive")')
    refusing = refusing.replace("import Driver", "import StartError, Driver")
    assert "the storage driver 'memory' of acme-memory 1.0 cannot be opened: no tape in the drive" in refused_start(
        installation, tmp_path, refusing
    )


def test_a_driver_without_tables_gets_no_database(installation: Installation, tmp_path: Path) -> None:
    curious = HANGING.replace("await asyncio.sleep(600)", "await services.records.read(lambda db: None)")
    assert "cannot be opened: a driver without migrations has no tables to read or write" in refused_start(
        installation, tmp_path, curious
    )


@pytest.mark.parametrize(
    ("requirement", "reason"),
    [
        ("drift-core>=99", "needs drift-core >=99; this is"),
        ("Drift_Core (<0.0.1)", "needs drift-core <0.0.1; this is"),
        ("drift-core>=0.0.1", None),
        ('drift-core[conformance]>=99; extra == "test"', None),
        ("something-else>=99", None),
    ],
)
def test_a_plugin_for_another_api_is_broken_and_not_imported(
    installation: Installation, requirement: str, reason: str | None
) -> None:
    source = MEMORY if reason is None else "raise RuntimeError('imported')"
    installation.add("acme-memory", {"memory": "acme_memory"}, {"acme_memory": source}, requires=requirement)
    (row,) = installation.plugins()["memory"]
    assert row["state"] == ("loaded" if reason is None else "broken")
    if reason is not None:
        assert reason in row["error"]
        done = installation.drift("config", "check", DRIFT_PLUGINS="memory,storage-fs,http-httptools")
        assert done.returncode == 1
        assert reason in done.stderr


def test_metadata_that_cannot_be_read_makes_a_plugin_broken(installation: Installation) -> None:
    installation.add("acme-memory", {"memory": "acme_memory"}, {"acme_memory": MEMORY}, requires="drift-core >< 1")
    (row,) = installation.plugins()["memory"]
    assert row["state"] == "broken"
    assert "its metadata cannot be read" in row["error"]


def test_a_command_that_another_plugin_has_makes_a_plugin_broken(installation: Installation) -> None:
    installation.add("acme-greet", {"greet": "acme_greet"}, {"acme_greet": COMMAND})
    installation.add("acme-hail", {"hail": "acme_hail"}, {"acme_hail": COMMAND})
    rows = installation.plugins()
    assert (rows["greet"][0]["state"], rows["hail"][0]["state"]) == ("loaded", "broken")
    assert "another plugin has the command 'greet'" in rows["hail"][0]["error"]
