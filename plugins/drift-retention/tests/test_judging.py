"""What holds for all rules and tags: more rules keep more, counts are exact, and no order of the tags matters."""

from typing import Any

from drift_retention.conditions import Pulls
from drift_retention.config import RetentionConfig
from drift_retention.judging import Judge
from drift_retention.versions import version_of
from hypothesis import given
from hypothesis import strategies as st
from msgspec import convert

from drift_core.api import Digest, Tag

DAY = 86_400.0
NOW = 1_800_000_000.0

names = st.one_of(
    st.from_regex(r"[a-z][a-z0-9._-]{0,3}", fullmatch=True),
    st.from_regex(r"v?[0-2]\.[0-2]\.[0-2](-(rc|alpha)(\.[0-9])?)?", fullmatch=True),
)
times = st.integers(0, 60).map(lambda days: NOW - days * DAY)
tags = st.lists(
    st.builds(Tag, names, st.just(Digest.of(b"")), times, times), max_size=12, unique_by=lambda tag: tag.name
)
durations = st.integers(1, 60).map(lambda days: f"{days}d")
rules = st.fixed_dictionaries(
    {},
    optional={
        "tags": st.sampled_from([["v*"], ["a*", "b*"], ["*"]]),
        "pattern": st.sampled_from(["v.*", "[a-m].*", ".*[0-4]"]),
        "semver": st.sampled_from(["*", ">=1", ">=0.1, <2", ">=1.0.0-0", "=1.1.1"]),
        "newest": st.integers(1, 5),
        "highest": st.integers(1, 5),
        "pushed_within": durations,
        "pulled_within": durations,
    },
)
pulls = st.builds(Pulls, st.one_of(st.none(), times), st.dictionaries(names, times, max_size=5))
keeps = st.lists(rules, min_size=1, max_size=4)


def kept(keep: list[dict[str, Any]], found: list[Tag], pulled: Pulls, min_age_days: float = 0) -> set[str]:
    config = convert({"keep": keep, "min_age_days": min_age_days}, RetentionConfig)
    judged = Judge(config).judge("app", found, pulled, NOW)
    assert [one.tag for one in judged] == sorted(tag.name for tag in found)
    return {one.tag for one in judged if one.kept}


@given(keeps, rules, tags, pulls)
def test_another_rule_drops_nothing_more(
    keep: list[dict[str, Any]], rule: dict[str, Any], found: list[Tag], pulled: Pulls
) -> None:
    before = kept(keep, found, pulled)
    assert before <= kept([*keep, rule], found, pulled)
    assert kept([*keep, rule], found, pulled) == before | kept([rule], found, pulled)


@given(st.integers(1, 6), tags)
def test_newest_keeps_its_number_and_none_that_is_older_than_one_it_drops(count: int, found: list[Tag]) -> None:
    left = kept([{"newest": count}], found, Pulls())
    assert len(left) == min(count, len(found))
    times = {tag.name: max(tag.pushed_at, tag.tagged_at) for tag in found}
    assert all(times[one] >= times[other] for one in left for other in times.keys() - left)


@given(st.integers(1, 6), tags)
def test_highest_keeps_its_number_and_none_that_is_lower_than_one_it_drops(count: int, found: list[Tag]) -> None:
    versions = {tag.name: version for tag in found if (version := version_of(tag.name)) is not None}
    left = kept([{"highest": count}], found, Pulls())
    assert len(left) == min(count, len(versions))
    assert all(versions[one] >= versions[other] for one in left for other in versions.keys() - left)


@given(keeps, tags, pulls, st.data())
def test_the_order_of_tags_and_rules_does_not_matter(
    keep: list[dict[str, Any]], found: list[Tag], pulled: Pulls, data: st.DataObject
) -> None:
    again = data.draw(st.permutations(found))
    assert kept(data.draw(st.permutations(keep)), again, pulled) == kept(keep, found, pulled)


@given(keeps, tags, pulls, st.integers(0, 60))
def test_nothing_young_is_dropped(keep: list[dict[str, Any]], found: list[Tag], pulled: Pulls, days: int) -> None:
    left = kept(keep, found, pulled, days)
    assert {tag.name for tag in found if NOW - max(tag.pushed_at, tag.tagged_at) < days * DAY} <= left


@given(keeps, tags, pulls)
def test_every_rule_says_something_of_every_tag(keep: list[dict[str, Any]], found: list[Tag], pulled: Pulls) -> None:
    config = convert({"keep": keep}, RetentionConfig)
    for one in Judge(config).judge("app", found, pulled, NOW):
        assert [finding.rule.split(" ")[0] for finding in one.findings] == [
            *(f"keep[{place}]" for place in range(len(keep))),
            "min_age_days=7",
        ]
        assert all(finding.reason for finding in one.findings)
        assert one.kept == any(finding.keeps for finding in one.findings)


def test_a_pattern_of_exponential_time_is_none() -> None:
    found = [Tag("a" * 127 + str(number), Digest.of(b""), 0.0, 0.0) for number in range(10)]
    assert kept([{"pattern": "(a+)+b"}], found, Pulls()) == set()
