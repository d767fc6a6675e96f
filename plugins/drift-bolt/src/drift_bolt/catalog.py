"""What is published, in the database: who takes which version, what becomes of it, and what is known of an entry."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, RowMapping, delete, insert, select, text, update

from drift_bolt import blocks
from drift_bolt.model import PluginType, PluginUpload, ProfileUpload
from drift_bolt.problems import Published, Unknown
from drift_bolt.tables import categories, entries, parts, pulls, ratings, totals, versions
from drift_bolt.validation import findable
from drift_core.api import Denied

Kind = Literal["profile", "plugin"]

SEARCHED = ("text", "tags", "games", "vendor", "author_text")
"""The columns in which words are found."""


class File(Struct, frozen=True, kw_only=True):
    """A file of a version, and the artifact that it is in; sizes in bytes. ``platform`` is empty for a profile."""

    platform: str
    digest: str
    size: int
    config_digest: str
    config_size: int
    manifest_digest: str
    manifest_size: int


class Summary(Struct, frozen=True, kw_only=True):
    """What a list shows beside the columns of its own; profiles have the first two, plugins the others."""

    tags: tuple[str, ...] = ()
    compatible_games: tuple[str, ...] = ()
    plugin_type: PluginType = "System"
    supported_platforms: tuple[str, ...] = ()


class Draft(Struct, frozen=True, kw_only=True):
    """What somebody wants to publish: ``document`` is the request as JSON, ``vendor`` free text.

    ``version`` None is the next one. ``digest`` is that of the manifest of a profile. ``mirror`` is the registry that
    it comes from, or None.
    """

    kind: Kind
    name: str
    author: str
    description: str
    summary: Summary
    document: bytes
    file: File
    digest: str | None = None
    version: str | None = None
    vendor: str = ""
    mirror: str | None = None


class Entry(Struct, frozen=True, kw_only=True):
    """A profile or a plugin, of which ``version`` is the latest; moments in seconds since the epoch."""

    id: int
    kind: Kind
    name: str
    author: str
    version: str
    number: int
    description: str
    summary: Summary
    created_at: float
    updated_at: float
    downloads: int
    rating: float
    rating_count: int


class Version(Struct, frozen=True, kw_only=True):
    """A version of an entry; ``digest`` is that of what its tag names, a manifest or the index of a plugin."""

    entry: int
    number: int
    version: str
    author: str
    document: str
    digest: str
    published: bool
    pending: bool
    created_at: float
    mirror: str | None


def profile_draft(upload: ProfileUpload, author: str, file: File) -> Draft:
    """Returns what is known of a profile that was pushed."""
    metadata = upload.metadata
    return Draft(
        kind="profile",
        name=upload.profile.name,
        author=author,
        description=upload.profile.description,
        summary=Summary(tags=metadata.tags, compatible_games=metadata.compatible_games),
        document=msgspec.json.encode(upload),
        file=file,
        digest=file.manifest_digest,
        vendor=metadata.system_requirements.required_gpu_vendor or "",
    )


def plugin_draft(upload: PluginUpload, author: str, file: File) -> Draft:
    """Returns what is known of a plugin that was pushed."""
    manifest, metadata = upload.manifest, upload.metadata
    return Draft(
        kind="plugin",
        name=manifest.name,
        author=author,
        description=manifest.description,
        summary=Summary(plugin_type=manifest.plugin_type, supported_platforms=metadata.supported_platforms),
        document=msgspec.json.encode(upload),
        file=file,
        version=manifest.version,
        vendor="\n".join(manifest.supported_gpus),
    )


def draft_of(kind: Kind, version: Version, file: File) -> Draft:
    """Returns what somebody wanted to publish, of what is known of the version; ``file`` is one of its files."""
    if kind == "profile":
        return profile_draft(msgspec.json.decode(version.document, type=ProfileUpload), version.author, file)
    return plugin_draft(msgspec.json.decode(version.document, type=PluginUpload), version.author, file)


def reserve(
    db: Connection,
    draft: Draft,
    index_digest: Callable[[Sequence[File]], str],
    *,
    may_all: bool,
    only_new: bool = False,
) -> Version:
    """Gives a draft its version, in one transaction of its own: numbers of a name have no gap and no double.

    The entry belongs to who made it first; others need ``may_all``. A plugin's version may get further platforms.
    ``index_digest`` makes that of the index over files. Raises `Denied`, `Published`.
    """
    entry = _owned(db, draft, may_all=may_all, only_new=only_new)
    known = None if draft.version is None else _version(db, entry["id"], draft.version)
    number = _next(db, entry) if known is None else known.number
    if known is not None:
        _check_addition(db, known, draft)
    row = {"entry": entry["id"], "number": number}
    db.execute(insert(parts).values(**row, **msgspec.structs.asdict(draft.file)))
    add(db, "bytes", draft.file.size + draft.file.config_size)
    digest = draft.digest or index_digest(files(db, entry["id"], number))
    if known is not None:
        own = (versions.c.entry == entry["id"], versions.c.number == number)
        document = _merged(known.document, draft.document)
        changed = {"digest": digest, "document": document, "pending": True}
        db.execute(update(versions).where(*own).values(**changed))
        return msgspec.structs.replace(known, **changed)
    made = Version(
        **row,
        version=draft.version or numbered(number),
        author=draft.author,
        document=draft.document.decode(),
        digest=digest,
        published=False,
        pending=True,
        created_at=time.time(),
        mirror=draft.mirror,
    )
    db.execute(insert(versions).values(**msgspec.structs.asdict(made)))
    db.execute(update(entries).where(entries.c.id == entry["id"]).values(made=number))
    return made


def _next(db: Connection, entry: Mapping[str, Any]) -> int:
    """Returns the next number, behind those whose versions a mirrored entry has already."""
    number: int = entry["made"] + 1
    while _version(db, entry["id"], numbered(number)) is not None:
        number += 1
    return number


def numbered(number: int) -> str:
    """Returns the version that a number stands for."""
    return f"1.{number - 1}.0"


def _owned(db: Connection, draft: Draft, *, may_all: bool, only_new: bool) -> Mapping[str, Any]:
    own = (entries.c.kind == draft.kind, entries.c.name == draft.name)
    row = db.execute(select(entries.c.id, entries.c.made, entries.c.author).where(*own)).mappings().one_or_none()
    if row is not None:
        if only_new:
            raise Published(f"there is a {draft.kind} {draft.name}", name=draft.name)
        if not may_all:
            check_owner(db, draft.kind, draft.name, draft.author)
        return dict(row)
    now = time.time()
    nothing: dict[str, Any] = dict.fromkeys(("made", "number", "downloads", "rating_count"), 0)
    nothing |= dict.fromkeys(("rating", "rating_sum", "score"), 0.0)
    nothing |= dict.fromkeys(("version", "description", *SEARCHED), "")
    values = {"kind": draft.kind, "name": draft.name, "author": draft.author, "listed": False, "summary": "{}"}
    made = insert(entries).values(**values, **nothing, created_at=now, updated_at=now).returning(entries.c.id)
    return {"id": db.execute(made).scalar_one(), "made": 0, "author": draft.author}


def check_owner(db: Connection, kind: Kind, name: str, author: str) -> None:
    """Raises `Denied` where an entry belongs to somebody else."""
    own = (entries.c.kind == kind, entries.c.name == name)
    owner = db.execute(select(entries.c.author).where(*own)).scalar_one_or_none()
    if owner not in (None, author):
        raise Denied(f"the {kind} {name} belongs to {owner}", name=name)


def _check_addition(db: Connection, known: Version, draft: Draft) -> None:
    """Raises `Published` unless a draft only adds a platform to what it says of the version otherwise."""
    platform = draft.file.platform
    if any(file.platform == platform for file in files(db, known.entry, known.number)):
        message = f"{draft.name} {known.version} is published for {platform}" if platform else None
        raise Published(message, name=draft.name, version=known.version)
    if known.author != draft.author or _manifest(known.document) != _manifest(draft.document):
        message = f"{draft.name} {known.version} was published with another manifest, or by somebody else"
        raise Published(message, name=draft.name, version=known.version)


def _merged(document: str, addition: bytes) -> str:
    """Returns the document of a plugin that names the platforms of both."""
    found: dict[str, Any] = msgspec.json.decode(document)
    both: list[str] = [
        *found["metadata"]["supported_platforms"],
        *msgspec.json.decode(addition)["metadata"]["supported_platforms"],
    ]
    found["metadata"]["supported_platforms"] = list(dict.fromkeys(both))
    return msgspec.json.encode(found).decode()


def _manifest(document: str | bytes) -> Any:
    return msgspec.json.decode(document, type=dict[str, Any]).get("manifest")


def files(db: Connection, entry: int, number: int) -> list[File]:
    """Returns the files of a version, in order of their platforms."""
    own = (parts.c.entry == entry, parts.c.number == number)
    columns = [parts.c[name] for name in File.__struct_fields__]
    rows = db.execute(select(*columns).where(*own).order_by(parts.c.platform)).mappings()
    return [File(**row) for row in rows]


def publish(db: Connection, version: Version, draft: Draft) -> bool:
    """Shows a version whose tag was set; False where it was changed meanwhile, and is to be looked at again."""
    own = (versions.c.entry == version.entry, versions.c.number == version.number, versions.c.digest == version.digest)
    if not db.execute(update(versions).where(*own).values(published=True, pending=False)).rowcount:
        return False
    entry = db.execute(select(entries).where(entries.c.id == version.entry)).mappings().one()
    if version.number < entry["number"]:
        return True
    _show(db, dict(entry), version, draft)
    return True


def _show(db: Connection, entry: Mapping[str, Any], version: Version, draft: Draft) -> None:
    """Makes a version the latest of its entry: what lists show and searches find is what that version says."""
    words = words_of(draft)
    summary = msgspec.json.encode(draft.summary).decode()
    _categorize(db, entry, -1)
    values = {"version": version.version, "number": version.number, "description": draft.description}
    changed = {"listed": True, "summary": summary, "updated_at": time.time(), **values, **words}
    db.execute(update(entries).where(entries.c.id == version.entry).values(**changed))
    _index(db, draft.kind, version.entry, words)
    if not entry["listed"]:
        add(db, f"{draft.kind}s", 1)
        blocks.count(db, draft.kind, draft.name, 1)
    _categorize(db, {**entry, **changed}, 1)


def words_of(draft: Draft) -> dict[str, str]:
    """Returns in what an entry is found, by column."""
    found = draft.summary
    return {
        "text": f"{draft.name}\n{draft.description}".casefold(),
        "tags": "\n".join((*found.tags, *found.supported_platforms)).casefold(),
        "games": "\n".join(found.compatible_games).casefold(),
        "vendor": draft.vendor.casefold(),
        "author_text": draft.author.casefold(),
    }


def _index(db: Connection, kind: Kind, entry: int, words: Mapping[str, str] | None) -> None:
    """Replaces the words of an entry in the index beside the table; PostgreSQL has it in the table itself."""
    if db.dialect.name != "sqlite":
        return
    db.execute(text(f"DELETE FROM bolt__{kind}_words WHERE rowid = :id"), {"id": entry})  # noqa: S608 - of two kinds
    if words is not None:
        columns = ", ".join(SEARCHED)
        values = ", ".join(f":{name}" for name in SEARCHED)
        added = f"INSERT INTO bolt__{kind}_words (rowid, {columns}) VALUES (:id, {values})"  # noqa: S608
        db.execute(text(added), {"id": entry, **words})


def _categorize(db: Connection, entry: Mapping[str, Any], change: int) -> None:
    """Counts an entry in its categories, or counts it no more."""
    if not entry["listed"]:
        return
    summary = msgspec.json.decode(entry["summary"], type=Summary)
    names = sorted(set(summary.tags)) if entry["kind"] == "profile" else [summary.plugin_type]
    for name in names:
        own = (categories.c.kind == entry["kind"], categories.c.name == name)
        changed = update(categories).where(*own).values(entries=categories.c.entries + change)
        if not db.execute(changed).rowcount:
            db.execute(insert(categories).values(kind=entry["kind"], name=name, entries=change))
    db.execute(delete(categories).where(categories.c.kind == entry["kind"], categories.c.entries <= 0))


def add(db: Connection, name: str, change: int) -> None:
    """Adds to one of the totals."""
    if (
        change
        and not db.execute(update(totals).where(totals.c.name == name).values(value=totals.c.value + change)).rowcount
    ):
        db.execute(insert(totals).values(name=name, value=change))


def find(db: Connection, kind: Kind, name: str) -> Entry:
    """Returns an entry of which something is published. Raises `Unknown`."""
    query = select(entries).where(entries.c.kind == kind, entries.c.name == name, entries.c.listed)
    row = db.execute(query).mappings().one_or_none() if findable(name) else None
    if row is None:
        raise Unknown(f"there is no {kind} {name}", name=name)
    return entry_of(row)


def entry_of(row: RowMapping) -> Entry:
    """Returns an entry of its row."""
    values: dict[str, Any] = {name: row[name] for name in Entry.__struct_fields__}
    values["summary"] = msgspec.json.decode(row["summary"], type=Summary)
    return Entry(**values)


def published(db: Connection, entry: Entry, version: str | None) -> tuple[Version, list[File]]:
    """Returns a version of an entry, None for the latest, and its files. Raises `Unknown`."""
    found = _version(db, entry.id, version or entry.version)
    if found is None or not found.published:
        raise Unknown(f"{entry.name} has no version {version}", name=entry.name, version=version)
    return found, files(db, entry.id, found.number)


def all_versions(db: Connection, entry: Entry, most: int = 1000) -> list[Version]:
    """Returns at most so many published versions, the newest first."""
    own = (versions.c.entry == entry.id, versions.c.published)
    rows = db.execute(select(versions).where(*own).order_by(versions.c.number.desc()).limit(most)).mappings()
    return [Version(**row) for row in rows]


def _version(db: Connection, entry: int, version: str) -> Version | None:
    if not findable(version):
        return None
    own = (versions.c.entry == entry, versions.c.version == version)
    row = db.execute(select(versions).where(*own)).mappings().one_or_none()
    return None if row is None else Version(**row)


def digest_of(db: Connection, kind: Kind, name: str, version: str) -> str | None:
    """Returns what the tag of a version has to name, None where there is no such version, published or not."""
    own = (entries.c.kind == kind, entries.c.name == name, versions.c.version == version)
    query = select(versions.c.digest).join(entries, entries.c.id == versions.c.entry).where(*own)
    return db.execute(query).scalar_one_or_none()


def current(db: Connection, version: Version) -> Version | None:
    """Returns what a version is by now, None where it is gone."""
    return _version(db, version.entry, version.version)


def withdraw(db: Connection, version: Version, digest: str, kept: Collection[str]) -> None:
    """Makes a published version what its tag names: of its files only those in the manifests ``kept`` stay.

    Nothing where the version was changed since it was read: what has been added to it is not in ``kept``.
    """
    own_version = (versions.c.entry == version.entry, versions.c.number == version.number)
    same = versions.c.digest == version.digest
    changed = update(versions).where(*own_version, same).values(digest=digest, pending=False)
    if not db.execute(changed).rowcount:
        return
    for file in files(db, version.entry, version.number):
        if file.manifest_digest not in kept:
            own = (parts.c.entry == version.entry, parts.c.number == version.number)
            db.execute(delete(parts).where(*own, parts.c.platform == file.platform))
            add(db, "bytes", -(file.size + file.config_size))


def unfinished(db: Connection, before: float, most: int = 100) -> list[tuple[Entry, Version, list[File]]]:
    """Returns versions whose tag nobody has set although they were reserved before a moment, the oldest first."""
    query = select(versions).where(versions.c.pending, versions.c.created_at < before)
    rows = db.execute(query.order_by(versions.c.created_at).limit(most)).mappings().all()
    found: list[tuple[Entry, Version, list[File]]] = []
    for row in rows:
        entry = db.execute(select(entries).where(entries.c.id == row["entry"])).mappings().one()
        found.append((entry_of(entry), Version(**row), files(db, row["entry"], row["number"])))
    return found


def forget(db: Connection, kind: Kind, name: str, gone: Sequence[str] | None) -> int:
    """Removes versions, None for all, and returns how many; the newest that is left is then the latest."""
    query = select(entries).where(entries.c.kind == kind, entries.c.name == name)
    entry = db.execute(query).mappings().one_or_none()
    if entry is None:
        return 0
    own = versions.c.entry == entry["id"]
    some = own if gone is None else own & versions.c.version.in_(gone)
    numbers = db.execute(select(versions.c.number).where(some)).scalars().all()
    for number in numbers:
        add(db, "bytes", -sum(file.size + file.config_size for file in files(db, entry["id"], number)))
        db.execute(delete(parts).where(parts.c.entry == entry["id"], parts.c.number == number))
        db.execute(delete(versions).where(own, versions.c.number == number))
    if numbers:
        _show_newest(db, entry)
    return len(numbers)


def _show_newest(db: Connection, entry: RowMapping) -> None:
    """Makes the newest version that is left the latest, or shows the entry no more."""
    query = select(versions).where(versions.c.entry == entry["id"], versions.c.published)
    row = db.execute(query.order_by(versions.c.number.desc()).limit(1)).mappings().one_or_none()
    mine = entries.c.id == entry["id"]
    if row is not None:
        latest = Version(**row)
        if latest.number != entry["number"]:
            _show(db, dict(entry), latest, draft_of(entry["kind"], latest, files(db, latest.entry, latest.number)[0]))
        return
    _categorize(db, dict(entry), -1)
    if entry["listed"]:
        add(db, f"{entry['kind']}s", -1)
        blocks.count(db, entry["kind"], entry["name"], -1)
    empty = {"listed": False, "version": "", "number": 0, "downloads": 0, "score": 0.0}
    db.execute(update(entries).where(mine).values(**empty, rating=0.0, rating_sum=0.0, rating_count=0))
    _index(db, entry["kind"], entry["id"], None)
    db.execute(delete(ratings).where(ratings.c.entry == entry["id"]))
    db.execute(delete(pulls).where(pulls.c.entry == entry["id"]))
