"""Changes the policy: one transaction for each change, by whoever was first, with what the audit trail has to know."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import msgspec

from drift_core.api import Identity, Services, Snapshot, Unavailable
from drift_rbac.auditing import audit_events
from drift_rbac.config import RbacConfig
from drift_rbac.directory import Difference, Directory, differences
from drift_rbac.entities import Organization
from drift_rbac.errors import Conflict, EntityInvalid
from drift_rbac.escalation import check_giving
from drift_rbac.policy import Policy
from drift_rbac.tables import Stale, read_directory, read_revision, write_differences

TRIES: Final = 20
"""How often a change is made anew because others were faster."""

Edit = Callable[[Policy], Directory]
"""Returns what the directory shall be; run in a thread, and again where somebody else has changed it meanwhile."""


class Editor:
    """Applies edits to the tables; ``snapshot`` is what decisions are made by."""

    def __init__(self, config: RbacConfig, services: Services) -> None:
        self._config = config
        self._records = services.records
        self._audit = services.audit
        self.snapshot = Snapshot(services.records, read_revision, self._load)

    async def policy(self) -> Policy:
        """Returns the policy as the tables have it now, also where another worker has just changed it."""
        await self.snapshot.refresh()
        return await self.snapshot.get()

    async def plan(self, edit: Edit, giver: Identity | None) -> tuple[Policy, list[Difference]]:
        """Returns the policy that an edit starts from, and what it would change; raises as `change` does."""
        policy = await self.policy()
        return policy, await asyncio.to_thread(self._differences, policy, edit, giver)

    async def change(self, edit: Edit, actor: Identity | None, *, trusted: bool = False) -> list[Difference]:
        """Applies an edit and returns what it changed; the next decision of this process knows it.

        Raises what the edit does; `Denied` where it gives more than the actor has, unless he is trusted;
        `EntityInvalid` or `Conflict` where the result does not hang together, or nobody would be left who may change
        it; `Unavailable` where others are always faster.
        """
        for _ in range(TRIES):
            policy, found = await self.plan(edit, None if trusted else actor)
            if not found:
                return found
            try:
                await self._records.write(partial(self._write, policy.revision, found, actor))
            except Stale:
                continue
            await self.snapshot.refresh()
            return found
        raise Unavailable("the policy is being changed by others all the time")

    def _load(self, db: Any) -> Policy:
        revision, directory = read_directory(db)
        return Policy(directory, self._config, revision)

    def _differences(self, policy: Policy, edit: Edit, giver: Identity | None) -> list[Difference]:
        before = policy.directory
        after = edit(policy)
        found = differences(before, after)
        if found:
            after.check()
            for one in found:
                _check_promised(one)
            if not self._config.admins and before.admins() and not after.admins():
                raise Conflict("nobody would be left with the role admin")
            if giver is not None:
                check_giving(giver, policy, after, found)
        return [_dated(one) for one in found]

    def _write(self, revision: int, found: Sequence[Difference], actor: Identity | None, db: Any) -> None:
        write_differences(db, revision, found)
        for difference in found:
            for event in audit_events(difference, actor):
                self._audit.record(db, event)


def _check_promised(difference: Difference) -> None:
    """Raises `EntityInvalid` where an organization is to ask for what Drift cannot see, so that nobody relies on it."""
    before, after = difference.before, difference.after
    if not isinstance(after, Organization) or not after.settings.require_2fa:
        return
    if isinstance(before, Organization) and before.settings.require_2fa:
        # From before this was refused: what else is changed of it has nothing to do with that.
        return
    raise EntityInvalid(
        f"organizations.{after.id}: settings.require_2fa cannot be true: Drift knows of no second factor, and would "
        "ask nobody for one; let people log in by a provider that does (auth.oidc), and leave basic out of auth.chain"
    )


def _dated(difference: Difference) -> Difference:
    """Adds when an entity was made or changed, where nobody has said it."""
    after = difference.after
    if after is None:
        return difference
    now = datetime.now(UTC)
    if after.created_at is None:
        known = None if difference.before is None else difference.before.created_at
        after = msgspec.structs.replace(after, created_at=known or now)
    if isinstance(after, Organization) and after.updated_at == getattr(difference.before, "updated_at", None):
        after = msgspec.structs.replace(after, updated_at=now)
    return msgspec.structs.replace(difference, after=after)
