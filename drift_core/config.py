"""The configuration: read from TOML, the environment and ``--set``, checked, and shown without its secrets."""

import difflib
import ipaddress
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import msgspec
import tomli_w
from msgspec import Meta, Struct

from drift_core.errors import ConfigError

T = TypeVar("T", bound=Struct)
HIDDEN = "***"


class Secret(str):
    """A value that no command and no log shows; in a driver's Struct ``key: Secret`` or ``key: Secret | None = None``."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Secret({HIDDEN!r})"


class ServerConfig(Struct, frozen=True, kw_only=True):
    """``[server]``: addresses as ``host:port``; a drain after SIGTERM in seconds; ``workers`` None is one per core."""

    bind_addr: str = "127.0.0.1:5000"
    ui_addr: str = "127.0.0.1:5001"
    workers: Annotated[int, Meta(ge=1, le=1024)] | None = None
    max_connections: Annotated[int, Meta(ge=1)] = 1000
    drain_seconds: Annotated[float, Meta(ge=0)] = 30.0


class TlsConfig(Struct, frozen=True, kw_only=True):
    """``[tls]``: paths of PEM files; both or neither."""

    cert_file: str | None = None
    key_file: str | None = None


class MetadataConfig(Struct, frozen=True, kw_only=True):
    """``[metadata]``: where records are kept; None means the file ``drift.db`` in the folder ``storage.path``."""

    url: str | None = None


class StorageConfig(Struct, frozen=True, kw_only=True):
    """``[storage]``: the driver's name, and the folder that it and the database share."""

    type: str = "filesystem"
    path: str = "./data"


class AuthConfig(Struct, frozen=True, kw_only=True):
    """``[auth]``: one authenticator by ``mode`` or several by ``chain``, and the policies that decide."""

    mode: str = "basic"
    chain: tuple[str, ...] | None = None
    policies: tuple[str, ...] = ()


class RegistryConfig(Struct, frozen=True, kw_only=True):
    """``[registry]``: what the registry accepts; ``immutable_tags`` are globs, ``max_manifest_size`` bytes."""

    max_upload_size_mb: Annotated[int, Meta(ge=1)] = 1000
    max_manifest_size: Annotated[int, Meta(ge=1024)] = 4 << 20
    rate_limit_per_hour: Annotated[int, Meta(ge=0)] = 1000
    immutable_tags: tuple[str, ...] = ("release", "prod")
    min_age_days: Annotated[int, Meta(ge=0)] = 7
    sparse_manifests: bool = False
    upload_expiry_hours: Annotated[float, Meta(gt=0)] = 168


class PluginsConfig(Struct, frozen=True, kw_only=True):
    """``[plugins]``: which plugins are imported; ``enabled`` None means all that are installed."""

    enabled: tuple[str, ...] | None = None
    disabled: tuple[str, ...] = ()


class LoggingConfig(Struct, frozen=True, kw_only=True):
    """``[logging]``: how much, and for whom: JSON for programs or pretty for people."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "pretty"] = "json"


CORE_TABLES: dict[str, type[Struct]] = {
    "server": ServerConfig,
    "tls": TlsConfig,
    "metadata": MetadataConfig,
    "storage": StorageConfig,
    "auth": AuthConfig,
    "registry": RegistryConfig,
    "plugins": PluginsConfig,
    "logging": LoggingConfig,
}
SHARED_TABLES = ("storage", "auth")
"""Tables in which drivers have keys and tables of their own."""

PROVIDERS = {
    "storage.filesystem": "drift-storage-fs",
    "storage.s3": "drift-storage-s3",
    "storage.ghostbay": "drift-storage-ghostbay",
    "auth.basic": "drift-auth-basic",
    "auth.token": "drift-auth-token",
    "auth.jwt_secret": "drift-auth-token",
    "auth.token_expiry_hours": "drift-auth-token",
    "auth.oidc": "drift-auth-oidc",
    "auth.oauth": "drift-auth-oidc",
    "http": "drift-http-granian",
    "quic": "drift-quic-aioquic",
    "bolt": "drift-bolt",
    "garbage_collector": "drift-gc",
    "ghostbay": "drift-storage-ghostbay",
    "rbac": "drift-rbac",
    "audit": "drift-audit",
    "cluster": "a later drift-core",
    "signing": "drift-sign-cosign, drift-sign-notation, drift-sign-intoto or drift-sign-simple",
    "optimization": "drift-optimize",
    "metrics": "drift-metrics",
    "ui": "drift-ui",
}
"""Which distribution reads a table or key that is not the core's; where it is not installed, this is the advice."""

RENAMED = {
    "storage.backend": "storage.type",
    "database": "metadata.url",
    "cache": "nothing: Drift needs no cache server",
    "retention": "registry.immutable_tags and registry.min_age_days",
}
"""Keys that circulate in examples of the original and mean something else here."""

_SECRET_KEY = re.compile(
    r"password|secret|token$|access_key|private_key|credential|users$|authorization|cookie", re.IGNORECASE
)
_URL_PASSWORD = re.compile(r"(?<=://)([^/@:\s]*):[^/@\s]+@")


def provider_of(path: str) -> str | None:
    """Returns the distribution that reads a table, or None where nobody is known to."""
    return PROVIDERS.get(path)


class Config(Struct, frozen=True, kw_only=True):
    """The whole configuration: the core's tables checked, those of drivers as they were written.

    ``auth`` None means that no ``[auth]`` was written: nobody has to log in.
    """

    server: ServerConfig
    tls: TlsConfig
    metadata: MetadataConfig
    storage: StorageConfig
    auth: AuthConfig | None
    registry: RegistryConfig
    plugins: PluginsConfig
    logging: LoggingConfig
    document: dict[str, Any]
    secrets: frozenset[str]

    def database_url(self) -> str:
        """Returns ``metadata.url``, or that of the SQLite file in ``storage.path``."""
        return self.metadata.url or f"sqlite:///{Path(self.storage.path).absolute() / 'drift.db'}"

    def raw(self, path: str) -> dict[str, Any]:
        """Returns a table as it was written, {} where there is none. Raises `ConfigError` where it is no table."""
        node = self.document
        for part in path.split("."):
            child = node.get(part, {})
            if not isinstance(child, dict):
                raise ConfigError(path, "must be a table")
            node = child
        return node

    def enabled(self, path: str) -> bool:
        """Says whether a table has ``enabled = true``."""
        node = self.document.get(path)
        return isinstance(node, dict) and node.get("enabled") is True

    def section(self, path: str, struct: type[T], parent: str | None = None) -> T:
        """Returns a driver's table, read into its Struct; keys of ``parent`` that the Struct has are defaults.

        Raises:
            ConfigError: an unknown key, with the nearest known one, or a value that does not fit.
        """
        values = dict(self.raw(path))
        if parent is not None:
            fields = msgspec.structs.fields(struct)
            effective = msgspec.to_builtins(getattr(self, parent)) | self.raw(parent)
            values = {
                field.encode_name: effective[field.encode_name] for field in fields if field.encode_name in effective
            } | values
        return _convert(path, values, struct)

    def unclaimed(self, claimed: Mapping[str, type[Struct]]) -> list[tuple[str, str]]:
        """Returns each table or key that no installed driver reads, with the distribution that would.

        ``claimed`` gives the Struct for each path that a driver reads.

        Raises:
            ConfigError: a table or key that nobody is known to read.
        """
        found = []
        for path in self._foreign():
            parent = path.partition(".")[0]
            shared = {
                field.encode_name
                for table, struct in claimed.items()
                if parent in SHARED_TABLES and table.startswith(f"{parent}.")
                for field in msgspec.structs.fields(struct)
            }
            if path in claimed or path.partition(".")[2] in shared:
                continue
            if path not in PROVIDERS:
                raise _unknown(path, {*CORE_TABLES, *PROVIDERS, *claimed, *_core_keys(parent)})
            found.append((path, PROVIDERS[path]))
        return found

    def _foreign(self) -> Iterator[str]:
        for name, table in self.document.items():
            if name not in CORE_TABLES:
                yield name
            elif isinstance(table, dict):
                own = {field.encode_name for field in msgspec.structs.fields(CORE_TABLES[name])}
                yield from (f"{name}.{key}" for key in table if key not in own)

    def redacted(self, claimed: Mapping[str, type[Struct]]) -> dict[str, Any]:
        """Returns the effective configuration, defaults of the core included, without secrets.

        ``claimed`` gives the Struct for each path that a driver reads; its fields of type `Secret` are hidden, too.
        """
        hidden = self.secrets | {
            f"{table}.{field.encode_name}"
            for path, struct in claimed.items()
            for field in msgspec.structs.fields(struct)
            if Secret in (field.type, *get_args(field.type))
            for table in {path, path.partition(".")[0]}
        }
        core = {name: msgspec.to_builtins(table) for name in CORE_TABLES if (table := getattr(self, name)) is not None}
        merged = {name: core.get(name, {}) | self.document.get(name, {}) for name in {**core, **self.document}}
        merged = {name: values for name, values in merged.items() if values}
        return {name: _redact(name, value, hidden) for name, value in merged.items()}


def _redact(path: str, value: Any, hidden: AbstractSet[str]) -> Any:
    named = _SECRET_KEY.search(path.rpartition(".")[2])
    if path in hidden or (named and value and not isinstance(value, bool | int | float)):
        return HIDDEN if not isinstance(value, list) else [HIDDEN] * len(value)
    if isinstance(value, dict):
        return {key: _redact(f"{path}.{key}", child, hidden) for key, child in value.items() if child is not None}
    if isinstance(value, list):
        return [_redact(f"{path}[{place}]", child, hidden) for place, child in enumerate(value)]
    return _URL_PASSWORD.sub(rf"\1:{HIDDEN}@", value) if isinstance(value, str) else value


def load(file: Path | None, environ: Mapping[str, str], settings: Sequence[str]) -> Config:
    """Returns the configuration of a file (None: no file), over it the environment, over that ``section.key=value``.

    Raises:
        ConfigError: naming the path of what is wrong.
    """
    document = {} if file is None else _read_file(file)
    for path, text in _environment(environ):
        _set(document, path, text)
    for setting in settings:
        path, found, text = setting.partition("=")
        if not found:
            raise ConfigError(setting, "an override has the form section.key=value")
        _set(document, path.strip(), text)
    secrets: set[str] = set()
    document = _resolve(document, "", environ, secrets)
    for path, instead in RENAMED.items():
        table, _, key = path.partition(".")
        if table in document and (not key or (isinstance(document[table], dict) and key in document[table])):
            raise ConfigError(path, f"is not a key of Drift; use {instead}")
    tables: dict[str, Any] = {}
    for name, struct in CORE_TABLES.items():
        values = document.get(name, {})
        if not isinstance(values, dict):
            raise ConfigError(name, "must be a table")
        own = {field.encode_name for field in msgspec.structs.fields(struct)}
        foreign = [key for key in values if key not in own]
        if foreign and name not in SHARED_TABLES:
            raise _unknown(f"{name}.{foreign[0]}", _core_keys(name))
        tables[name] = _convert(name, {key: value for key, value in values.items() if key in own}, struct)
    if "auth" not in document:
        tables["auth"] = None
    config = Config(**tables, document=document, secrets=frozenset(secrets))
    _check(config)
    return config


def _check(config: Config) -> None:
    for path in ("server.bind_addr", "server.ui_addr"):
        address = getattr(config.server, path.partition(".")[2])
        try:
            parse_address(address)
        except ValueError as error:
            raise ConfigError(path, f"{address!r} is not host:port") from error
    if (config.tls.cert_file is None) != (config.tls.key_file is None):
        raise ConfigError("tls", "cert_file and key_file belong together")


def _read_file(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            return tomllib.load(stream)
    except OSError as error:
        raise ConfigError(str(file), error.strerror or str(error)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(str(file), f"is not TOML: {error}") from error


OTHER_VARIABLES = frozenset({"DRIFT_CONFIG", "DRIFT_REQUIRE_ALL"})
"""Variables that are not values of the configuration: the file's name, and a switch of the test suite."""


def _environment(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name in sorted(environ):
        if not name.startswith("DRIFT_") or name in OTHER_VARIABLES:
            continue
        if name == "DRIFT_PLUGINS":
            names = [part.strip() for part in environ[name].split(",") if part.strip()]
            yield "plugins.enabled", "[" + ", ".join(f'"{part}"' for part in names) + "]"
            continue
        path = name.removeprefix("DRIFT_").lower().replace("__", ".")
        if "." not in path:
            raise ConfigError(name, f"a variable is DRIFT_SECTION__KEY{_nearest_variable(path)}")
        yield path, environ[name]


def _nearest_variable(name: str) -> str:
    known = {key.replace(".", "__"): key for table in CORE_TABLES for key in _core_keys(table)}
    same_key = [variable for variable in known if name in (variable.replace("__", "_"), variable.partition("__")[2])]
    near = same_key or difflib.get_close_matches(name, known, n=1)
    return f"; did you mean DRIFT_{near[0].upper()}?" if near else ""


def _set(document: dict[str, Any], path: str, text: str) -> None:
    *tables, key = path.split(".")
    if not tables or not all((*tables, key)):
        raise ConfigError(path, "an override names section.key")
    for place, name in enumerate(tables, 1):
        node = document.setdefault(name, {})
        if not isinstance(node, dict):
            raise ConfigError(".".join(tables[:place]), "is a value, not a table")
        document = node
    document[key] = _value(text)


def _value(text: str) -> Any:
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return parsed["value"] if len(parsed) == 1 else text


def _resolve(node: Any, path: str, environ: Mapping[str, str], secrets: set[str]) -> Any:
    if isinstance(node, list):
        return [_resolve(child, f"{path}[{place}]", environ, secrets) for place, child in enumerate(node)]
    if not isinstance(node, dict):
        return node
    if len(node) == 1 and isinstance(text := next(iter(node.values())), str):
        kind = next(iter(node))
        if kind == "env":
            if text not in environ:
                raise ConfigError(path, f"the environment variable {text} is not set")
            secrets.add(path)
            return environ[text]
        if kind == "file":
            try:
                content = Path(text).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
                raise ConfigError(path, f"the file {text} cannot be read: {reason}") from error
            secrets.add(path)
            return content.removesuffix("\n")
    return {key: _resolve(child, f"{path}.{key}" if path else key, environ, secrets) for key, child in node.items()}


def _convert(path: str, values: dict[str, Any], struct: type[T]) -> T:
    try:
        return msgspec.convert(values, struct, dec_hook=_decode)
    except msgspec.ValidationError as error:
        reason, _, place = str(error).partition(" - at `$")
        full = path + place.rstrip("`")
        unknown = re.fullmatch(r"Object contains unknown field `(.+)`", reason)
        if unknown:
            known = {f"{path}.{field.encode_name}" for field in msgspec.structs.fields(struct)}
            raise _unknown(f"{full}.{unknown[1]}", known) from None
        raise ConfigError(full, _in_toml_terms(reason)) from None


def _decode(kind: type, value: Any) -> Any:
    if kind is Secret and isinstance(value, str):
        return Secret(value)
    reason = f"Expected `str`, got `{type(value).__name__}`"
    raise TypeError(reason)


def _in_toml_terms(reason: str) -> str:
    terms = {"Object missing required field": "is missing", "object": "table", "bool": "true or false", "str": "string"}
    for python, toml in terms.items():
        reason = reason.replace(f"`{python}`", toml)
    return reason[0].lower() + reason[1:]


def _unknown(path: str, known: set[str]) -> ConfigError:
    near = difflib.get_close_matches(path, sorted(known), n=1, cutoff=0.6)
    return ConfigError(path, "unknown key" + (f"; did you mean {near[0]}?" if near else ""))


def _core_keys(table: str) -> set[str]:
    struct = CORE_TABLES.get(table)
    return set() if struct is None else {f"{table}.{field.encode_name}" for field in msgspec.structs.fields(struct)}


def parse_address(address: str) -> tuple[str, int]:
    """Returns host and port of ``host:port``, an IPv6 host without its brackets. Raises ValueError."""
    host, _, port = address.rpartition(":")
    number = int(port)
    if not host or not 0 <= number <= 65535:  # noqa: PLR2004 - ports have 16 bits
        raise ValueError(address)
    if host.startswith("[") and host.endswith("]"):
        return str(ipaddress.IPv6Address(host[1:-1])), number
    if ":" in host:
        raise ValueError(address)
    return host, number


def is_loopback(address: str) -> bool:
    """Says whether only this machine reaches an address."""
    host, _ = parse_address(address)
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def to_toml(document: dict[str, Any]) -> str:
    """Returns a configuration as TOML."""
    return tomli_w.dumps(document)


def schema(claimed: Mapping[str, type[Struct]]) -> dict[str, Any]:
    """Returns the JSON Schema of the configuration; ``claimed`` gives the Struct for each path that a driver reads."""
    structs: dict[str, type[Struct]] = {**CORE_TABLES, **claimed}
    references, definitions = msgspec.json.schema_components(
        structs.values(), schema_hook=lambda _: {"type": "string"}, ref_template="#/$defs/{name}"
    )
    properties: dict[str, dict[str, Any]] = {}
    for path, reference in zip(structs, references, strict=True):
        table, _, key = path.partition(".")
        if key:
            properties[table].setdefault("properties", {})[key] = reference
        else:
            properties[table] = {"allOf": [reference]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Drift",
        "type": "object",
        "properties": properties,
        "$defs": definitions,
    }
