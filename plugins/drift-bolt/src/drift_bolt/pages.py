"""The pages of the console: profiles and plugins, found as the API finds them, and each with its versions."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode

import msgspec

from drift_bolt import catalog, finding
from drift_bolt.artifacts import repository_of
from drift_bolt.catalog import Entry, File, Kind, Version
from drift_bolt.model import PluginUpload, ProfileUpload, Rating, SearchRequest
from drift_bolt.problems import Invalid
from drift_bolt.profile_toml import to_toml
from drift_bolt.routes import may
from drift_core.api import pages

if TYPE_CHECKING:
    from drift_bolt.bolt import Bolt

SHOWN: Final = 50
"""Entries of a page, and versions of an entry."""

FILTERS: Final = (
    ("query", "Name or description"),
    ("tags", "Tags"),
    ("author", "Author"),
    ("game", "Game"),
    ("gpu_vendor", "GPU"),
)
SORTS: Final = ("", "downloads", "rating", "created_at", "updated_at")
LABELS: Final[Mapping[Kind, str]] = {"profile": "Profile", "plugin": "Plugin"}


def pages_over(feature: "Bolt") -> Sequence[pages.Page]:
    """Returns the pages, which need what the routes need."""
    profiles, plugins = _Kind(feature, "profile"), _Kind(feature, "plugin")
    return [*profiles.offered("Bolt"), *plugins.offered(None)]


class _Kind:
    """The pages of profiles, or of plugins."""

    def __init__(self, feature: "Bolt", kind: Kind) -> None:
        self._feature = feature
        self._kind: Kind = kind
        self._path = f"/bolt/{kind}s"
        self._label = LABELS[kind]

    def offered(self, menu: str | None) -> Sequence[pages.Page]:
        """Returns the list, and the page of one."""
        reads = may(self._kind, "read")
        acts = {"rate": pages.Act(self.rate, reads), "remove": pages.Act(self.remove, may(self._kind, "delete"))}
        return [
            pages.Page(self._path, f"{self._label}s", self.show_all, menu, reads),
            pages.Page(f"{self._path}/{{name}}", self._label, self.show, None, reads, acts),
        ]

    async def show_all(self, asked: pages.Asked) -> Sequence[pages.Block]:
        """Shows a page of all by name, or of what is searched."""
        await self._feature.note(asked.identity)
        query = {name: value.strip() for name, value in asked.query.items() if value.strip()}
        number = _page(query.pop("page", ""))
        found = await self._feature.records.read(partial(self._find, query=query, number=number))
        good = await self._verified(found.entries)
        more = None
        if found.page < found.pages and found.entries:
            more = pages.Link("More", f"{self._path}?{urlencode({**query, 'page': number + 1})}")
        other: Kind = "plugin" if self._kind == "profile" else "profile"
        figures = (
            pages.Figure(f"{self._label}s found", found.total),
            pages.Figure("See also", pages.Link(f"{LABELS[other]}s", f"/bolt/{other}s")),
        )
        special = ("Games", "Tags") if self._kind == "profile" else ("Type", "Platforms", "Signed")
        columns = (self._label, "Version", "Author", "Description", *special, "Downloads", "Rating", "Updated")
        rows = [self._row(entry, verified=entry.name in good) for entry in found.entries]
        return (
            pages.Figures(figures),
            pages.Form("Find", "Search", _fields(query)),
            pages.Table(f"{self._label}s", columns, rows, "There is none.", more),
        )

    async def show(self, asked: pages.Asked) -> Sequence[pages.Block]:
        """Shows one version, the latest unless the query names another."""
        await self._feature.note(asked.identity)
        name, feature = asked.path["name"], self._feature
        entry, version, files = await feature.version(self._kind, name, asked.query.get("version") or None)
        verified = await feature.verified(feature.registry, self._kind, name, version.version)
        every = await feature.records.read(partial(catalog.all_versions, entry=entry, most=SHOWN))
        reference = f"{asked.host}/{repository_of(self._kind, name)}:{version.version}"
        facts: list[tuple[str, pages.Cell]] = [
            (self._label, name),
            ("Version", version.version),
            ("Author", version.author),
            ("Description", entry.description),
            ("Signed", _signed(verified=verified)),
            ("Downloads", entry.downloads),
            ("Rating", _rating(entry)),
            ("Published", pages.Moment(version.created_at)),
            ("Digest", pages.Copied(version.digest)),
            ("Pull it by", pages.Copied(f"oras pull {reference}")),
        ]
        versions = [self._version(name, one) for one in every]
        stars = pages.Field("rating", "Stars", "choice", "5", ("1", "2", "3", "4", "5"), required=True)
        comment = pages.Field("comment", "Comment")
        return (
            pages.Facts(f"{self._label} {name}", [*facts, *_about(self._kind, version)]),
            *_content(self._kind, name, version, files),
            pages.Table("Versions", ("Version", "Author", "Published"), versions),
            pages.Form("Rate it", "Rate", (stars, comment), "rate"),
            pages.Form("Remove every version", "Remove", act="remove", danger=True),
        )

    async def rate(self, asked: pages.Asked) -> pages.Done:
        """Takes what somebody thinks, in the place of what the same person thought before."""
        comment = asked.form.get("comment", "").strip() or None
        try:
            rating = msgspec.convert({"rating": asked.form.get("rating"), "comment": comment}, Rating, strict=False)
        except msgspec.ValidationError as error:
            raise Invalid(str(error)) from error
        entry = await self._feature.rate(self._kind, asked.path["name"], rating, asked.identity)
        return pages.Done(f"{entry.name} has {_rating(entry)}.")

    async def remove(self, asked: pages.Asked) -> pages.Done:
        """Takes every version away."""
        await self._feature.remove(self._kind, asked.path["name"], asked.identity)
        return pages.Done(f"{asked.path['name']} is removed.", then=self._path)

    def _find(self, db: Any, query: Mapping[str, str], number: int) -> finding.Page:
        if not query:
            return finding.listing(db, self._kind, number, SHOWN)
        return finding.search(db, self._kind, _wanted(query, number))

    async def _verified(self, entries: Sequence[Entry]) -> set[str]:
        # As the API, which says it of plugins only.
        if self._kind == "profile":
            return set()
        return await self._feature.all_verified(self._feature.registry, entries)

    def _row(self, entry: Entry, *, verified: bool) -> Sequence[pages.Cell]:
        about = entry.summary
        special: Sequence[pages.Cell] = (", ".join(about.compatible_games), ", ".join(about.tags))
        if self._kind == "plugin":
            special = (about.plugin_type, ", ".join(about.supported_platforms), _signed(verified=verified))
        return (
            pages.Link(entry.name, f"{self._path}/{quote(entry.name, safe='')}"),
            entry.version,
            entry.author,
            entry.description,
            *special,
            entry.downloads,
            _rating(entry),
            pages.Moment(entry.updated_at),
        )

    def _version(self, name: str, version: Version) -> Sequence[pages.Cell]:
        path = f"{self._path}/{quote(name, safe='')}?{urlencode({'version': version.version})}"
        return pages.Link(version.version, path), version.author, pages.Moment(version.created_at)


def _wanted(query: Mapping[str, str], number: int) -> SearchRequest:
    """Returns what a page is searched by. Raises `Invalid`."""
    wanted: dict[str, Any] = {name: query[name] for name, _ in FILTERS if name in query}
    if "tags" in wanted:
        wanted["tags"] = [tag.strip() for tag in wanted["tags"].split(",")]
    if "sort_by" in query:
        wanted["sort_by"] = query["sort_by"]
    try:
        return msgspec.convert({**wanted, "page": number, "per_page": SHOWN}, SearchRequest)
    except msgspec.ValidationError as error:
        raise Invalid(str(error)) from error


def _fields(query: Mapping[str, str]) -> Sequence[pages.Field]:
    hints = {"tags": "several with commas between them"}
    texts = [pages.Field(name, label, value=query.get(name, ""), hint=hints.get(name, "")) for name, label in FILTERS]
    return (*texts, pages.Field("sort_by", "First", "choice", query.get("sort_by", ""), SORTS))


def _page(text: str) -> int:
    """Returns the number of a page, 1 for what is none."""
    return int(text) if text.isascii() and text.isdecimal() and 0 < len(text) < 10 else 1  # noqa: PLR2004 - in 32 bits


def _about(kind: Kind, version: Version) -> Sequence[tuple[str, pages.Cell]]:
    if kind == "profile":
        said = msgspec.json.decode(version.document, type=ProfileUpload).metadata
        return (
            ("Tags", ", ".join(said.tags)),
            ("Games", ", ".join(said.compatible_games)),
            ("GPU", said.system_requirements.required_gpu_vendor),
            ("Systems", ", ".join(said.system_requirements.supported_os)),
            ("License", said.license),
        )
    upload = msgspec.json.decode(version.document, type=PluginUpload)
    return (
        ("Type", upload.manifest.plugin_type),
        ("Asks for", ", ".join(upload.manifest.permissions)),
        ("Depends on", ", ".join(upload.manifest.dependencies)),
        ("GPUs", ", ".join(upload.manifest.supported_gpus)),
        ("License", upload.metadata.license),
        ("Source", upload.metadata.repository),
    )


def _content(kind: Kind, name: str, version: Version, files: Sequence[File]) -> Sequence[pages.Block]:
    if kind == "profile":
        profile = msgspec.json.decode(version.document, type=ProfileUpload).profile
        command = f"drift bolt run IMAGE --profile {name} --version {version.version}"
        facts = pages.Facts("Run an image with it", [("Command", pages.Copied(command))])
        return facts, pages.Text(to_toml(profile).decode(), f"{name}.toml", code=True)
    rows = [(file.platform, pages.Size(file.size), pages.Copied(file.digest)) for file in files]
    return (pages.Table("Libraries", ("Platform", "Size", "Digest"), rows),)


def _signed(*, verified: bool) -> pages.State:
    return pages.State("verified", "good") if verified else pages.State("not verified")


def _rating(entry: Entry) -> str:
    return f"{entry.rating:.1f} of {entry.rating_count}" if entry.rating_count else "no rating"
