"""The configuration: where values come from, what each mistake says, and that no secret is shown."""

import contextlib
import string
import traceback
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drift_core.address import is_loopback
from drift_core.config import CORE_TABLES, UNUSED, Config, Secret, load, parse_address, schema, to_toml
from drift_core.errors import ConfigError
from tests.tools import ROOT


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    label: Secret | None = None
    size: int = 1
    kind: Literal["small", "large"] = "small"


class S3(msgspec.Struct, forbid_unknown_fields=True):
    bucket: str
    path: str = "unset"
    secret_key: Secret | None = None
    pin: Secret | None = None
    parts: int = 5
    first: Part = Part()
    others: list[Part] = []
    labels: list[Secret] | None = None
    limits: dict[str, int] = {}


class Loose(msgspec.Struct):
    """Says nothing of what is in a table."""


CLAIMED = {"storage.s3": (S3,), "bolt": (Loose,)}


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
        pytest.param("9" * 5000, "9" * 5000, id="too many digits"),
        pytest.param("[" * 5000, "[" * 5000, id="too deep"),
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
        ("server.workers.x=1", "server.workers", "expected integer"),
        ("registry.immutable_tags=[1]", "registry.immutable_tags[0]", "expected string"),
        ("logging.level=loud", "logging.level", "must be one of debug, error, info, warning"),
        ("server.bind_addr=nowhere", "server.bind_addr", "host:port"),
        ("server.bind_addr=host:70000", "server.bind_addr", "host:port"),
        ("tls.cert_file=x", "tls", "belong together"),
        ("storage=1", "storage", "section.key"),
        ("storage.backend=fs", "storage.backend", "use storage.type"),
        ("database.backend=sqlite", "database", "use metadata.url"),
        ("cache.redis_url=x", "cache", "needs no cache"),
        ("bolt", "bolt", "section.key=value"),
        ("storage..path=x", "storage..path", "section.key"),
        ("server.env=HOME", "server.env", "unknown key"),
        ("storage.type=fs", "storage.type", 'did you mean "filesystem"?'),
        ("storage.s3=x", "storage.s3", "must be a table"),
        ("storage.bucke=x", "storage.bucke", "did you mean storage.bucket?"),
        ("storage.path=/a?b", "storage.path", "metadata.url"),
        ("metadata.url=drift.db", "metadata.url", "must be a URL"),
        ("auth.chain=[]", "auth.chain", "length >= 1"),
        ("server.ui_addr=host", "server.ui_addr", "host:port"),
    ],
)
def test_a_mistake_is_named_by_its_path(override: str, path: str, reason: str) -> None:
    error = refusal(override)
    assert error.path == path
    assert reason in error.reason


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("DRIFT_AUTH", "AUTH__MODE"),
        ("DRIFT_AUTH_JWT_SECRET", "AUTH__JWT_SECRET"),
        ("DRIFT_AUTH_MODE", "AUTH__MODE"),
        ("DRIFT_AZURE_TENANT_ID", "AUTH__OAUTH__AZURE__TENANT_ID"),
        ("DRIFT_BIND_ADDR", "SERVER__BIND_ADDR"),
        ("DRIFT_BOLT_AUTO_UPDATE_PROFILES", "BOLT__AUTO_UPDATE_PROFILES"),
        ("DRIFT_DATABASE_BACKEND", "METADATA__URL"),
        ("DRIFT_FS_ROOT", "STORAGE__PATH"),
        ("DRIFT_GHOSTBAY_ENABLE_S3_COMPAT", "GHOSTBAY__ENABLE_S3_COMPAT"),
        ("DRIFT_MAX_UPLOAD_SIZE_MB", "REGISTRY__MAX_UPLOAD_SIZE_MB"),
        ("DRIFT_OIDC_CLIENT_SECRET", "AUTH__OIDC__CLIENT_SECRET"),
        ("DRIFT_QUIC_ENABLED", "QUIC__ENABLED"),
        ("DRIFT_S3_BUCKET", "STORAGE__S3__BUCKET"),
        ("DRIFT_STORAGE_BACKEND", "STORAGE__TYPE"),
        ("DRIFT_STORAGE_PATH", "STORAGE__PATH"),
        ("DRIFT_STORAGE_PTH", "STORAGE__PATH"),
        ("DRIFT_TLS_CERT", "TLS__CERT_FILE"),
        ("DRIFT_UI_ADDR", "SERVER__UI_ADDR"),
        ("DRIFT_USERS", "AUTH__BASIC__USERS"),
        ("DRIFT_X", None),
    ],
)
def test_a_variable_that_names_no_section_is_an_error(name: str, hint: str | None) -> None:
    error = refusal(**{name: "hunter2"})
    assert error.path == name
    assert error.reason == "a variable is DRIFT_SECTION__KEY" + (f"; did you mean DRIFT_{hint}?" if hint else "")


def test_other_programs_variables_are_left_alone() -> None:
    assert config(DRIFT_CONFIG="x", DRIFT_REQUIRE_ALL="1", DRIFTING="1", PATH="/bin") == config()


def test_an_override_cannot_pass_through_a_value() -> None:
    assert refusal("server.bind_addr.host=x", DRIFT_SERVER__BIND_ADDR="h:1").path == "server.bind_addr"


def test_no_mode_and_a_chain_contradict_each_other() -> None:
    assert refusal("auth.mode=none", 'auth.chain=["basic"]').path == "auth.chain"


def test_a_broken_file_is_named_with_the_place(tmp_path: Path) -> None:
    file = tmp_path / "drift.toml"
    with pytest.raises(ConfigError, match="No such file"):
        load(file, {}, [])
    file.write_text("[server]\nworkers = \n")
    with pytest.raises(ConfigError, match=r"drift\.toml: is not TOML: .*line 2"):
        load(file, {}, [])
    file.write_bytes(b"[server]\n# \xff")
    with pytest.raises(ConfigError, match=r"drift\.toml: is not TOML: not UTF-8 \(at line 2, column 3\)"):
        load(file, {}, [])
    for value in ("9" * 5000, "[" * 5000, "{a=" * 80 + "1" + "}" * 80):
        file.write_text(f"[bolt]\nx = {value}\n")
        with pytest.raises(ConfigError):
            load(file, {}, [])


@pytest.mark.parametrize(
    ("text", "path", "reason"),
    [
        ("bind_addr = 'x'", "bind_addr", "did you mean server.bind_addr?"),
        ("server = 1", "server", "must be a table"),
        ("cluster = 1", "cluster", "must be a table"),
        ("[[storage]]", "storage", "must be a table"),
        ("[bolt]\nx." + ".".join("a" * 1000) + " = 1", "bolt.x", "nested too deeply"),
    ],
)
def test_what_stands_at_the_top_is_a_table(tmp_path: Path, text: str, path: str, reason: str) -> None:
    file = tmp_path / "drift.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(file, {}, [])
    assert caught.value.path.startswith(path)
    assert reason in caught.value.reason


def test_a_driver_s_table_is_read_into_its_struct() -> None:
    loaded = config("storage.path=/data", "storage.s3.bucket=b", "storage.s3.parts=9")
    assert loaded.section("storage.s3", S3, "storage") == S3("b", "/data", None, None, 9)
    assert config("storage.s3.bucket=b", "storage.s3.path=/own").section("storage.s3", S3, "storage").path == "/own"


@pytest.mark.parametrize(
    ("override", "path", "reason"),
    [
        ("storage.s3.buckt=b", "storage.s3.buckt", "did you mean storage.s3.bucket?"),
        ("storage.s3.parts=many", "storage.s3.parts", "int"),
        ("storage.s3.parts=1", "storage.s3.bucket", "is missing"),
        ('storage.s3={bucket="b",first={siz=1}}', "storage.s3.first.siz", "did you mean storage.s3.first.size?"),
        ('storage.s3={bucket="b",others=[{},{size="x"}]}', "storage.s3.others[1].size", "expected integer, got string"),
        ('storage.s3={bucket="b",others=[{sise=1}]}', "storage.s3.others[0].sise", "did you mean storage.s3.others[0]"),
        ('storage.s3={bucket="b",first={kind="x"}}', "storage.s3.first.kind", "must be one of large, small"),
        ('storage.s3={bucket="b",first=1}', "storage.s3.first", "expected table, got integer"),
        ('storage.s3={bucket="b",limits={a="x"}}', "storage.s3.limits[...]", "expected integer, got string"),
        ('storage.s3={bucket="b",pin=1}', "storage.s3.pin", "expected string, got integer"),
        ('storage.s3={bucket="b",labels=["x",true]}', "storage.s3.labels[1]", "expected string, got boolean"),
        ("storage.bucket=1", "storage.bucket", "expected string, got integer"),
        ("storage.s3=1", "storage.s3", "must be a table"),
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
        ("storage.ghostbay", "drift-storage-s3"),
        ("auth.jwt_secret", "drift-auth-token"),
    ]


def test_enabled_is_what_a_table_says_and_nothing_else() -> None:
    loaded = config(
        "quic.enabled=true", "auth.oauth.enabled=true", "rbac.enabled=false", "bolt.x=1", "audit.enabled=yes"
    )
    assert loaded.enabled("quic") is True
    assert loaded.enabled("auth.oauth") is True
    assert loaded.enabled("rbac") is False
    assert [loaded.enabled(path) for path in ("bolt", "metrics", "bolt.x")] == [None, None, None]
    with pytest.raises(ConfigError, match=r"audit\.enabled: must be true or false"):
        loaded.enabled("audit")


def test_a_section_needs_no_parent_table() -> None:
    class Token(msgspec.Struct):
        jwt_secret: Secret = Secret("x")
        mode: str = "own"

    assert config().section("auth.token", Token, "auth").mode == "own"
    assert config("auth.jwt_secret=y").section("auth.token", Token, "auth") == Token(Secret("y"), "basic")


def test_the_database_s_path_is_absolute() -> None:
    here = Path.cwd()
    assert config().database_url() == f"sqlite:///{here}/data/drift.db"
    assert config("storage.path=/a b").database_url() == "sqlite:////a b/drift.db"
    assert config("metadata.url=sqlite:///x/y.db?timeout=5").database_url() == f"sqlite:///{here}/x/y.db?timeout=5"
    for url in ("sqlite:////x/y.db", "sqlite:///:memory:", "postgresql://u:pw@h/db"):
        assert config(f"metadata.url={url}").database_url() == url


def test_the_original_s_configuration_loads_unchanged() -> None:
    loaded = load(ROOT / "examples/original.toml", {}, [])
    claimed = {path for path, _ in loaded.unclaimed({})}
    assert {"bolt", "quic", "rbac", "audit", "signing", "optimization", "storage.s3"} <= claimed
    assert loaded.auth is not None
    assert loaded.auth.mode == "basic"


def test_what_means_nothing_here_is_read_told_and_not_shown_as_a_default() -> None:
    loaded = load(ROOT / "examples/original.toml", {}, [])
    assert loaded.cluster.node_id == "node-1"
    assert [path for path, _ in loaded.unused()] == list(UNUSED)
    assert config().unused() == []
    for path in UNUSED:
        table, _, key = path.partition(".")
        assert getattr(getattr(config(), table), key) is None
    assert set(config().redacted({})["cluster"]) == {
        "enabled",
        "heartbeat_interval_seconds",
        "health_check_timeout_seconds",
    }


@pytest.mark.parametrize("url", ["", "sqlite:////var/lib/drift.db"])
def test_a_cluster_needs_a_database_that_nodes_share(url: str) -> None:
    settings = ["cluster.enabled=true", *([f"metadata.url={url}"] if url else [])]
    assert refusal(*settings).path == "cluster.enabled"
    assert config("cluster.enabled=true", "metadata.url=postgresql+psycopg://h/drift").cluster.enabled


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


@pytest.mark.parametrize(
    "override",
    [
        'storage.s3.first.label="hunter"',
        'storage.s3.others=[{}, {label="hunter"}]',
        'storage.s3.labels=["hunter", "hunter"]',
        "storage.pin=hunter",
        "bolt.password=10472",
        'bolt.headers={"X-Key"="hunter", n=10472}',
        'bolt.credentials={a=["hunter"], b={c=10472}}',
        'bolt.x={"my.password.hash"="hunter"}',
        'bolt.list=[{api_key="hunter"}]',
        "bolt.private_key=[10472, 10472]",
        "bolt.url=https://u:hunter@host/",
        "bolt.url=https://u:p@hunter@host/",
        "bolt.url=https://u:p/hunter@host/",
        "bolt.url=https://host/?a=1&password=hunter&b=2",
        'bolt.urls=["redis://:hunter@host"]',
        'bolt.deep={a={b=[{c={env="OUTSIDE"}}]}}',
        'metadata.url={env="OUTSIDE"}',
    ],
)
def test_every_form_of_a_secret_is_hidden_and_nothing_else(override: str) -> None:
    loaded = config(override, "bolt.open=seen", OUTSIDE="sqlite:///hunter")
    shown = to_toml(loaded.redacted(CLAIMED))
    assert "hunter" not in shown
    assert "10472" not in shown
    assert "***" in shown
    assert 'open = "seen"' in shown
    assert "hunter" not in repr(loaded)


def test_what_is_no_secret_is_shown() -> None:
    shown = config(
        "auth.token_expiry_hours=24",
        "bolt.token_required=true",
        "bolt.password=''",
        "bolt.url=http://h:80/a",
        "bolt.f=1.5",
    ).redacted(CLAIMED)
    assert shown["auth"]["token_expiry_hours"] == 24
    assert shown["bolt"] == {"token_required": True, "password": "", "url": "http://h:80/a", "f": 1.5}


def test_only_a_value_can_come_from_outside(tmp_path: Path) -> None:
    file = tmp_path / "drift.toml"
    file.write_text('[audit]\nfile = "audit.jsonl"\n')
    assert load(file, {}, []).document == {"audit": {"file": "audit.jsonl"}}
    file.write_text('[bolt]\nx = { env = "A", more = 1 }\ny = { env = 1 }\n')
    assert load(file, {}, []).document["bolt"] == {"x": {"env": "A", "more": 1}, "y": {"env": 1}}


def test_one_line_end_of_a_secret_file_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b" a\n\n")
    assert config(f"bolt.x={{file='{tmp_path}/key'}}").document["bolt"]["x"] == " a\n"


@pytest.mark.parametrize("value", ['{env = "NOT_SET"}', '{file = "/does/not/exist"}', '{file = "a\\u0000b"}'])
def test_a_secret_that_is_not_there_is_an_error(value: str) -> None:
    assert refusal(f"storage.s3.secret_key={value}").path == "storage.s3.secret_key"


def test_a_secret_file_that_is_no_text_is_an_error_without_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"hunter2\xff")
    error = refusal(f"bolt.x={{file='{tmp_path}/key'}}")
    assert error.path == "bolt.x"
    assert "not a file of UTF-8 text" in error.reason
    assert error.__cause__ is None
    assert "hunter2" not in "".join(traceback.format_exception(error))


@pytest.mark.parametrize(
    "path",
    [
        "server.workers",
        "server.bind_addr",
        "server.ui_addr",
        "logging.level",
        "registry.immutable_tags",
        "plugins.enabled",
    ],
)
def test_errors_hold_no_secret(path: str) -> None:
    error = refusal(f'{path}={{env="OUTSIDE"}}', OUTSIDE="hunter2")
    assert error.path == path
    assert "hunter2" not in "".join(traceback.format_exception(error))


@pytest.mark.parametrize("key", ["first.kind", "parts", "others", "limits", "labels"])
def test_errors_of_a_driver_s_table_hold_no_secret(key: str) -> None:
    loaded = config("storage.s3.bucket=b", f'storage.s3.{key}={{env="OUTSIDE"}}', OUTSIDE="hunter2")
    with pytest.raises(ConfigError) as caught:
        loaded.section("storage.s3", S3, "storage")
    assert caught.value.path == f"storage.s3.{key}"
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_an_override_without_a_value_may_be_a_secret() -> None:
    assert refusal("auth.jwt_secret hunter2").path == "auth.jwt_secret"


def test_the_schema_describes_core_and_drivers() -> None:
    described: dict[str, Any] = schema(CLAIMED)
    assert described["properties"]["storage"]["properties"]["s3"] == {"$ref": "#/$defs/S3"}
    assert described["$defs"]["S3"]["required"] == ["bucket"]
    assert described["$defs"]["S3"]["properties"]["secret_key"]["anyOf"][0] == {"type": "string"}
    assert described["$defs"]["ServerConfig"]["properties"]["max_connections"]["minimum"] == 1
    assert described["$defs"]["ServerConfig"]["additionalProperties"] is False
    assert "additionalProperties" not in described["$defs"]["StorageConfig"]


def test_drivers_of_several_plugins_may_name_their_struct_alike() -> None:
    first, second = (msgspec.defstruct("Settings", [(name, int)], module=name) for name in ("first", "second"))
    described = schema({"one": (first,), "storage.two": (second,), "three.four": (S3,)})["properties"]
    assert described["one"] != described["storage"]["properties"]["two"]
    assert described["three"]["properties"]["four"] == {"$ref": "#/$defs/S3"}


class Notary(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of two that read ``[signing]``."""

    enabled: bool = False
    notary: Secret | None = None


class Sealer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The other, which has a key that it must be given."""

    seal: Secret
    enabled: bool = False


SHARED = {"signing": (Notary, Sealer)}


def test_drivers_that_share_a_table_know_the_keys_of_each_other_and_no_more() -> None:
    loaded = config("signing.enabled=true", "signing.seal=x", "signing.notary=y")
    assert loaded.section("signing", Notary, others=SHARED["signing"]) == Notary(enabled=True, notary=Secret("y"))
    assert loaded.section("signing", Sealer, others=SHARED["signing"]) == Sealer(Secret("x"), enabled=True)
    # Where no plugin reads it, nobody knows what is secret.
    assert loaded.redacted({})["signing"] == {"enabled": True, "seal": "***", "notary": "***"}
    assert loaded.redacted(SHARED)["signing"] == {"enabled": True, "seal": "***", "notary": "***"}
    with pytest.raises(ConfigError, match=r"signing.notarys: unknown key; did you mean signing.notary"):
        config("signing.notarys=y").section("signing", Notary, others=SHARED["signing"])


def test_the_schema_of_a_shared_table_has_the_keys_of_all() -> None:
    described = schema(SHARED)["properties"]["signing"]
    assert set(described["properties"]) == {"enabled", "notary", "seal"}
    assert (described["required"], described["additionalProperties"]) == ([], False)


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


@pytest.mark.parametrize(
    "address",
    [
        "",
        ":1",
        "host",
        "host:",
        "host:x",
        "::1:5",
        "host:65536",
        "host:-1",
        "[x]:1",
        "h:+5",
        "h: 5",
        "h:5_0",
        "h:\u0665",
        "a b:1",
    ],
)
def test_bad_addresses(address: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parse_address(address)


def test_loopback() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "[::1]", "::1", "localhost", "LocalHost")))
    assert not any(map(is_loopback, ("0.0.0.0", "[::]", "10.0.0.1", "example.org", "localhost.example", "")))


names = st.text(string.ascii_lowercase + "_.[]", min_size=1, max_size=12)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(names, children, max_size=3),
    max_leaves=8,
)


tables = st.sampled_from([*CORE_TABLES, "quic", "nobody"])


def use(loaded: Config) -> None:
    """Does all that a command does with a configuration."""
    assert to_toml(loaded.redacted(CLAIMED))
    assert loaded.database_url()
    loaded.section("storage.s3", S3, "storage")
    loaded.enabled("quic")
    loaded.unclaimed(CLAIMED)


@given(table=tables, key=names, value=values)
@settings(max_examples=300, deadline=None)
def test_whatever_is_written_only_config_errors_come_of_it(table: str, key: str, value: object) -> None:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    with contextlib.suppress(ConfigError):
        use(config(f"{table}.{key}={text}"))


known_keys = st.sampled_from(
    sorted({key for struct in (*CORE_TABLES.values(), S3) for key in struct.__struct_fields__} | {"s3", "enabled"})
)
scalars = st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.datetimes() | st.dates()
toml = st.recursive(
    scalars,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(known_keys | names, children, max_size=3),
    max_leaves=8,
)
documents = st.dictionaries(tables, st.dictionaries(known_keys | names, toml, max_size=4) | toml, max_size=4)


@given(document=documents)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_file_holds_only_config_errors_come_of_it(tmp_path: Path, document: dict[str, Any]) -> None:
    file = tmp_path / "drift.toml"
    file.write_bytes(to_toml(document).encode())
    with contextlib.suppress(ConfigError):
        use(load(file, {}, []))
