"""What people did with profiles and plugins: downloads, ratings and who was there, as true figures."""

import time
from collections import Counter
from datetime import UTC, datetime, timedelta

from msgspec import Struct
from sqlalchemy import Connection, delete, func, insert, select, update

from drift_bolt.catalog import Entry, Kind, add
from drift_bolt.tables import categories, entries, hours, pulls, ratings, totals, users

FOLDED_AT_ONCE = 1000
"""Most downloads that one transaction adds up."""

DAYS = 30
"""How far back the days of downloads and the active users go."""

HOUR, DAY = 3600, 86_400

SHOWN_CATEGORIES = 100


class Sums(Struct, frozen=True):
    """How many downloads there were, per date of the last `DAYS` days, and how many users; in UTC, bytes."""

    profiles: int
    plugins: int
    downloads: int
    daily: dict[str, int]
    bytes: int
    active_users: int


class KindSums(Struct, frozen=True):
    """The same of one kind; hours are whole ones, the running one among them."""

    total: int
    by_category: dict[str, int]
    downloads_24h: int
    downloads_7d: int


class PluginSums(Struct, frozen=True):
    """The same of plugins, whose categories are types."""

    total: int
    downloads_24h: int
    downloads_7d: int
    by_type: dict[str, int]


def downloaded(db: Connection, entry: int) -> None:
    """Writes that an entry was downloaded; changes no row, so that downloads do not wait for each other."""
    db.execute(insert(pulls).values(entry=entry, hour=int(time.time()) // HOUR))


def waiting(db: Connection, entry: int) -> int:
    """Returns the downloads of an entry that were not added up yet."""
    return db.execute(select(func.count()).select_from(pulls).where(pulls.c.entry == entry)).scalar_one()


def anything_waits(db: Connection) -> bool:
    """Says whether there are downloads that were not added up yet."""
    return db.execute(select(pulls.c.id).limit(1)).scalar() is not None


def fold(db: Connection, most: int = FOLDED_AT_ONCE) -> int:
    """Adds up to ``most`` downloads to the sums, and returns how many."""
    chosen = select(pulls.c.id).order_by(pulls.c.id).limit(most)
    rows = db.execute(delete(pulls).where(pulls.c.id.in_(chosen)).returning(pulls.c.entry, pulls.c.hour)).all()
    kinds = _kinds(db, {row[0] for row in rows})
    per_entry = Counter(entry for entry, _ in rows if entry in kinds)
    per_hour = Counter((kinds[entry], hour) for entry, hour in rows if entry in kinds)
    for entry, number in sorted(per_entry.items()):
        one = entries.c.downloads + number
        score = one + 100 * entries.c.rating
        db.execute(update(entries).where(entries.c.id == entry).values(downloads=one, score=score))
    for (kind, hour), number in sorted(per_hour.items()):
        own = (hours.c.kind == kind, hours.c.hour == hour)
        if not db.execute(update(hours).where(*own).values(downloads=hours.c.downloads + number)).rowcount:
            db.execute(insert(hours).values(kind=kind, hour=hour, downloads=number))
    add(db, "downloads", sum(per_entry.values()))
    return len(rows)


def _kinds(db: Connection, ids: set[int]) -> dict[int, Kind]:
    return {row[0]: row[1] for row in db.execute(select(entries.c.id, entries.c.kind).where(entries.c.id.in_(ids)))}


def rate(db: Connection, entry: Entry, rater: str, rating: float, comment: str | None) -> None:
    """Writes what somebody thinks, in the place of what he thought before."""
    own = (ratings.c.entry == entry.id, ratings.c.rater == rater)
    before = db.execute(select(ratings.c.rating).where(*own)).scalar_one_or_none()
    values = {"rating": rating, "comment": comment, "rated_at": time.time()}
    if before is None:
        db.execute(insert(ratings).values(entry=entry.id, rater=rater, **values))
    else:
        db.execute(update(ratings).where(*own).values(**values))
    mine = entries.c.id == entry.id
    known = db.execute(select(entries.c.rating_sum, entries.c.rating_count, entries.c.downloads).where(mine)).one()
    total, number = known[0] + rating - (before or 0.0), known[1] + (before is None)
    mean = total / number
    changed = {"rating": mean, "rating_sum": total, "rating_count": number, "score": known[2] + 100 * mean}
    db.execute(update(entries).where(mine).values(**changed))


def today() -> int:
    """Returns the number of the day, from the epoch."""
    return int(time.time()) // DAY


def seen(db: Connection, name: str) -> None:
    """Writes that somebody used the API today."""
    changed = update(users).where(users.c.name == name).values(day=today())
    if not db.execute(changed).rowcount:
        db.execute(insert(users).values(name=name, day=today()))


def count_users(db: Connection) -> None:
    """Counts who was there in the last `DAYS` days."""
    active = db.execute(select(func.count()).where(users.c.day > today() - DAYS)).scalar_one()
    db.execute(delete(totals).where(totals.c.name == "active_users"))
    db.execute(insert(totals).values(name="active_users", value=active))


def sums(db: Connection) -> Sums:
    """Returns what all did."""
    found = {row[0]: int(row[1]) for row in db.execute(select(totals.c.name, totals.c.value))}
    now = int(time.time())
    since = now // DAY - DAYS + 1
    per_hour = select(hours.c.hour, hours.c.downloads).where(hours.c.hour >= since * DAY // HOUR)
    daily = {_date(day): 0 for day in range(since, now // DAY + 1)}
    for hour, number in db.execute(per_hour):
        date = _date(hour * HOUR // DAY)
        daily[date] = daily.get(date, 0) + number
    return Sums(
        found.get("profiles", 0),
        found.get("plugins", 0),
        found.get("downloads", 0),
        daily,
        found.get("bytes", 0),
        found.get("active_users", 0),
    )


def sums_of(db: Connection, kind: Kind) -> KindSums:
    """Returns what was done with one kind, and its largest categories."""
    total = db.execute(select(totals.c.value).where(totals.c.name == f"{kind}s")).scalar_one_or_none() or 0
    largest = select(categories.c.name, categories.c.entries).where(categories.c.kind == kind)
    largest = largest.order_by(categories.c.entries.desc(), categories.c.name).limit(SHOWN_CATEGORIES)
    now = int(time.time()) // HOUR
    week = select(hours.c.hour, hours.c.downloads).where(hours.c.kind == kind, hours.c.hour > now - 7 * 24)
    rows = db.execute(week).all()
    day = sum(number for hour, number in rows if hour > now - 24)
    by_category = {name: int(number) for name, number in db.execute(largest)}
    return KindSums(int(total), by_category, int(day), int(sum(number for _, number in rows)))


def _date(day: int) -> str:
    return str((datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day)).date())
