"""Decides which tags of a repository are kept, and says why; a pure function of tags, pulls and time."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from itertools import repeat

from msgspec import Struct

from drift_core.api import ALGORITHMS, Digest, Tag
from drift_retention.ages import DAY, age_of
from drift_retention.conditions import Condition, Pulls, Verdicts, conditions_of, pushed_at
from drift_retention.config import Policy, RetentionConfig, Rule
from drift_retention.patterns import matching
from drift_retention.versions import Range, version_of

_ABOUT = re.compile(
    "|".join(rf"{name}-[0-9a-f]{{{one.length}}}(\.(sig|att|sbom))?" for name, one in ALGORITHMS.items())
)
"""Tags that stand for a referrer: of the specification's "Referrers Tag Schema", and of cosign's artifacts."""


class Finding(Struct, frozen=True):
    """What one rule says of a tag, and why."""

    rule: str
    keeps: bool
    reason: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.reason}" if self.rule else self.reason


class Judged(Struct, frozen=True):
    """Whether a tag is kept, and what every rule says of it."""

    tag: str
    digest: Digest
    kept: bool
    findings: tuple[Finding, ...]

    @property
    def reason(self) -> str:
        """Returns what keeps the tag, or that nothing does."""
        return next((str(one) for one in self.findings if one.keeps), "no rule keeps it")


class Judge:
    """Judges by the rules of a configuration."""

    def __init__(self, config: RetentionConfig) -> None:
        self._config = config
        self._policies = [
            (policy, _compiled(f"policies[{place}].", policy.keep)) for place, policy in enumerate(config.policies)
        ]
        self._default = None if config.keep is None else _compiled("", config.keep)

    def has_rules(self, repository: str) -> bool:
        """Returns whether any tag of a repository could be dropped."""
        return self._rules(repository) is not None

    def judge(self, repository: str, tags: Iterable[Tag], pulls: Pulls, now: float) -> list[Judged]:
        """Returns for each tag of a repository, by name, whether it is kept and why; ``now`` in seconds.

        Of two tags that are as old, or as high, the one whose name comes later in binary order counts as newer, or
        higher, so that a count keeps exactly its number.
        """
        ordered = sorted(tags, key=lambda tag: tag.name)
        about = [tag for tag in ordered if _ABOUT.fullmatch(tag.name)]
        own = [tag for tag in ordered if not _ABOUT.fullmatch(tag.name)]
        rules = self._rules(repository)
        if rules is None:
            found = {tag.name: (Finding("", True, "no rules are for this repository"),) for tag in own}
        else:
            said = [rule.judge(own, pulls, now) for rule in rules]
            found = {
                tag.name: (
                    *self._protection(tag),
                    *(findings[place] for findings in said),
                    self._youth(tag, now),
                )
                for place, tag in enumerate(own)
            }
        found |= {tag.name: (Finding("", True, "stays as long as what it is about"),) for tag in about}
        return [
            Judged(tag.name, tag.digest, any(one.keeps for one in found[tag.name]), found[tag.name]) for tag in ordered
        ]

    def _rules(self, repository: str) -> "Sequence[_Compiled] | None":
        return next((rules for policy, rules in self._policies if _is_for(policy, repository)), self._default)

    def _protection(self, tag: Tag) -> Sequence[Finding]:
        glob = next((glob for glob in self._config.protected if fnmatchcase(tag.name, glob)), None)
        found = [] if glob is None else [Finding("protected", True, glob)]
        return found if tag.undeletable is None else [Finding("", True, tag.undeletable), *found]

    def _youth(self, tag: Tag, now: float) -> Finding:
        days = self._config.min_age_days
        young = now - pushed_at(tag) < days * DAY
        return Finding(f"min_age_days={days:g}", young, f"pushed {age_of(pushed_at(tag), now)}")


class _Compiled(Struct, frozen=True):
    """A rule that is ready: how it is written, what makes a tag match, and its conditions."""

    text: str
    matches: Sequence[Callable[[str], bool]]
    conditions: Sequence[Condition]

    def judge(self, tags: Sequence[Tag], pulls: Pulls, now: float) -> list[Finding]:
        """Returns what the rule says of each tag, in order."""
        matched = [all(match(tag.name) for match in self.matches) for tag in tags]
        chosen = [tag for tag, matches in zip(tags, matched, strict=True) if matches]
        verdicts: Iterator[Verdicts] = repeat(((True, "matches"),))
        if self.conditions:
            verdicts = zip(*(one.holds(chosen, pulls, now) for one in self.conditions), strict=True)
        return [
            self._finding(next(verdicts)) if matches else Finding(self.text, False, "does not match")
            for matches in matched
        ]

    def _finding(self, said: Verdicts) -> Finding:
        # Where one fails, that is why; that others hold would mislead.
        failed = [reason for holds, reason in said if not holds]
        return Finding(self.text, not failed, "; ".join(failed or [reason for _, reason in said]))


def _compiled(place: str, keep: Sequence[Rule]) -> list[_Compiled]:
    return [_compile(f"{place}keep[{number}]", rule) for number, rule in enumerate(keep)]


def _compile(place: str, rule: Rule) -> _Compiled:
    matches: list[Callable[[str], bool]] = []
    words = [place]
    if rule.tags != ("*",):
        matches.append(lambda tag: any(fnmatchcase(tag, glob) for glob in rule.tags))
        words.append(f"tags={','.join(rule.tags)}")
    if rule.pattern is not None:
        matches.append(matching(rule.pattern))
        words.append(f"pattern={rule.pattern}")
    if rule.semver is not None:
        within = Range.parse(rule.semver)
        matches.append(lambda tag: (version := version_of(tag)) is not None and version in within)
        words.append(f"semver={rule.semver}")
    conditions = conditions_of(rule)
    return _Compiled(" ".join([*words, *(one.text for one in conditions)]), matches, conditions)


def _is_for(policy: Policy, repository: str) -> bool:
    return any(fnmatchcase(repository, glob) for glob in policy.repositories)
