"""The keys of ``[retention]``: what is wrong is refused by its path."""

import sys
from typing import Any

import pytest
from drift_retention.config import RetentionConfig

from drift_core.api import load
from drift_core.config import ConfigError


def read(table: dict[str, Any]) -> RetentionConfig:
    return load({"retention": table}, {}, ()).section("retention", RetentionConfig)


def of(**rule: Any) -> dict[str, Any]:
    return {"policies": [{"repositories": ["a"], "keep": [{}]}, {"repositories": ["b"], "keep": [{}, rule]}]}


def test_the_defaults() -> None:
    config = read({})
    assert (config.enabled, config.dry_run, config.interval_hours, config.min_age_days) == (False, False, 24, 7)
    assert (config.protected, config.keep, config.policies, config.needs_pulls) == ((), None, (), False)


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ({"pattern": "("}, r"pattern: '\(': missing \)"),
        ({"pattern": r"(a)\1"}, "pattern: .*invalid escape"),
        ({"pattern": "(?=a)"}, "pattern"),
        ({"pattern": "((a{100}){100}){100}"}, "pattern"),
        ({"pattern": "a" * 501}, "length <= 500"),
        ({"pattern": ""}, "length >= 1"),
        ({"semver": "1.2.3"}, "semver: '1.2.3' is no bound"),
        ({"semver": "^1.2"}, "semver"),
        ({"semver": ">=1,"}, "semver: '' is no bound"),
        ({"semver": ">=1.2 <3"}, "semver"),
        ({"semver": "<=1.2"}, "semver: '<=1.2' needs all three numbers"),
        ({"semver": ">1"}, "needs all three numbers"),
        ({"semver": "=1.2-rc.1"}, "needs all three numbers"),
        ({"semver": ">=01.2"}, "'01.2' is no version"),
        ({"semver": ">=1.2.3.4"}, "is no version"),
        ({"pushed_within": "30"}, "pushed_within: '30' is no duration"),
        ({"pushed_within": "0d"}, "pushed_within"),
        ({"pushed_within": "1m"}, "pushed_within"),
        ({"pulled_within": "105w"}, "pulled_within: '105w' is longer than 104w"),
        ({"pulled_within": "-1d"}, "pulled_within"),
        ({"newest": 0}, ">= 1"),
        ({"highest": -1}, ">= 1"),
        ({"tags": []}, "length >= 1"),
        ({"tags": [""]}, "length >= 1"),
        ({"oldest": 3}, "oldest"),
    ],
)
def test_a_bad_rule_is_refused_by_its_path(rule: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as refused:
        read(of(**rule))
    assert refused.value.path.startswith("retention.policies[1].keep[1]")


@pytest.mark.parametrize(
    ("table", "path"),
    [
        ({"keep": []}, "retention.keep"),
        ({"policies": [{"repositories": [], "keep": [{}]}]}, "retention.policies[0].repositories"),
        ({"policies": [{"repositories": ["a"], "keep": []}]}, "retention.policies[0].keep"),
        ({"policies": [{"repositories": ["a"]}]}, "retention.policies[0].keep"),
        ({"interval_hours": 0}, "retention.interval_hours"),
        ({"min_age_days": -1}, "retention.min_age_days"),
    ],
)
def test_a_bad_value_is_refused_by_its_path(table: dict[str, Any], path: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read(table)
    assert refused.value.path == path


@pytest.mark.parametrize(
    ("table", "needed"),
    [
        ({"keep": [{"newest": 1}, {"pulled_within": "1d"}]}, True),
        (of(pulled_within="1d"), True),
        (of(pushed_within="1d"), False),
    ],
)
def test_pulls_are_needed_where_a_rule_asks_for_them(table: dict[str, Any], needed: bool) -> None:
    assert read(table).needs_pulls == needed


def test_re2_writes_nothing_beside_what_is_raised(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError):
        read(of(pattern="("))
    sys.stderr.flush()
    assert capfd.readouterr().err == ""
