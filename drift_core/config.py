"""The configuration: read from TOML, the environment and ``--set``, checked, and shown without its secrets."""

import difflib
import ipaddress
import re
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
import tomli_w
from msgspec import Meta, Struct, inspect

from drift_core.errors import ConfigError

T = TypeVar("T", bound=Struct)
HIDDEN = "***"


class Secret(str):
    """A value that no command and no log shows; a Struct has ``key: Secret`` or ``key: Secret | None = None``.

    ``list[Secret]`` and Structs within the Struct are covered, too. A Secret as a default cannot be put in a `schema`.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Secret({HIDDEN!r})"


class ServerConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[server]``: addresses as ``host:port``; a drain after SIGTERM in seconds; ``workers`` None is one per core.

    ``trusted_proxies`` are addresses or networks whose ``X-Forwarded-For`` and ``X-Forwarded-Proto`` are believed.
    """

    bind_addr: str = "127.0.0.1:5000"
    ui_addr: str = "127.0.0.1:5001"
    workers: Annotated[int, Meta(ge=1, le=1024)] | None = None
    max_connections: Annotated[int, Meta(ge=1)] = 1000
    trusted_proxies: tuple[str, ...] = ()
    drain_seconds: Annotated[float, Meta(ge=0)] = 30.0


class TlsConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[tls]``: paths of PEM files, both or neither; ``client_ca_file`` has who may sign certificates of clients."""

    cert_file: str | None = None
    key_file: str | None = None
    client_ca_file: str | None = None


class MetadataConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[metadata]``: where records are kept; None means the file ``drift.db`` in the folder ``storage.path``.

    With PostgreSQL each worker has ``connections``, and a statement that takes ``statement_seconds`` is ended.
    """

    url: str | None = None
    connections: Annotated[int, Meta(ge=2, le=100)] = 8
    statement_seconds: Annotated[float, Meta(gt=0, le=600)] = 10.0


class StorageConfig(Struct, frozen=True, kw_only=True):
    """``[storage]``: the driver's name, and the folder that it and the database share.

    ``previous`` names the driver that had the blobs before, and is read from until they are all moved. ``layers`` name
    drivers that lie around the store, the outermost last.
    """

    type: str = "filesystem"
    previous: str | None = None
    layers: tuple[str, ...] = ()
    path: str = "./data"

    @property
    def names(self) -> tuple[str, ...]:
        """The driver of ``type``, the previous one, and the layers, in the order in which they are opened."""
        return (*self.places, *self.layers)

    @property
    def places(self) -> tuple[str, ...]:
        """The driver of ``type``, and the previous one where there is one."""
        return (self.type,) if self.previous is None else (self.type, self.previous)


class AuthConfig(Struct, frozen=True, kw_only=True):
    """``[auth]``: one authenticator by ``mode`` or several by ``chain``, and the policies that decide."""

    mode: str = "basic"
    chain: Annotated[tuple[str, ...], Meta(min_length=1)] | None = None
    policies: tuple[str, ...] = ()


class RegistryConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[registry]``: what the registry accepts and keeps; the rules of tags are globs, ``max_manifest_size`` bytes.

    ``immutable_tags`` are never moved or deleted, ``no_overwrite_tags`` not moved, ``no_delete_tags`` not deleted.
    ``referrers`` says what the deletion of a manifest means that has some: they go with it, or it is refused.
    ``lease_seconds`` is how long a blob stays that a client was told is there, and ``restore_hours`` how long what was
    removed can come back.

    The limits are requests in an hour: of one identity, of one address from which nobody is known, and of one address
    to endpoints that ask nobody, such as logins. 0 is no limit; None that of identities. A burst of None is an hour's.
    """

    max_upload_size_mb: Annotated[int, Meta(ge=1)] = 1000
    max_manifest_size: Annotated[int, Meta(ge=1024)] = 4 << 20
    rate_limit_per_hour: Annotated[int, Meta(ge=0)] = 0
    anonymous_rate_limit_per_hour: Annotated[int, Meta(ge=0)] | None = None
    login_rate_limit_per_hour: Annotated[int, Meta(ge=0)] | None = None
    rate_limit_burst: Annotated[int, Meta(ge=1)] | None = None
    immutable_tags: tuple[str, ...] = ("release", "prod")
    no_overwrite_tags: tuple[str, ...] = ()
    no_delete_tags: tuple[str, ...] = ()
    min_age_days: Annotated[float, Meta(ge=0)] = 7
    referrers: Literal["cascade", "protect"] = "cascade"
    lease_seconds: Annotated[float, Meta(ge=1)] = 3600.0
    restore_hours: Annotated[float, Meta(ge=0)] = 72
    sparse_manifests: bool = False
    upload_expiry_hours: Annotated[float, Meta(gt=0)] = 168


class PluginsConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[plugins]``: which plugins are imported, ``enabled`` None being all, and how long they may take in seconds."""

    enabled: tuple[str, ...] | None = None
    disabled: tuple[str, ...] = ()
    open_seconds: Annotated[float, Meta(gt=0)] = 30.0
    gate_seconds: Annotated[float, Meta(gt=0)] = 10.0
    subscriber_seconds: Annotated[float, Meta(gt=0)] = 30.0


class ClusterConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[cluster]``: how this node shows itself to the others that share its database, and when they doubt it.

    ``enabled`` asks for a database that several nodes can share; ``node_id`` None is the name of the host. What is None
    by default otherwise is of the original, and means nothing here: see `UNUSED`.
    """

    enabled: bool = False
    node_id: Annotated[str, Meta(min_length=1, max_length=255)] | None = None
    heartbeat_interval_seconds: Annotated[float, Meta(ge=1)] = 30.0
    health_check_timeout_seconds: Annotated[float, Meta(ge=1)] = 60.0
    bind_address: str | None = None
    seed_nodes: tuple[str, ...] | None = None
    consensus_protocol: str | None = None
    replication_factor: int | None = None
    consistency_level: str | None = None
    health_check_interval_seconds: float | None = None
    election_timeout_seconds: float | None = None
    load_balancing_strategy: str | None = None


class LoggingConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[logging]``: how much, and for whom: JSON for programs or pretty for people."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "pretty"] = "json"


Claims = Mapping[str, Collection[type[Struct]]]
"""The Structs that drivers read a table into, by its path: of several drivers where they share the table."""

CORE_TABLES: dict[str, type[Struct]] = {
    "server": ServerConfig,
    "tls": TlsConfig,
    "metadata": MetadataConfig,
    "storage": StorageConfig,
    "auth": AuthConfig,
    "registry": RegistryConfig,
    "plugins": PluginsConfig,
    "cluster": ClusterConfig,
    "logging": LoggingConfig,
}
SHARED_TABLES = ("storage", "auth")
"""Tables in which drivers have keys and tables of their own; their Structs therefore forbid no unknown fields."""

PROVIDERS = {
    "storage.filesystem": "drift-storage-fs",
    "storage.s3": "drift-storage-s3",
    "storage.ghostbay": "drift-storage-s3",
    "auth.basic": "drift-auth-basic",
    "auth.token": "drift-auth-token",
    "auth.jwt_secret": "drift-auth-token",
    "auth.token_expiry_hours": "drift-auth-token",
    "auth.certificate": "drift-auth-certificate",
    "auth.oidc": "drift-auth-oidc",
    "auth.oauth": "drift-auth-oidc",
    "http": "drift-http-httptools",
    "granian": "drift-http-granian",
    "quic": "drift-quic-aioquic",
    "bolt": "drift-bolt",
    "garbage_collector": "drift-gc",
    "ghostbay": "GhostBay itself",
    "rbac": "drift-rbac",
    "audit": "drift-audit",
    "signing": "drift-sign-cosign, drift-sign-notation, drift-sign-intoto or drift-sign-simple",
    "optimization": "drift-optimize",
    "metrics": "drift-metrics",
    "quota": "drift-quota",
    "retention": "drift-retention",
    "scrub": "drift-scrub",
    "storage.cached": "drift-storage-cached",
    "storage.packed": "drift-storage-packed",
    "tracing": "drift-tracing",
    "ui": "drift-ui",
    "webhooks": "drift-webhooks",
}
"""Which distribution reads a table or key that is not the core's; where it is not installed, this is the advice."""

RENAMED = {
    "storage.backend": "use storage.type",
    "database": "use metadata.url",
    "cache": "leave it out, Drift needs no cache server",
}
"""Keys that circulate in examples of the original and mean nothing here, with what to do instead."""

UNUSED = {
    "cluster.bind_address": "nodes meet in the database, and listen on no port for each other",
    "cluster.seed_nodes": "nodes find each other in the database",
    "cluster.consensus_protocol": "the database decides who leads",
    "cluster.replication_factor": "the database and the object store replicate what they keep",
    "cluster.consistency_level": "the database and the object store replicate what they keep",
    "cluster.health_check_interval_seconds": "nodes do not ask each other; a load balancer asks /readyz",
    "cluster.election_timeout_seconds": "the lease in the database says when another node leads",
    "cluster.load_balancing_strategy": "a load balancer stands before the nodes",
}
"""Keys of the original that are read and mean nothing here, with what does their work."""

VARIABLES = {
    "auth": "auth.mode",
    "database_backend": "metadata.url",
    "fs_root": "storage.path",
    "storage_backend": "storage.type",
    "tls_cert": "tls.cert_file",
    "tls_key": "tls.key_file",
    "users": "auth.basic.users",
}
"""Variables that the original documents, without ``DRIFT_``, whose key has another name."""

OAUTH_PROVIDERS = ("auth.oauth.azure", "auth.oauth.github", "auth.oauth.google")
"""Tables for which the original documents variables, besides `PROVIDERS`."""

_SECRET_KEY = re.compile(
    r"passw|passphrase|secret|tokens?$|access_key|api_?key|private_key|credential|users$|headers$|authorization|cookie",
    re.IGNORECASE,
)
_URL_PASSWORD = re.compile(r"(?<=://)([^/@:\s]*):\S*@")
_URL_QUERY = re.compile(r"([?&;][^=&;\s]*(?:passw|secret|token|key)[^=&;\s]*=)[^&;\s]+", re.IGNORECASE)
_RELATIVE_SQLITE = re.compile(r"(sqlite(?:\+\w+)?:///)(?!/|:memory:|file:)([^?]+)(.*)")


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
    cluster: ClusterConfig
    logging: LoggingConfig
    document: dict[str, Any]
    secrets: frozenset[str]

    def __repr__(self) -> str:
        # A traceback or a log line that shows its arguments must show no secret.
        return f"Config({', '.join(self.document)})"

    def database_url(self) -> str:
        """Returns ``metadata.url``, or that of the SQLite file in ``storage.path``; a relative path made absolute."""
        if self.metadata.url is not None:
            relative = _RELATIVE_SQLITE.fullmatch(self.metadata.url)
            return f"{relative[1]}{Path(relative[2]).absolute()}{relative[3]}" if relative else self.metadata.url
        return f"sqlite:///{Path(self.storage.path).absolute() / 'drift.db'}"

    def raw(self, path: str) -> dict[str, Any]:
        """Returns a table as it was written, {} where there is none. Raises `ConfigError` where it is no table."""
        node = self.document
        for part in path.split("."):
            child = node.get(part, {})
            if not isinstance(child, dict):
                raise ConfigError(path, "must be a table")
            node = child
        return node

    def enabled(self, path: str) -> bool | None:
        """Returns the key ``enabled`` of a table, or None where it was not written.

        Raises:
            ConfigError: it is neither true nor false.
        """
        node: Any = self.document
        for part in (*path.split("."), "enabled"):
            node = node.get(part) if isinstance(node, dict) else None
        if node is None or isinstance(node, bool):
            return node
        raise ConfigError(f"{path}.enabled", "must be true or false")

    def section(
        self, path: str, struct: type[T], parent: str | None = None, others: Collection[type[Struct]] = ()
    ) -> T:
        """Returns a driver's table, read into its Struct; keys of ``parent`` that the Struct has are defaults.

        ``others`` are the Structs of further drivers that read this table: what only they know is left to them.

        Raises:
            ConfigError: an unknown key, with the nearest known one, or a value that does not fit.
        """
        own: set[str] = set(_keys(struct))
        every = own.union(*(_keys(other) for other in others))
        values = {key: value for key, value in self.raw(path).items() if key in own or key not in every}
        for key in values if struct.__struct_config__.forbid_unknown_fields else ():
            if key not in own:
                raise _unknown(f"{path}.{key}", {f"{path}.{known}" for known in every})
        if parent is None:
            return _convert(path, values, struct)
        core = getattr(self, parent)
        effective = ({} if core is None else msgspec.to_builtins(core)) | self.raw(parent)
        inherited = {key: effective[key] for key in _keys(struct) if key in effective and key not in values}
        return _convert(path, values | inherited, struct, {key: f"{parent}.{key}" for key in inherited})

    def unclaimed(self, claimed: Claims) -> list[tuple[str, str]]:
        """Returns each table or key that no installed driver reads, with the distribution that would.

        ``claimed`` gives the Structs for each path that drivers read.

        Raises:
            ConfigError: a table or key that nobody is known to read.
        """
        found = []
        shared = _shared_keys(claimed)
        for path, value in self._foreign():
            if path in shared or (path in claimed and isinstance(value, dict)):
                continue
            if path in claimed:
                raise ConfigError(path, "must be a table")
            if path not in PROVIDERS:
                parent = path.partition(".")[0]
                raise _unknown(path, {*CORE_TABLES, *PROVIDERS, *claimed, *shared, *_core_keys(parent)})
            found.append((path, PROVIDERS[path]))
        return found

    def unused(self) -> list[tuple[str, str]]:
        """Returns each key that was written and means nothing here, with what does its work."""
        return [
            (path, reason)
            for path, reason in UNUSED.items()
            for table, _, key in [path.partition(".")]
            if key in self.document.get(table, {})
        ]

    def _foreign(self) -> Iterator[tuple[str, Any]]:
        for name, table in self.document.items():
            if name not in CORE_TABLES:
                yield name, table
            else:
                own = _keys(CORE_TABLES[name])
                yield from ((f"{name}.{key}", value) for key, value in table.items() if key not in own)

    def redacted(self, claimed: Claims) -> dict[str, Any]:
        """Returns the effective configuration, defaults of the core included, without secrets.

        ``claimed`` gives the Structs for each path that drivers read; their fields of type `Secret` are hidden, too.
        """
        core = {name: msgspec.to_builtins(table) for name in CORE_TABLES if (table := getattr(self, name)) is not None}
        merged = {name: core.get(name, {}) | self.document.get(name, {}) for name in {**core, **self.document}}
        kinds = {path: [type_info(struct) for struct in structs] for path, structs in claimed.items()}
        for path, shared in _shared_keys(claimed).items():
            kinds[path] = [*kinds.get(path, ()), *shared]
        known = {*claimed, *_shared_keys(claimed)}
        # Of the table of a plugin that is not there, or is broken, nobody can say which values are secret.
        foreign = {path for path, _ in self._foreign() if path not in known}
        redaction = _Redaction(kinds, self.secrets, foreign)
        shown = {name: redaction.of(name, name, values, ()) for name, values in merged.items()}
        return {name: values for name, values in shown.items() if values}


class _Redaction(Struct, frozen=True):
    """Hides values by what is known of them: the type at a path, where they came from, their name, their form."""

    kinds: Mapping[str, Sequence[inspect.Type]]
    secrets: frozenset[str]
    foreign: Collection[str]

    def of(self, path: str, name: str, value: Any, above: Iterable[inspect.Type], *, foreign: bool = False) -> Any:
        foreign = foreign or path in self.foreign
        kinds = list(_flat([*above, *self.kinds.get(path, ())]))
        typed = any(isinstance(kind, inspect.CustomType) and kind.cls is Secret for kind in kinds)
        if typed or path in self.secrets or (_SECRET_KEY.search(name) and not isinstance(value, bool)):
            return _hidden(value)
        if isinstance(value, dict):
            return {
                key: self.of(f"{path}.{key}", key, child, _below(kinds, key), foreign=foreign)
                for key, child in value.items()
                if child is not None
            }
        if isinstance(value, list):
            below = list(_below(kinds, None))
            return [
                self.of(f"{path}[{place}]", name, child, below, foreign=foreign) for place, child in enumerate(value)
            ]
        if isinstance(value, str) and foreign:
            return _hidden(value)
        if isinstance(value, str):
            return _URL_QUERY.sub(rf"\1{HIDDEN}", _URL_PASSWORD.sub(rf"\1:{HIDDEN}@", value))
        return value


def _hidden(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _hidden(child) for key, child in value.items()}
    if isinstance(value, list):
        return [_hidden(child) for child in value]
    return value if value == "" else HIDDEN


def _flat(kinds: Iterable[inspect.Type]) -> Iterator[inspect.Type]:
    for kind in kinds:
        if isinstance(kind, inspect.UnionType):
            yield from _flat(kind.types)
        elif isinstance(kind, inspect.Metadata):
            yield from _flat([kind.type])
        else:
            yield kind


def _below(kinds: Iterable[inspect.Type], key: str | None) -> Iterator[inspect.Type]:
    """Yields the types that a value may have under a key of a table, or, for None, in an array."""
    for kind in _flat(kinds):
        if isinstance(kind, inspect.StructType):
            yield from _flat(field.type for field in kind.fields if field.encode_name == key)
        elif isinstance(kind, inspect.DictType):
            yield from _flat([kind.value_type])
        elif isinstance(kind, inspect.CollectionType):
            yield from _flat([kind.item_type])
        elif isinstance(kind, inspect.TupleType):
            yield from _flat(kind.item_types)


@cache
def type_info(struct: type[Struct]) -> inspect.Type:
    """Returns what msgspec knows of a table's type; asked once, since that is most of the time of a start."""
    return inspect.type_info(struct)


def _shared_keys(claimed: Claims) -> dict[str, list[inspect.Type]]:
    """Returns the path of each key that a driver's Struct takes from a shared table, with its types."""
    shared: dict[str, list[inspect.Type]] = {}
    for path, structs in claimed.items():
        parent, _, name = path.partition(".")
        for struct in structs if name and parent in SHARED_TABLES else ():
            for key in _keys(struct):
                shared.setdefault(f"{parent}.{key}", []).extend(_below([type_info(struct)], key))
    return shared


def load(source: Path | Mapping[str, Any] | None, environ: Mapping[str, str], settings: Sequence[str]) -> Config:
    """Returns the configuration of a file or its content, over it the environment, over that ``section.key=value``.

    Raises:
        ConfigError: naming the path of what is wrong.
    """
    document = _read_file(source) if isinstance(source, Path) else deepcopy(dict(source or {}))
    for path, value in _environment(environ):
        _set(document, path, value)
    for setting in settings:
        path, found, text = setting.partition("=")
        if not found:
            # Only what looks like a path: the rest may be a value, and a secret one.
            shown = re.match(r"[\w.]*", setting)
            raise ConfigError(shown[0] if shown else "", "an override has the form section.key=value")
        _set(document, path.strip(), _value(text))
    _check_tables(document)
    secrets: set[str] = set()
    # Every name at the top is a table: one with a single key `file` or `env` is no reference to a secret.
    document = {
        name: {key: _resolve(value, f"{name}.{key}", environ, secrets) for key, value in table.items()}
        for name, table in document.items()
    }
    tables: dict[str, Any] = {}
    for name, struct in CORE_TABLES.items():
        values = document.get(name, {})
        own = {key: values[key] for key in _keys(struct) if key in values}
        tables[name] = _convert(name, own if name in SHARED_TABLES else values, struct)
    if "auth" not in document:
        tables["auth"] = None
    config = Config(**tables, document=document, secrets=frozenset(secrets))
    _check(config)
    return config


def _check_tables(document: dict[str, Any]) -> None:
    for path, instead in RENAMED.items():
        name, _, key = path.partition(".")
        table = document.get(name, {})
        if name in document and (not key or (isinstance(table, dict) and key in table)):
            raise ConfigError(path, f"is not a key of Drift; {instead}")
    for name, table in document.items():
        if not isinstance(table, dict):
            if name in CORE_TABLES or name in PROVIDERS:
                raise ConfigError(name, "must be a table")
            raise _unknown(name, {*CORE_TABLES, *PROVIDERS, *(key for core in CORE_TABLES for key in _core_keys(core))})


def _check(config: Config) -> None:
    for key in ("bind_addr", "ui_addr"):
        try:
            parse_address(getattr(config.server, key))
        except ValueError:
            raise ConfigError(f"server.{key}", "must be host:port, such as 127.0.0.1:5000 or [::1]:5000") from None
    _check_tls(config.tls)
    for network in config.server.trusted_proxies:
        try:
            ipaddress.ip_network(network, strict=False)
        except ValueError:
            raise ConfigError("server.trusted_proxies", f"{network!r} is no address or network") from None
    _check_database(config)
    if config.storage.type == "fs":
        raise ConfigError("storage.type", 'unknown driver "fs"; did you mean "filesystem"?')
    if config.storage.previous == config.storage.type:
        raise ConfigError("storage.previous", "is the driver of storage.type; blobs move from one driver to another")
    if len(set(config.storage.names)) < len(config.storage.names):
        raise ConfigError("storage.layers", "names a driver twice, or that of storage.type or storage.previous")
    # The chain would be ignored, and everybody let in.
    if config.auth is not None and config.auth.mode == "none" and config.auth.chain is not None:
        raise ConfigError("auth.chain", 'contradicts auth.mode = "none"; leave one of them out')


def _check_database(config: Config) -> None:
    if config.metadata.url is not None and "://" not in config.metadata.url:
        raise ConfigError("metadata.url", "must be a URL, such as sqlite:////var/lib/drift/drift.db")
    if config.metadata.url is None and "?" in config.storage.path:
        raise ConfigError("storage.path", 'a "?" cannot stand in the URL of the database; set metadata.url')
    if config.cluster.enabled and config.database_url().startswith("sqlite"):
        reason = "is true, but a file of SQLite is for one machine; set metadata.url to a PostgreSQL database"
        raise ConfigError("cluster.enabled", reason)


def _check_tls(table: TlsConfig) -> None:
    if (table.cert_file is None) != (table.key_file is None):
        raise ConfigError("tls", "cert_file and key_file belong together")
    if table.client_ca_file is not None and table.cert_file is None:
        raise ConfigError("tls.client_ca_file", "is only used with TLS: set cert_file and key_file")


def _read_file(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            return tomllib.load(stream)
    except OSError as error:
        raise ConfigError(str(file), error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        before = error.object[: error.start]
        line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        raise ConfigError(str(file), f"is not TOML: not UTF-8 (at line {line}, column {column})") from None
    except ValueError as error:
        raise ConfigError(str(file), f"is not TOML: {error}") from error
    except RecursionError:
        raise ConfigError(str(file), "is nested too deeply") from None


OTHER_VARIABLES = frozenset({"DRIFT_CONFIG", "DRIFT_REQUIRE_ALL"})
"""Variables that are not values of the configuration: the file's name, and a switch of the test suite."""


def _environment(environ: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    for name in sorted(environ):
        if not name.startswith("DRIFT_") or name in OTHER_VARIABLES:
            continue
        if name == "DRIFT_PLUGINS":
            yield "plugins.enabled", [part.strip() for part in environ[name].split(",") if part.strip()]
            continue
        path = name.removeprefix("DRIFT_").lower().replace("__", ".")
        if "." not in path:
            raise ConfigError(name, f"a variable is DRIFT_SECTION__KEY{_nearest_variable(path)}")
        yield path, _value(environ[name])


def _nearest_variable(name: str) -> str:
    path = VARIABLES.get(name) or _path_like(name)
    return f"; did you mean DRIFT_{path.replace('.', '__').upper()}?" if path else ""


def _path_like(name: str) -> str | None:
    core = [key for table in CORE_TABLES for key in _core_keys(table)]
    for path in (*core, *PROVIDERS):
        table, _, key = path.partition(".")
        if key and name in (f"{table}_{key}", key):
            return path
    for path in sorted((*PROVIDERS, *OAUTH_PROVIDERS), key=lambda path: path.count(".")):
        for prefix in (path.replace(".", "_"), path.rpartition(".")[2]):
            if name.startswith(f"{prefix}_"):
                return f"{path}.{name.removeprefix(f'{prefix}_')}"
    flat = {path.replace(".", "_"): path for path in core}
    near = difflib.get_close_matches(name, flat, n=1)
    return flat[near[0]] if near else None


def _set(document: dict[str, Any], path: str, value: Any) -> None:
    *tables, key = path.split(".")
    if not tables or not all((*tables, key)):
        raise ConfigError(path, "an override names section.key")
    for place, name in enumerate(tables, 1):
        node = document.setdefault(name, {})
        if not isinstance(node, dict):
            raise ConfigError(".".join(tables[:place]), "is a value, not a table")
        document = node
    document[key] = value


def _value(text: str) -> Any:
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return parsed["value"] if len(parsed) == 1 else text


MAX_DEPTH = 64
"""Most tables and arrays within each other; keeps whatever walks a configuration far from the limit of recursion."""


def _resolve(node: Any, path: str, environ: Mapping[str, str], secrets: set[str], depth: int = 0) -> Any:
    if depth > MAX_DEPTH:
        raise ConfigError(path, "is nested too deeply")
    if isinstance(node, list):
        return [_resolve(child, f"{path}[{place}]", environ, secrets, depth + 1) for place, child in enumerate(node)]
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
            except (OSError, ValueError) as error:
                # A UnicodeDecodeError carries the whole content, which is a secret.
                reason = error.strerror if isinstance(error, OSError) else "not a file of UTF-8 text"
                raise ConfigError(path, f"the file {text!r} cannot be read: {reason}") from None
            secrets.add(path)
            return content.removesuffix("\n")
    return {key: _resolve(child, f"{path}.{key}", environ, secrets, depth + 1) for key, child in node.items()}


def _convert(path: str, values: dict[str, Any], struct: type[T], origins: Mapping[str, str] | None = None) -> T:
    """Returns the Struct; ``origins`` gives the path of each key that was not written in this table."""
    try:
        return msgspec.convert(values, struct, dec_hook=_decode)
    except msgspec.ValidationError as error:
        raise _explained(str(error), path, struct, origins or {}) from None


_VALIDATION_ERROR = re.compile(r"(.*?)(?: - at `(?:key` in `)?\$(.*)`)?", re.DOTALL)
_STEP = re.compile(r"\.([^.\[]+)|\[[^\]]*\]")
_TERMS = {"object": "table", "bool": "boolean", "str": "string", "int": "integer", "float": "number"}


def _explained(message: str, path: str, struct: type[Struct], origins: Mapping[str, str]) -> ConfigError:
    """Returns what msgspec found wrong, as TOML has it: where, in its terms, and without the value."""
    found = _VALIDATION_ERROR.fullmatch(message)
    reason, place = (found[1], found[2] or "") if found else (message, "")
    kinds: list[inspect.Type] = [type_info(struct)]
    for step in _STEP.finditer(place):
        kinds = list(_below(kinds, step[1]))
    first = _STEP.match(place)
    origin = origins.get(first[1]) if first else None
    full = f"{origin}{place[first.end() :]}" if first and origin else path + place
    if unknown := re.fullmatch(r"Object contains unknown field `(.+)`", reason):
        known = {field.encode_name for kind in kinds if isinstance(kind, inspect.StructType) for field in kind.fields}
        return _unknown(f"{full}.{unknown[1]}", {f"{full}.{key}" for key in known})
    if missing := re.fullmatch(r"Object missing required field `(.+)`", reason):
        return ConfigError(f"{full}.{missing[1]}", "is missing")
    # These two quote the value, which may be a secret in the wrong place.
    if reason.startswith(("Invalid enum value", "Invalid value")):
        choices = [str(choice) for kind in kinds for choice in _choices(kind)]
        return ConfigError(full, f"must be one of {', '.join(choices)}" if choices else "is not a valid value")
    return ConfigError(full, _in_toml_terms(reason))


def _choices(kind: inspect.Type) -> Sequence[Any]:
    if isinstance(kind, inspect.EnumType):
        return [member.value for member in kind.cls]
    return kind.values if isinstance(kind, inspect.LiteralType) else ()


def _decode(kind: type, value: Any) -> Any:
    if kind is Secret and isinstance(value, str):
        return Secret(value)
    names: dict[type, str] = {dict: "object", list: "array"}
    reason = f"Expected `str`, got `{names.get(type(value), type(value).__name__)}`"
    raise TypeError(reason)


def _in_toml_terms(reason: str) -> str:
    def translated(found: re.Match[str]) -> str:
        return " or ".join(_TERMS.get(name, name) for name in found[1].split(" | ") if name != "null") or "nothing"

    reason = re.sub(r"`([^`]+)`", translated, reason)
    return reason[:1].lower() + reason[1:]


def _unknown(path: str, known: set[str]) -> ConfigError:
    near = difflib.get_close_matches(path, sorted(known), n=1, cutoff=0.6)
    return ConfigError(path, "unknown key" + (f"; did you mean {near[0]}?" if near else ""))


def _keys(struct: type[Struct]) -> list[str]:
    return [field.encode_name for field in msgspec.structs.fields(struct)]


def _core_keys(table: str) -> set[str]:
    struct = CORE_TABLES.get(table)
    return set() if struct is None else {f"{table}.{key}" for key in _keys(struct)}


def parse_address(address: str) -> tuple[str, int]:
    """Returns host and port of ``host:port``, an IPv6 host without its brackets. Raises ValueError."""
    host, _, port = address.rpartition(":")
    # int() alone takes signs, spaces, underscores and digits of other scripts.
    number = int(port) if re.fullmatch(r"[0-9]{1,5}", port) else -1
    if not host or not 0 <= number <= 65535 or re.search(r"\s", host):  # noqa: PLR2004 - ports have 16 bits
        raise ValueError(address)
    if host.startswith("[") and host.endswith("]"):
        return str(ipaddress.IPv6Address(host[1:-1])), number
    if ":" in host:
        raise ValueError(address)
    return host, number


def to_toml(document: dict[str, Any]) -> str:
    """Returns a configuration as TOML."""
    return tomli_w.dumps(document)


def schema(claimed: Claims) -> dict[str, Any]:
    """Returns the JSON Schema of the configuration; ``claimed`` gives the Structs for each path that drivers read."""
    tables = {**{path: (struct,) for path, struct in CORE_TABLES.items()}, **claimed}
    references, definitions = msgspec.json.schema_components(
        [struct for structs in tables.values() for struct in structs],
        schema_hook=lambda _: {"type": "string"},
        ref_template="#/$defs/{name}",
    )
    left = iter(references)
    properties: dict[str, dict[str, Any]] = {}
    for path, structs in tables.items():
        *parents, name = path.split(".")
        node = properties
        for parent in parents:
            node = node.setdefault(parent, {"type": "object"}).setdefault("properties", {})
        node.setdefault(name, {}).update(_in_one([next(left) for _ in structs], definitions))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Drift",
        "type": "object",
        "properties": properties,
        "$defs": definitions,
    }


def _in_one(references: Sequence[dict[str, Any]], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the schema of a table that several drivers read; together they forbid what each would leave to others."""
    if len(references) == 1:
        return references[0]
    read = [definitions[reference["$ref"].rpartition("/")[2]] for reference in references]
    return {
        "type": "object",
        "properties": {key: _any_of(read, key) for table in read for key in table["properties"]},
        # Which of the drivers are opened is not known here.
        "required": sorted(set.intersection(*(set(table["required"]) for table in read))),
        "additionalProperties": False,
    }


def _any_of(tables: Sequence[Mapping[str, Any]], key: str) -> dict[str, Any]:
    kinds = [table["properties"][key] for table in tables if key in table["properties"]]
    return kinds[0] if all(kind == kinds[0] for kind in kinds) else {"anyOf": kinds}
