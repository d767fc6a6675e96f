"""Decides before every request who asks, and whether that is allowed."""

from collections.abc import Awaitable, Callable, Sequence

import msgspec

from drift_core.asking import asking
from drift_core.errors import Denied, Unauthorized, Unavailable
from drift_core.model import AuditEvent, Identity, Owner, Scope, Visible
from drift_core.protocols.access import (
    Authenticator,
    Authorizer,
    Credentials,
    SupportsAccounts,
    SupportsStanding,
    SupportsVisibility,
)
from drift_core.trail import Trail

Refusing = Callable[[], Awaitable[None]]


async def nothing() -> None:
    """Does nothing."""


class Guard:
    """The configured authenticators, in order, and policies. Without authenticators everything is allowed.

    It is lent to plugins before they are all open: until `arm` was called it answers nobody.
    """

    def __init__(self, trail: Trail) -> None:
        self.trail = trail
        self._armed = False
        self._authenticators: tuple[Authenticator, ...] = ()
        self._authorizers: tuple[Authorizer, ...] = ()
        self._foreseeing: tuple[SupportsVisibility, ...] = ()
        self._keeping: tuple[SupportsAccounts, ...] = ()

    def arm(self, authenticators: Sequence[Authenticator], authorizers: Sequence[Authorizer]) -> "Guard":
        """Begins to decide by these, and returns the guard."""
        self._authenticators, self._authorizers = tuple(authenticators), tuple(authorizers)
        self._foreseeing = tuple(policy for policy in self._authorizers if isinstance(policy, SupportsVisibility))
        self._keeping = tuple(one for one in self._authenticators if isinstance(one, SupportsAccounts))
        self._armed = True
        return self

    @property
    def open(self) -> bool:
        """Says whether nobody has to log in."""
        return self._armed and not self._authenticators

    @property
    def schemes(self) -> tuple[str, ...]:
        """By which schemes of HTTP clients are asked to log in, such as ``basic`` (RFC 9110 section 11.1)."""
        return tuple(dict.fromkeys(challenge.partition(" ")[0].lower() for challenge in self._challenges(())))

    async def admit(
        self, credentials: Credentials, scopes: Sequence[Scope], refusing: Refusing = nothing
    ) -> Identity | None:
        """Returns who asks, None for nobody in particular, if all of ``scopes`` are allowed.

        ``refusing`` is called before bad credentials, or what an identity may not do, are refused and recorded.

        Raises:
            Unauthorized: credentials are missing, bad, or not made for this; with every challenge.
            Denied: the identity may not do this.
        """
        if self.open:
            return None
        identity = await self._identify(credentials, scopes, refusing)
        if identity is not None and not self._authorizers and all(_reaches(identity, scope) for scope in scopes):
            return identity
        refused = [
            scope for scope, allowed in zip(scopes, await self.verdicts(identity, scopes), strict=True) if not allowed
        ]
        if identity is None and (refused or not scopes):
            raise Unauthorized(challenges=self._challenges(scopes))
        if refused and identity is not None:
            await refusing()
            await self._refuse(identity, credentials, scopes, refused)
        return identity

    async def identify(self, credentials: Credentials) -> Identity | None:
        """Returns who asks, None for nobody in particular. Raises `Unauthorized` for bad credentials."""
        return await self._identify(credentials, (), nothing)

    async def stands(self, identity: Identity, credentials: Credentials) -> bool:
        """Returns whether somebody who has logged in before may still do so; who is known to nobody stands."""
        vouching = [one for one in self._authenticators if isinstance(one, SupportsStanding)]
        said = [await one.stands(identity, credentials) for one in vouching]
        known = [one for one in said if one is not None]
        return any(known) or not known

    async def owner_stands(self, owner: Owner) -> bool:
        """See `Access.owner_stands`: whoever keeps the account ends what was given out for it."""
        if not self._armed:
            raise Unavailable("the server is still starting")
        for one in self._keeping:
            said = await one.keeps(owner)
            # A 0 of a database would be no refusal otherwise.
            if said is not None and said is not True:
                return False
        return True

    async def may(self, identity: Identity | None, scope: Scope) -> bool:
        """Returns whether somebody who was admitted may do something else as well.

        Raises:
            Unauthorized: they may, but not by a token like this: clients then ask for one that was made for it.
        """
        if (await self.verdicts(identity, [scope]))[0]:
            return True
        credentials = asking()
        if identity is not None and credentials is not None:
            await self._ask_for_more(identity, credentials, [scope], [scope])
        return False

    async def verdicts(self, identity: Identity | None, scopes: Sequence[Scope]) -> list[bool]:
        """Returns for each scope whether ``identity`` may use it: any deny refuses, else any allow allows."""
        if self.open:
            return [True] * len(scopes)
        if not self._armed:
            raise Unavailable("the server is still starting")
        within = [_reaches(identity, scope) for scope in scopes]
        if not self._authorizers:
            return [identity is not None and inside for inside in within]
        answers = [await policy.decide(identity, scopes) for policy in self._authorizers]
        values: list[object] = [verdict.allowed for said in answers for verdict in said]
        # A 0 of a database would be no deny, and a "False" an allow.
        strange = [value for value in values if not isinstance(value, bool | None)]
        if strange:
            message = f"a policy answered {strange[0]!r}, which is neither True, False nor None"
            raise TypeError(message)
        by_scope = zip(within, *answers, strict=True)
        return [
            inside
            and all(verdict.allowed is not False for verdict in said)
            and any(verdict.allowed for verdict in said)
            for inside, *said in by_scope
        ]

    async def visible(self, identity: Identity | None) -> list[Visible] | None:
        """Returns what each policy lets ``identity`` pull; None where everything, or only the verdicts say it."""
        if not self._authorizers or len(self._foreseeing) < len(self._authorizers):
            return None
        return [await policy.visible(identity) for policy in self._foreseeing]

    async def _identify(self, credentials: Credentials, scopes: Sequence[Scope], refusing: Refusing) -> Identity | None:
        if not self._armed:
            raise Unavailable("the server is still starting")
        for authenticator in self._authenticators:
            try:
                identity = await authenticator.authenticate(credentials)
            except Unauthorized as error:
                await refusing()
                await self.trail.note(
                    AuditEvent(
                        type="AuthenticationFailed",
                        severity="warning",
                        success=False,
                        reason=error.message,
                        username=error.username,
                    )
                )
                refusal = Unauthorized(error.message, self._challenges(scopes), **error.detail)
                raise refusal from error
            if identity is not None:
                return identity
        return None

    async def _refuse(
        self, identity: Identity, credentials: Credentials, scopes: Sequence[Scope], refused: Sequence[Scope]
    ) -> None:
        await self._ask_for_more(identity, credentials, scopes, refused)
        names = [str(scope) for scope in refused]
        await self.trail.note(
            AuditEvent(
                type="PermissionDenied",
                severity="warning",
                success=False,
                reason=f"{identity.name} may not use {', '.join(names)}",
                identity=identity,
                resource_type=refused[0].kind.capitalize(),
                resource_id=refused[0].name,
                parameters={"scopes": names},
            )
        )
        raise Denied(scopes=names)

    async def _ask_for_more(
        self, identity: Identity, credentials: Credentials, scopes: Sequence[Scope], refused: Sequence[Scope]
    ) -> None:
        """Raises `Unauthorized` where not the person but the token may not (RFC 6750 section 3.1)."""
        if identity.scopes is not None and (credentials.authorization or "")[:7].lower() == "bearer ":
            unlimited = msgspec.structs.replace(identity, scopes=None)
            if all(await self.verdicts(unlimited, refused)):
                raise Unauthorized("the token was not made for this", self._challenges(scopes, "insufficient_scope"))

    def _challenges(self, scopes: Sequence[Scope], error: str = "") -> tuple[str, ...]:
        challenges = (authenticator.challenge(scopes) for authenticator in self._authenticators)
        return tuple(
            f'{challenge},error="{error}"' if error and challenge.lower().startswith("bearer ") else challenge
            for challenge in challenges
            if challenge
        )


def listing(identity: Identity | None) -> Identity | None:
    """Returns as whom the catalogue asks the policies.

    A credential for nothing but the registry, such as a token that was asked for the catalogue, shows what its owner
    may see; one for some repositories shows only these.
    """
    if identity is None or identity.scopes is None or any(scope.kind != "registry" for scope in identity.scopes):
        return identity
    return msgspec.structs.replace(identity, scopes=None)


def _reaches(identity: Identity | None, scope: Scope) -> bool:
    if identity is None or identity.scopes is None or scope in identity.scopes:
        return True
    return any(granted.covers(scope) for granted in identity.scopes)
