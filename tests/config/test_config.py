"""The configuration: where values come from, what each mistake says, and that no secret is shown."""

import string
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drift_core.config import Config, Secret, is_loopback, load, parse_address, schema, to_toml
from drift_core.errors import ConfigError
from tests.tools import ROOT


class S3(msgspec.Struct, forbid_unknown_fields=True):
    bucket: str
    path: str = "unset"
    secret_key: Secret | None = None
    pin: Secret | None = None
    parts: int = 5


CLAIMED = {"storage.s3": S3}


def config(*overrides: str, **environ: str) -> Config:
    return load(None, environ, overrides)


def refusal(*overrides: str, **environ: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        config(*overrides, **environ).unclaimed(CLAIMED)
    return caught.value


def test_later_sources_win(tmp_path: Path) -> None:
    file = tmp_path / "drift.toml"
    file.write_text('[storage]\npath = "/file"\n[server]\nworkers = 1\nmax_connections = 7\n')
    environ = {"DRIFT_STORAGE__PATH": "/environment", "DRIFT_SERVER__WORKERS": "2"}
    loaded = load(file, environ, ["server.workers=3"])
    assert (loaded.server.max_connections, loaded.storage.path, loaded.server.workers) == (7, "/environment", 3)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("5", 5),
        ("plain", "plain"),
        ('"quoted"', "quoted"),
        ("[1, 2]", [1, 2]),
        ("{a = 1}", {"a": 1}),
        ("a=b", "a=b"),
        ("1\nother = 2", "1\nother = 2"),
    ],
)
def test_an_override_is_toml_or_plain_text(text: str, value: object) -> None:
    assert config(f"bolt.key={text}").document["bolt"]["key"] == value
    assert config(DRIFT_BOLT__KEY=text).document["bolt"]["key"] == value


def test_nested_variables_reach_nested_tables() -> None:
    assert config(DRIFT_AUTH__BASIC__USERS='["admin:pw"]').document["auth"]["basic"]["users"] == ["admin:pw"]
    assert config(DRIFT_PLUGINS="a, b").plugins.enabled == ("a", "b")


def test_no_auth_table_means_nobody_logs_in() -> None:
    assert config().auth is None
    assert config("auth.mode=none").auth is not None


@pytest.mark.parametrize(
    ("override", "path", "reason"),
    [
        ("server.bind_adr=1", "server.bind_adr", "did you mean server.bind_addr?"),
        ("servr.workers=1", "servr", "did you mean server?"),
        ("storage.sr.bucket=x", "storage.sr", "did you mean storage.s3?"),
        ("server.workers=0", "server.workers", ">= 1"),
        ("server.workers=two", "server.workers", "int"),
        ("server.workers.x=1", "server.workers", "expected"),
        ("registry.immutable_tags=[1]", "registry.immutable_tags[0]", "expected string"),
        ("logging.level=loud", "logging.level", "loud"),
        ("server.bind_addr=nowhere", "server.bind_addr", "host:port"),
        ("server.bind_addr=host:70000", "server.bind_addr", "host:port"),
        ("tls.cert_file=x", "tls", "belong together"),
        ("storage=1", "storage", "section.key"),
        ("storage.backend=fs", "storage.backend", "use storage.type"),
        ("database.backend=sqlite", "database", "use metadata.url"),
        ("bolt", "bolt", "section.key=value"),
    ],
)
def test_a_mistake_is_named_by_its_path(override: str, path: str, reason: str) -> None:
    error = refusal(override)
    assert error.path == path
    assert reason in error.reason


@pytest.mark.parametrize(
    ("name", "hint"),
    [("DRIFT_BIND_ADDR", "DRIFT_SERVER__BIND_ADDR"), ("DRIFT_STORAGE_PATH", "DRIFT_STORAGE__PATH"), ("DRIFT_X", "")],
)
def test_a_variable_that_names_no_section_is_an_error(name: str, hint: str) -> None:
    error = refusal(**{name: "x"})
    assert error.path == name
    assert hint in error.reason


def test_a_broken_file_is_named_with_the_place(tmp_path: Path) -> None:
    file = tmp_path / "drift.toml"
    with pytest.raises(ConfigError, match="No such file"):
        load(file, {}, [])
    file.write_text("[server]\nworkers = \n")
    with pytest.raises(ConfigError, match=r"drift\.toml: is not TOML: .*line 2"):
        load(file, {}, [])
    file.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="is not TOML"):
        load(file, {}, [])


def test_a_driver_s_table_is_read_into_its_struct() -> None:
    loaded = config("storage.path=/data", "storage.s3.bucket=b", "storage.s3.parts=9")
    assert loaded.section("storage.s3", S3, "storage") == S3("b", "/data", None, None, 9)
    assert config("storage.s3.bucket=b", "storage.s3.path=/own").section("storage.s3", S3, "storage").path == "/own"


@pytest.mark.parametrize(
    ("override", "path", "reason"),
    [
        ("storage.s3.buckt=b", "storage.s3.buckt", "did you mean storage.s3.bucket?"),
        ("storage.s3.parts=many", "storage.s3.parts", "int"),
        ("storage.s3.parts=1", "storage.s3", "missing"),
    ],
)
def test_a_mistake_in_a_driver_s_table_is_named_by_its_path(override: str, path: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(override).section("storage.s3", S3, "storage")
    assert caught.value.path == path
    assert reason in caught.value.reason


def test_tables_of_absent_plugins_are_told_with_their_distribution() -> None:
    loaded = config("quic.enabled=true", "storage.ghostbay.bucket=b", "auth.jwt_secret=x", "storage.parts=3")
    assert loaded.unclaimed(CLAIMED) == [
        ("quic", "drift-quic-aioquic"),
        ("storage.ghostbay", "drift-storage-ghostbay"),
        ("auth.jwt_secret", "drift-auth-token"),
    ]
    assert loaded.enabled("quic")
    assert not loaded.enabled("bolt")


def test_the_original_s_configuration_loads_unchanged() -> None:
    loaded = load(ROOT / "examples/original.toml", {}, [])
    claimed = {path for path, _ in loaded.unclaimed({})}
    assert {"bolt", "quic", "rbac", "audit", "cluster", "signing", "optimization", "storage.s3"} <= claimed
    assert loaded.auth is not None
    assert loaded.auth.mode == "basic"


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.toml")), ids=lambda path: path.name)
def test_every_example_loads_and_shows_itself_as_the_same_toml(example: Path, tmp_path: Path) -> None:
    shown = tmp_path / "shown.toml"
    shown.write_text(to_toml(load(example, {}, []).redacted({})))
    assert load(shown, {}, []).server == load(example, {}, []).server


def test_secrets_come_from_outside_and_are_never_shown(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from-a-file\n")
    file = tmp_path / "drift.toml"
    file.write_text(
        f"""
        [storage.s3]
        bucket = {{ env = "BUCKET" }}
        secret_key = {{ file = "{tmp_path / "key"}" }}
        pin = "hunter1"
        [metadata]
        url = "postgresql://drift:hunter2@db/drift"
        [auth.basic]
        users = ["admin:hunter3"]
        [audit.webhook_export]
        url = "https://user:hunter4@host/"
        [audit.webhook_export.headers]
        authorization = "Bearer hunter5"
        """
    )
    loaded = load(file, {"BUCKET": "from-the-environment"}, [])
    assert loaded.section("storage.s3", S3) == S3(
        "from-the-environment", secret_key=Secret("from-a-file"), pin=Secret("hunter1")
    )
    shown = to_toml(loaded.redacted(CLAIMED))
    for secret in ("from-the-environment", "from-a-file", "hunter"):
        assert secret not in shown
    assert shown.count("***") == 7
    assert "from-a-file" not in repr(loaded.section("storage.s3", S3))


@pytest.mark.parametrize("value", ['{env = "NOT_SET"}', '{file = "/does/not/exist"}'])
def test_a_secret_that_is_not_there_is_an_error(value: str) -> None:
    assert refusal(f"storage.s3.secret_key={value}").path == "storage.s3.secret_key"


def test_errors_hold_no_secret() -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, {"HIDDEN": "hunter2"}, ['server.workers={env="HIDDEN"}'])
    assert "hunter2" not in str(caught.value)


def test_the_schema_describes_core_and_drivers() -> None:
    described: dict[str, Any] = schema(CLAIMED)
    assert described["properties"]["storage"]["properties"]["s3"] == {"$ref": "#/$defs/S3"}
    assert described["$defs"]["S3"]["required"] == ["bucket"]
    assert described["$defs"]["ServerConfig"]["properties"]["max_connections"]["minimum"] == 1


def test_every_key_of_the_core_is_documented() -> None:
    page = (ROOT / "docs/reference/configuration.md").read_text()
    definitions = schema({})["$defs"]
    keys = [key for name, table in definitions.items() if name != "TlsConfig" for key in table["properties"]]
    assert len(keys) > 15
    assert [key for key in keys if f"| `{key}` |" not in page] == []


@pytest.mark.parametrize(
    ("address", "parsed"), [("127.0.0.1:5000", ("127.0.0.1", 5000)), ("[::1]:1", ("::1", 1)), ("host:0", ("host", 0))]
)
def test_addresses(address: str, parsed: tuple[str, int]) -> None:
    assert parse_address(address) == parsed


@pytest.mark.parametrize("address", ["", ":1", "host", "host:", "host:x", "::1:5", "host:65536", "host:-1", "[x]:1"])
def test_bad_addresses(address: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parse_address(address)


def test_loopback() -> None:
    assert all(map(is_loopback, ("127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1")))
    assert not any(map(is_loopback, ("0.0.0.0:1", "[::]:1", "10.0.0.1:1", "example.org:1")))


names = st.text(string.ascii_lowercase + "_.[]", min_size=1, max_size=12)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(names, children, max_size=3),
    max_leaves=8,
)


@given(table=st.sampled_from(["server", "storage", "auth", "registry", "quic", "nobody"]), key=names, value=values)
@settings(max_examples=300, deadline=None)
def test_whatever_is_written_only_config_errors_come_of_it(table: str, key: str, value: object) -> None:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    try:
        loaded = config(f"{table}.{key}={text}")
    except ConfigError:
        return
    assert to_toml(loaded.redacted({}))
