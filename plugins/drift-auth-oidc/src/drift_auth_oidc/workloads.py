"""Exchanges the OpenID token of a CI job for a token of Drift's that may do a little, for a short time (RFC 8693)."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from msgspec import Struct

from drift_auth_oidc.config import WorkloadConfig, WorkloadRule
from drift_auth_oidc.grants import Grant, Grants
from drift_auth_oidc.issuer import Issuer, issuer_of
from drift_auth_oidc.person import Known, Person
from drift_core.api import Scope, Unauthorized

SOURCE = "workload"
"""The source of a job's identity, and what its name begins with."""


class Workload(Struct, frozen=True):
    """The jobs of one issuer."""

    config: WorkloadConfig
    issuer: Issuer


class Workloads:
    """Every issuer of jobs that the configuration trusts."""

    def __init__(self, workloads: Sequence[Workload], grants: Grants) -> None:
        self._workloads = {workload.config.issuer: workload for workload in workloads}
        self._grants = grants

    async def exchange(self, token: str) -> tuple[str, Grant]:
        """Returns a job's token and its grant.

        Raises:
            Unauthorized: the job's token is not good, or fits no rule.
            Unavailable: see `Issuer.verify`.
        """
        workload = self._workloads.get(issuer_of(token) or "")
        if workload is None:
            raise Unauthorized("the token is of an issuer that is not trusted")
        claims = await workload.issuer.verify(token, workload.config.audience, party=False)
        rule = matching(workload.config.rules, claims)
        if rule is None:
            raise Unauthorized("no rule fits the token", username=str(claims["sub"]))
        person = Person(
            provider=SOURCE,
            subject=str(claims["sub"])[:255],
            name=f"{SOURCE}:{rule.name}",
            roles=rule.roles,
            scopes=tuple(scope for written in rule.scopes for scope in parse_scope(written)),
        )
        return await self._grants.issue("workload", Known(person), workload.config.max_seconds, str(claims["sub"]))


def matching(rules: Sequence[WorkloadRule], claims: Mapping[str, Any]) -> WorkloadRule | None:
    """Returns the first rule whose claims all fit, or None."""
    return next(
        (rule for rule in rules if all(_fits(claims.get(name), glob) for name, glob in rule.claims.items())), None
    )


def _fits(value: Any, pattern: str) -> bool:
    if isinstance(value, bool):
        return _matches(str(value).lower(), pattern)
    if isinstance(value, str | int):
        return _matches(str(value), pattern)
    if isinstance(value, list):
        elements: list[Any] = [*value]  # pyright: ignore[reportUnknownArgumentType]
        return any(_fits(element, pattern) for element in elements if isinstance(element, str))
    return False


def _matches(text: str, pattern: str) -> bool:
    # To fnmatch ? and [ are special, too.
    return fnmatchcase(text, pattern.replace("[", "[[]").replace("?", "[?]"))


def parse_scope(written: str) -> tuple[Scope, ...]:
    """Returns the rights of ``kind:name:action,action``; a name may have colons itself."""
    kind, _, rest = written.partition(":")
    name, _, actions = rest.rpartition(":")
    return tuple(Scope(kind, name, action) for action in actions.split(","))
