"""The keys of ``[retention]``: which tags are kept."""

from collections.abc import Callable
from typing import Annotated

from msgspec import Meta

from drift_core.api import Struct
from drift_retention.ages import seconds_of

Glob = Annotated[str, Meta(min_length=1, max_length=255)]
Count = Annotated[int, Meta(ge=1)]


class Rule(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """One entry of ``keep``: a tag that matches, and for which every condition holds, is kept.

    A tag matches if it matches one of the globs ``tags``, the regular expression ``pattern`` (RE2) as a whole, and the
    range ``semver``, of those that are given. ``newest`` and ``highest`` are how many of the tags that match, by time
    and by version; ``pushed_within`` and ``pulled_within`` are durations such as ``12h``, ``30d``, ``6w``.
    """

    tags: Annotated[tuple[Glob, ...], Meta(min_length=1)] = ("*",)
    pattern: Annotated[str, Meta(min_length=1, max_length=500)] | None = None
    semver: Annotated[str, Meta(min_length=1, max_length=500)] | None = None
    newest: Count | None = None
    highest: Count | None = None
    pushed_within: str | None = None
    pulled_within: str | None = None

    def __post_init__(self) -> None:
        _check("pattern", self.pattern, _read_pattern)
        _check("semver", self.semver, _read_range)
        _check("pushed_within", self.pushed_within, seconds_of)
        _check("pulled_within", self.pulled_within, seconds_of)


Keep = Annotated[tuple[Rule, ...], Meta(min_length=1)]


class Policy(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """One entry of ``policies``: the rules of the repositories whose names match one of the globs."""

    repositories: Annotated[tuple[Glob, ...], Meta(min_length=1)]
    keep: Keep


class RetentionConfig(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """``[retention]``: which tags are kept, and how often the others are removed.

    The first policy that matches a repository has its rules; ``keep`` has those of repositories that none matches, and
    None keeps everything there. Tags that match ``protected``, and what was pushed or tagged within ``min_age_days``,
    are always kept. With ``dry_run`` the server only logs what it would remove.
    """

    enabled: bool = False
    interval_hours: Annotated[float, Meta(gt=0)] = 24.0
    dry_run: bool = False
    min_age_days: Annotated[float, Meta(ge=0)] = 7.0
    protected: tuple[Glob, ...] = ()
    keep: Keep | None = None
    policies: tuple[Policy, ...] = ()

    @property
    def needs_pulls(self) -> bool:
        """Whether a rule asks when a tag was last pulled."""
        rules = [*(self.keep or ()), *(rule for policy in self.policies for rule in policy.keep)]
        return any(rule.pulled_within is not None for rule in rules)


def _check(key: str, text: str | None, read: Callable[[str], object]) -> None:
    if text is None:
        return
    try:
        read(text)
    except ValueError as error:
        message = f"{key}: {error}"
        raise ValueError(message) from error


def _read_pattern(text: str) -> None:
    # A server without such a rule needs no library for it.
    from drift_retention.patterns import matching  # noqa: PLC0415

    matching(text)


def _read_range(text: str) -> None:
    from drift_retention.versions import Range  # noqa: PLC0415

    Range.parse(text)
