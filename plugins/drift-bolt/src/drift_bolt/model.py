"""What Bolt's client sends and reads: every type to the field, so that Rust's serde and this agree on each document.

Unknown keys are ignored, numbers are whole where Rust's are, an option may be null or absent. The names are Bolt's.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

U32 = Annotated[int, Meta(ge=0, le=(1 << 32) - 1)]
U64 = Annotated[int, Meta(ge=0)]
I32 = Annotated[int, Meta(ge=-(1 << 31), le=(1 << 31) - 1)]

Governor = Literal["Performance", "Ondemand", "Conservative", "Powersave", "Userspace", "Schedutil"]
Affinity = Literal["Gaming", "Balanced", "Isolated", "NumaAware"]
NetworkPriority = Literal["Gaming", "Streaming", "Background", "Critical"]
IoScheduler = Literal["Noop", "Cfq", "Deadline", "Mq_deadline", "None"]
"""The text "None" is a scheduler; null is none at all."""

GpuVendor = Literal["Nvidia", "Amd", "Intel", "Any"]
PluginType = Literal[
    "GpuOptimization",
    "AudioOptimization",
    "NetworkOptimization",
    "PerformanceMonitoring",
    "GameSpecific",
    "System",
]
Permission = Literal["GpuAccess", "SystemControl", "NetworkControl", "FileSystem", "ProcessControl"]


class CpuOptimizations(Struct, frozen=True, kw_only=True):
    """How a program gets CPUs; ``priority`` is as of nice, but higher is more."""

    governor: Governor | None = None
    priority: I32 | None = None
    affinity: Affinity | None = None
    boost: bool | None = None


class NvidiaOptimizations(Struct, frozen=True, kw_only=True):
    """``power_limit`` in percent, the offsets in MHz."""

    dlss: bool | None = None
    reflex: bool | None = None
    power_limit: U32 | None = None
    memory_clock_offset: I32 | None = None
    core_clock_offset: I32 | None = None


class AmdOptimizations(Struct, frozen=True, kw_only=True):
    """``power_limit`` in percent."""

    rocm_optimization: bool | None = None
    power_limit: U32 | None = None


class GpuOptimizations(Struct, frozen=True, kw_only=True):
    """By vendor."""

    nvidia: NvidiaOptimizations | None = None
    amd: AmdOptimizations | None = None


class MemoryOptimizations(Struct, frozen=True, kw_only=True):
    """How a program gets memory."""

    huge_pages: bool | None = None
    swap_disabled: bool | None = None
    page_lock: bool | None = None


class NetworkOptimizations(Struct, frozen=True, kw_only=True):
    """How a program's packets are treated."""

    priority: NetworkPriority | None = None
    latency_optimization: bool | None = None
    packet_batching: bool | None = None


class StorageOptimizations(Struct, frozen=True, kw_only=True):
    """``read_ahead`` in KB."""

    io_scheduler: IoScheduler | None = None
    read_ahead: U32 | None = None


class Condition(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="pascal"):
    """When a profile counts: an object of exactly one key."""

    game_title: str | UnsetType = UNSET
    gpu_vendor: GpuVendor | UnsetType = UNSET
    cpu_cores: U32 | UnsetType = UNSET
    memory_gb: U32 | UnsetType = UNSET
    network_latency_ms: U32 | UnsetType = UNSET

    def __post_init__(self) -> None:
        if sum(getattr(self, name) is not UNSET for name in self.__struct_fields__) != 1:
            message = "a condition has exactly one key"
            raise ValueError(message)


class OptimizationProfile(Struct, frozen=True, kw_only=True):
    """What Bolt applies; all conditions have to hold."""

    name: str
    description: str
    priority: U32
    cpu_optimizations: CpuOptimizations
    gpu_optimizations: GpuOptimizations
    memory_optimizations: MemoryOptimizations
    network_optimizations: NetworkOptimizations
    storage_optimizations: StorageOptimizations
    conditions: tuple[Condition, ...]


class PluginManifest(Struct, frozen=True, kw_only=True):
    """What Bolt knows of a plugin; ``entry_point`` is the name of the file with the library."""

    name: str
    version: str
    author: str
    description: str
    plugin_type: PluginType
    entry_point: str
    dependencies: tuple[str, ...]
    permissions: tuple[Permission, ...]
    supported_gpus: tuple[GpuVendor, ...]


class SystemRequirements(Struct, frozen=True, kw_only=True):
    """What a machine needs; ``required_gpu_vendor`` is free text."""

    min_cpu_cores: U32 | None = None
    min_memory_gb: U32 | None = None
    min_gpu_memory_gb: U32 | None = None
    required_gpu_vendor: str | None = None
    supported_os: tuple[str, ...]


class ProfileUploadMetadata(Struct, frozen=True, kw_only=True):
    """What an author says of a profile; who it is and which version comes next, the registry knows."""

    author_email: str
    license: str | None = None
    repository: str | None = None
    documentation: str | None = None
    tags: tuple[str, ...]
    compatible_games: tuple[str, ...]
    system_requirements: SystemRequirements


class ProfileUpload(Struct, frozen=True, kw_only=True):
    """ProfileUploadRequest."""

    profile: OptimizationProfile
    metadata: ProfileUploadMetadata


class PluginUploadMetadata(Struct, frozen=True, kw_only=True):
    """What an author says of a plugin."""

    author_email: str
    license: str
    repository: str
    documentation: str | None = None
    supported_platforms: tuple[str, ...]


class PluginUpload(Struct, frozen=True, kw_only=True):
    """PluginUploadRequest without ``binary_data``, which is read as a stream."""

    manifest: PluginManifest
    metadata: PluginUploadMetadata


class PluginUploadRequest(PluginUpload, frozen=True, kw_only=True):
    """The whole of it, each byte of the library a number; nobody makes one, it only says what may be sent."""

    binary_data: list[Annotated[int, Meta(ge=0, le=255)]]


class SearchRequest(Struct, frozen=True, kw_only=True):
    """Everything is optional; ``page`` counts from 1."""

    query: str | None = None
    tags: tuple[str, ...] | None = None
    author: str | None = None
    game: str | None = None
    gpu_vendor: str | None = None
    sort_by: Literal["downloads", "rating", "created_at", "updated_at"] | None = None
    sort_order: Literal["asc", "desc"] | None = None
    page: U32 | None = None
    per_page: U32 | None = None


class ProfileSummary(Struct, frozen=True, kw_only=True):
    """A profile in a list."""

    name: str
    version: str
    author: str
    description: str
    downloads: int
    rating: float
    created_at: datetime
    updated_at: datetime
    tags: tuple[str, ...]
    compatible_games: tuple[str, ...]


class PluginSummary(Struct, frozen=True, kw_only=True):
    """A plugin in a list."""

    name: str
    version: str
    plugin_type: PluginType
    author: str
    description: str
    downloads: int
    rating: float
    verified: bool
    supported_platforms: tuple[str, ...]


class ProfileListResponse(Struct, frozen=True, kw_only=True):
    """A page of profiles; ``total`` is of all."""

    profiles: list[ProfileSummary]
    total: int
    page: int
    per_page: int


class PluginListResponse(Struct, frozen=True, kw_only=True):
    """A page of plugins."""

    plugins: list[PluginSummary]
    total: int
    page: int
    per_page: int


class SearchResponse(Struct, frozen=True, kw_only=True):
    """A page of what was found."""

    results: list[Any]
    total: int
    page: int
    per_page: int
    total_pages: int


class ProfileSearchResponse(SearchResponse, frozen=True, kw_only=True):
    """A page of profiles that were found."""

    results: list[ProfileSummary]


class PluginSearchResponse(SearchResponse, frozen=True, kw_only=True):
    """A page of plugins that were found."""

    results: list[PluginSummary]


class ProfileMetadata(Struct, frozen=True, kw_only=True):
    """What is known of a version of a profile."""

    author: str
    author_email: str
    version: str
    license: str | None
    repository: str | None
    documentation: str | None
    created_at: datetime
    updated_at: datetime
    downloads: int
    rating: float
    rating_count: int
    verified: bool
    tags: tuple[str, ...]
    compatible_games: tuple[str, ...]
    system_requirements: SystemRequirements


class PluginMetadata(Struct, frozen=True, kw_only=True):
    """What is known of a version of a plugin."""

    author: str
    author_email: str
    license: str
    repository: str
    documentation: str | None
    created_at: datetime
    updated_at: datetime
    downloads: int
    rating: float
    rating_count: int
    verified: bool
    supported_platforms: tuple[str, ...]


class Part(Struct, frozen=True, kw_only=True):
    """A blob of an artifact, with the keys in snake case, as Bolt has them; ``size`` in bytes."""

    media_type: str
    size: int
    digest: str


class ProfileManifest(Struct, frozen=True, kw_only=True):
    """The OCI manifest of a profile as Bolt reads it; ``schema_version`` is a text."""

    schema_version: str
    media_type: str
    config: Part
    layers: list[Part]


class BinaryManifest(Struct, frozen=True, kw_only=True):
    """The library of a plugin for one platform; ``size`` in bytes."""

    platform: str
    architecture: str
    size: int
    digest: str
    download_url: str


class ProfileDetail(Struct, frozen=True, kw_only=True):
    """Everything about a version of a profile."""

    profile: OptimizationProfile
    metadata: ProfileMetadata
    manifest: ProfileManifest


class PluginDetail(Struct, frozen=True, kw_only=True):
    """Everything about a version of a plugin."""

    manifest: PluginManifest
    metadata: PluginMetadata
    binary_manifest: BinaryManifest


class RegistryMetrics(Struct, frozen=True, kw_only=True):
    """``daily_downloads`` by date, such as 2026-01-31, in UTC."""

    total_profiles: int
    total_plugins: int
    total_downloads: int
    daily_downloads: dict[str, int]
    popular_profiles: list[ProfileSummary]
    popular_plugins: list[PluginSummary]
    storage_usage_bytes: int
    active_users_30d: int


class Rating(Struct, frozen=True, kw_only=True):
    """What somebody thinks of a profile or a plugin."""

    rating: Annotated[float, Meta(ge=1.0, le=5.0)]
    # PostgreSQL has no text with a zero in it.
    comment: Annotated[str, Meta(max_length=2000, pattern=r"^[^\0]*$")] | None = None
