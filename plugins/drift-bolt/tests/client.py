"""A client of our own, written from what is known of Bolt's: strict types, and each quirk of its requests.

It sends what Rust's serde writes (null for what is not set, uploads as JSON under another type), logs in only where
Bolt does, and reads answers as serde would: a missing key, a null, or a number with a point where it wants none, is an
error.
"""

from datetime import datetime
from typing import Annotated, Any, Self, TypeVar

import httpx
import msgspec
from msgspec import Meta, Struct

from tests.http.described import Described

T = TypeVar("T")
U32 = Annotated[int, Meta(ge=0, le=0xFFFFFFFF)]
U64 = Annotated[int, Meta(ge=0)]
Time = Annotated[datetime, Meta(tz=True)]

PROFILE_TYPE = "application/vnd.bolt.profile.v1+toml"
PLUGIN_TYPE = "application/vnd.bolt.plugin.binary.v1+octet-stream"


class ApiError(Struct):
    error: str
    message: str
    details: Any = None


class BoltError(Exception):
    """What Bolt shows; ``status`` is that of the answer, ``body`` None where it was not one of the API."""

    def __init__(self, status: int, body: ApiError | None) -> None:
        self.status = status
        self.body = body
        super().__init__(f"{status}: {body}")


class ProfileSummary(Struct):
    name: str
    version: str
    author: str
    description: str
    downloads: U64
    rating: float
    created_at: Time
    updated_at: Time
    tags: list[str]
    compatible_games: list[str]


class PluginSummary(Struct):
    name: str
    version: str
    plugin_type: str
    author: str
    description: str
    downloads: U64
    rating: float
    verified: bool
    supported_platforms: list[str]


class ProfileList(Struct):
    profiles: list[ProfileSummary]
    total: U64
    page: U32
    per_page: U32


class PluginList(Struct):
    plugins: list[PluginSummary]
    total: U64
    page: U32
    per_page: U32


class FoundProfiles(Struct):
    results: list[ProfileSummary]
    total: U64
    page: U32
    per_page: U32
    total_pages: U32


class FoundPlugins(Struct):
    results: list[PluginSummary]
    total: U64
    page: U32
    per_page: U32
    total_pages: U32


class Requirements(Struct):
    supported_os: list[str]
    min_cpu_cores: U32 | None = None
    min_memory_gb: U32 | None = None
    min_gpu_memory_gb: U32 | None = None
    required_gpu_vendor: str | None = None


class ProfileMetadata(Struct, kw_only=True):
    author: str
    author_email: str
    version: str
    license: str | None = None
    repository: str | None = None
    documentation: str | None = None
    created_at: Time
    updated_at: Time
    downloads: U64
    rating: float
    rating_count: U32
    verified: bool
    tags: list[str]
    compatible_games: list[str]
    system_requirements: Requirements


class Part(Struct):
    media_type: str
    size: U64
    digest: str


class ProfileManifest(Struct):
    schema_version: str
    media_type: str
    config: Part
    layers: list[Part]


class ProfileDetail(Struct):
    profile: dict[str, Any]
    metadata: ProfileMetadata
    manifest: ProfileManifest


class PluginManifest(Struct):
    name: str
    version: str
    author: str
    description: str
    plugin_type: str
    entry_point: str
    dependencies: list[str]
    permissions: list[str]
    supported_gpus: list[str]


class PluginMetadata(Struct, kw_only=True):
    author: str
    author_email: str
    license: str
    repository: str
    documentation: str | None = None
    created_at: Time
    updated_at: Time
    downloads: U64
    rating: float
    rating_count: U32
    verified: bool
    supported_platforms: list[str]


class BinaryManifest(Struct):
    platform: str
    architecture: str
    size: U64
    digest: str
    download_url: str


class PluginDetail(Struct):
    manifest: PluginManifest
    metadata: PluginMetadata
    binary_manifest: BinaryManifest


class Metrics(Struct):
    total_profiles: U64
    total_plugins: U64
    total_downloads: U64
    daily_downloads: dict[str, U64]
    popular_profiles: list[ProfileSummary]
    popular_plugins: list[PluginSummary]
    storage_usage_bytes: U64
    active_users_30d: U64


class Features(Struct):
    package_signing: bool
    vulnerability_scanning: bool
    gaming_optimization: bool
    p2p_distribution: bool
    ghostwire_integration: bool
    multi_arch_support: bool


class DriftClient:
    """Bolt's first client; ``url`` may end in a slash, which is then there twice.

    What it is answered is compared with the document of the server, where that is given.
    """

    def __init__(self, url: str, described: Described | None = None) -> None:
        self._url = url
        # Without what httpx would send and reqwest does not.
        self._http = httpx.Client(timeout=120, headers={"user-agent": "", "accept-encoding": ""})
        self._token: str | None = None
        if described is not None:
            described.watch(self._http)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def authenticate(self, username: str, password: str) -> None:
        answer = self._send("POST", "/v1/auth/login", json={"username": username, "password": password})
        self._token = answer.json()["token"]

    def list_profiles(self, page: int | None = None, per_page: int | None = None) -> ProfileList:
        return self._read(self._get("/v1/profiles" + _query(page, per_page)), ProfileList)

    def search_profiles(self, **wanted: Any) -> FoundProfiles:
        return self._read(self._send("POST", "/v1/profiles/search", json=_search(wanted)), FoundProfiles)

    def get_profile(self, name: str) -> ProfileDetail:
        return self._read(self._get(f"/v1/profiles/{name}"), ProfileDetail)

    def download_profile(self, name: str, query: str = "") -> bytes:
        return self._get(f"/v1/profiles/{name}/download{query}").content

    def upload_profile(self, profile: dict[str, Any], metadata: dict[str, Any]) -> httpx.Response:
        return self._upload("/v1/profiles/upload", PROFILE_TYPE, {"profile": profile, "metadata": metadata})

    def delete_profile(self, name: str) -> None:
        self._send("DELETE", f"/v1/profiles/{name}", headers=self._logged_in())

    def list_plugins(self, page: int | None = None, per_page: int | None = None) -> PluginList:
        return self._read(self._get("/v1/plugins" + _query(page, per_page)), PluginList)

    def search_plugins(self, **wanted: Any) -> FoundPlugins:
        return self._read(self._send("POST", "/v1/plugins/search", json=_search(wanted)), FoundPlugins)

    def get_plugin(self, name: str) -> PluginDetail:
        return self._read(self._get(f"/v1/plugins/{name}"), PluginDetail)

    def download_plugin(self, name: str, query: str = "") -> bytes:
        return self._get(f"/v1/plugins/{name}/download{query}").content

    def upload_plugin(self, manifest: dict[str, Any], metadata: dict[str, Any], library: bytes) -> httpx.Response:
        body = {"manifest": manifest, "metadata": metadata, "binary_data": list(library)}
        return self._upload("/v1/plugins/upload", PLUGIN_TYPE, body)

    def delete_plugin(self, name: str) -> None:
        self._send("DELETE", f"/v1/plugins/{name}", headers=self._logged_in())

    def get_metrics(self) -> Metrics:
        return self._read(self._get("/v1/metrics"), Metrics)

    def health_check(self) -> Any:
        return self._get("/health").json()

    def get_version(self) -> Any:
        return self._get("/version").json()

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Asks for what Bolt has only a constant for."""
        return self._send(method, path, headers=self._logged_in(), **options)

    def _logged_in(self) -> dict[str, str]:
        assert self._token is not None, "Bolt fails locally, and sends nothing"
        return {"authorization": f"Bearer {self._token}"}

    def _get(self, path: str) -> httpx.Response:
        return self._send("GET", path, headers={} if self._token is None else self._logged_in())

    def _upload(self, path: str, kind: str, body: dict[str, Any]) -> httpx.Response:
        headers = {**self._logged_in(), "content-type": kind}
        return self._send("POST", path, headers=headers, content=msgspec.json.encode(body))

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        answer = self._http.request(method, f"{self._url}{path}", **options)
        if not answer.is_success:
            try:
                body = msgspec.json.decode(answer.content, type=ApiError)
            except msgspec.MsgspecError:
                body = None
            raise BoltError(answer.status_code, body)
        assert "content-encoding" not in answer.headers, "nobody asked for it"
        return answer

    @staticmethod
    def _read(answer: httpx.Response, kind: type[T]) -> T:
        return msgspec.json.decode(answer.content, type=kind)


def _query(page: int | None, per_page: int | None) -> str:
    parts = [f"{name}={value}" for name, value in (("page", page), ("per_page", per_page)) if value is not None]
    return "?" + "&".join(parts) if parts else ""


def _search(wanted: dict[str, Any]) -> dict[str, Any]:
    names = ("query", "tags", "author", "game", "gpu_vendor", "sort_by", "sort_order", "page", "per_page")
    return {name: wanted.get(name) for name in names}
