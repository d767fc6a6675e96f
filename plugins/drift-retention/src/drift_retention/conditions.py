"""The conditions of a rule: what each says of the tags that match the rule, and why."""

from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct
from semver import Version

from drift_core.api import Tag
from drift_retention.ages import age_of, seconds_of
from drift_retention.config import Rule
from drift_retention.versions import version_of


class Pulls(Struct, frozen=True):
    """When tags and digests of a repository were last pulled, and since when that is known; seconds since the epoch.

    ``since`` None is not known at all.
    """

    since: float | None = None
    at: Mapping[str, float] = {}

    def last(self, tag: Tag) -> float | None:
        """Returns when a tag, or what it names, was last pulled; None for never as far as is known."""
        return max((self.at[key] for key in (tag.name, tag.digest) if key in self.at), default=None)


Verdicts = Sequence[tuple[bool, str]]
"""For each tag that was given, in order, whether a condition holds, and why."""

Holds = Callable[[Sequence[Tag], Pulls, float], Verdicts]
"""Judges the tags that match a rule; the last is this moment, in seconds since the epoch."""


class Condition(Struct, frozen=True):
    """One condition, and how it is written."""

    text: str
    holds: Holds


def conditions_of(rule: Rule) -> list[Condition]:
    """Returns the conditions of a rule, all of which have to hold for a tag to be kept."""
    found: list[Condition] = []
    if rule.newest is not None:
        found.append(Condition(f"newest={rule.newest}", _newest(rule.newest)))
    if rule.highest is not None:
        found.append(Condition(f"highest={rule.highest}", _highest(rule.highest)))
    if rule.pushed_within is not None:
        found.append(Condition(f"pushed_within={rule.pushed_within}", _pushed_within(rule.pushed_within)))
    if rule.pulled_within is not None:
        found.append(Condition(f"pulled_within={rule.pulled_within}", _pulled_within(rule.pulled_within)))
    return found


def pushed_at(tag: Tag) -> float:
    """Returns when a tag came to name what it names: an old image that is tagged anew is a new tag."""
    return max(tag.pushed_at, tag.tagged_at)


def _newest(count: int) -> Holds:
    def judge(tags: Sequence[Tag], _: Pulls, __: float) -> Verdicts:
        ranked = sorted(tags, key=lambda tag: (pushed_at(tag), tag.name), reverse=True)
        return _by_rank(tags, ranked, count)

    return judge


def _highest(count: int) -> Holds:
    def judge(tags: Sequence[Tag], _: Pulls, __: float) -> Verdicts:
        versions: dict[str, Version] = {
            tag.name: version for tag in tags if (version := version_of(tag.name)) is not None
        }
        ranked = sorted(
            (tag for tag in tags if tag.name in versions),
            key=lambda tag: (versions[tag.name], tag.name),
            reverse=True,
        )
        return _by_rank(tags, ranked, count)

    return judge


def _by_rank(tags: Sequence[Tag], ranked: Sequence[Tag], count: int) -> Verdicts:
    ranks = {tag.name: rank for rank, tag in enumerate(ranked, 1)}
    return [
        (ranks[tag.name] <= count, f"{_ordinal(ranks[tag.name])} of {len(ranked)}")
        if tag.name in ranks
        else (False, "not a version")
        for tag in tags
    ]


def _pushed_within(duration: str) -> Holds:
    seconds = seconds_of(duration)

    def judge(tags: Sequence[Tag], _: Pulls, now: float) -> Verdicts:
        return [(now - pushed_at(tag) <= seconds, f"pushed {age_of(pushed_at(tag), now)}") for tag in tags]

    return judge


def _pulled_within(duration: str) -> Holds:
    seconds = seconds_of(duration)

    def judge(tags: Sequence[Tag], pulls: Pulls, now: float) -> Verdicts:
        since = now if pulls.since is None else pulls.since
        found: list[tuple[bool, str]] = []
        for tag in tags:
            last = pulls.last(tag)
            # Who might have pulled before that is not known.
            counts = max(since, pushed_at(tag), last or 0.0)
            if last is not None and last == counts:
                reason = f"pulled {age_of(last, now)}"
            elif counts == pushed_at(tag):
                reason = f"not pulled since it was pushed {age_of(counts, now)}"
            else:
                reason = f"pulls are recorded since {age_of(counts, now)}"
            found.append((now - counts <= seconds, reason))
        return found

    return judge


def _ordinal(number: int) -> str:
    teen = number % 100 in (11, 12, 13)
    return f"{number}{'th' if teen else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"
