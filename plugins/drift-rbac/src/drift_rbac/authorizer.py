"""The opened policy: decides, says what may be seen, guards tags, and answers the management routes."""

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from drift_core.api import (
    Action,
    AuditEvent,
    Authorizer,
    Change,
    Denied,
    Gate,
    Identity,
    Scope,
    Services,
    StartError,
    SupportsRoutes,
    SupportsVisibility,
    Verdict,
    Visible,
    asking,
    pages,
)
from drift_rbac.builtin import BUILT_IN
from drift_rbac.conditions import zone
from drift_rbac.config import RbacConfig
from drift_rbac.counting import DecisionCounters
from drift_rbac.editing import Editor
from drift_rbac.needs import LISTS
from drift_rbac.policy import Policy

RIGHTS: Final[Mapping[Action, str]] = {
    "manifest.pull": "pull",
    "manifest.push": "push",
    "manifest.delete": "delete",
    "tag.delete": "delete",
}
"""The action of the scope that each gated action needs."""

UNTOLD: Final = frozenset({"pull", "push"})
"""Actions that the core tells the audit trail of by itself."""


class Rbac:
    """Decides by a policy in memory, which is never more than a moment older than the tables."""

    name = "rbac"
    gated: Collection[Action] = tuple(RIGHTS)

    def __init__(self, config: RbacConfig, services: Services, metrics: DecisionCounters) -> None:
        self.config = config
        self.editor = Editor(config, services)
        self._services = services
        self._snapshot = self.editor.snapshot
        self._metrics = metrics

    async def policy(self) -> Policy:
        """Returns the policy as it is now."""
        return await self._snapshot.get()

    async def decide(self, identity: Identity | None, scopes: Sequence[Scope]) -> Sequence[Verdict]:
        """See `Authorizer.decide`; True by the first role that allows it, False outside one's organizations."""
        policy = await self._snapshot.get()
        holder = None if identity is None else policy.holder(identity)
        judge = policy.judge
        verdicts = [judge(holder, scope).verdict for scope in scopes]
        self._metrics.count(policy, verdicts)
        if identity is not None and self.config.audit_authorization_decisions:
            for place, scope in enumerate(scopes):
                if scope.action not in UNTOLD and verdicts[place].allowed and scope not in LISTS and asking():
                    await self._tell(identity, scope, verdicts[place])
        return verdicts

    async def visible(self, identity: Identity | None) -> Visible:
        """See `SupportsVisibility.visible`."""
        return (await self._snapshot.get()).visible(identity)

    async def admit(self, change: Change) -> None:
        """Refuses a tag that no permission of the sender fits; see `Gate.admit`.

        A manifest that is deleted takes its tags with it, each of which has to be allowed. Says nothing where there is
        no tag, or where the sender may do this for another reason than a role.
        """
        policy = await self._snapshot.get()
        if not policy.has_tag_conditions or not change.tags or change.identity is None:
            return
        holder = policy.holder(change.identity)
        scope = Scope("repository", change.repository, RIGHTS[change.action])
        if policy.judge(holder, scope).grant is None:
            return
        refused = [tag for tag in change.tags if not policy.judge(holder, scope, tag=tag).verdict.allowed]
        if refused:
            message = f"{change.identity.name} may not {scope.action} the tag {refused[0]} of {change.repository}"
            raise Denied(message, tags=refused)

    def routes(self) -> Sequence[Any]:
        """See `SupportsRoutes`."""
        # What a command does not need.
        from drift_rbac.routes import routes  # noqa: PLC0415

        return routes(self.editor, self._services.access)

    def pages(self) -> Sequence[pages.Page]:
        """See `SupportsPages`."""
        # What a command does not need.
        from drift_rbac.pages import pages_over  # noqa: PLC0415

        return pages_over(self.editor, self._services.access)

    async def _tell(self, identity: Identity, scope: Scope, verdict: Verdict) -> None:
        await self._services.audit.note(
            AuditEvent(
                type="PermissionGranted",
                severity="debug",
                reason=verdict.reason,
                identity=identity,
                resource_type=scope.kind.capitalize(),
                resource_id=scope.name,
                parameters={"scopes": [str(scope)]},
            )
        )


@asynccontextmanager
async def open_authorizer(config: RbacConfig, services: Services) -> AsyncGenerator[Rbac, None]:
    """Opens the policy. A default role that is not there is a warning: it may be made later.

    Raises `StartError` for a time zone that is not known.
    """
    try:
        zone(config.timezone)
    except ValueError as error:
        message = f"rbac.timezone: {error}"
        raise StartError(message) from error
    counters = DecisionCounters(services.metrics)
    rbac = Rbac(config, services, counters)
    policy = await rbac.policy()
    if config.default_role and policy.directory.find_role(config.default_role) is None:
        services.log.warning(
            "rbac.default_role is no role, so that it allows nothing",
            role=config.default_role,
            roles=sorted({*BUILT_IN, *policy.directory.roles}),
        )
    promising = sorted(one.id for one in policy.directory.organizations.values() if one.settings.require_2fa)
    if promising:
        services.log.warning(
            "organizations say require_2fa, which nothing enforces: let people log in by a provider that asks for a "
            "second factor, and set it to false",
            organizations=promising[:100],
        )
    yield rbac


_: tuple[type[Authorizer], type[SupportsVisibility], type[SupportsRoutes], type[Gate]] = (Rbac, Rbac, Rbac, Rbac)
