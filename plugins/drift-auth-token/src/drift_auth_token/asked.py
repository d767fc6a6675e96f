"""What the clients of the Docker token protocol ask for, and what of it they get: ``repository:team/app:pull,push``."""

import re
from collections.abc import Iterable, Sequence

from msgspec import Struct

from drift_core.api import Access, Identity, Scope

MAX_SCOPES = 100
"""Most resources that one token is made for: no client asks for more than the repositories of one copy."""

MAX_NAME = 255
MAX_ACTIONS = 8
KINDS = {"repository": frozenset({"pull", "push", "delete"}), "registry": frozenset[str]()}
"""What a token of the protocol can be for, with the actions that ``*`` is short for."""

_NAME = re.compile(r"[A-Za-z0-9._/:*-]+")
_ACTION = re.compile(r"\*|[a-z]+")


class Resource(Struct, frozen=True):
    """One entry of the claim ``access`` (distribution, "Token Authentication Implementation")."""

    type: str
    name: str
    actions: tuple[str, ...]

    def scopes(self) -> list[Scope]:
        """Returns its rights."""
        return [Scope(self.type, self.name, action) for action in self.actions]

    def __str__(self) -> str:
        return f"{self.type}:{self.name}:{','.join(self.actions)}"


class TooManyScopes(Exception):
    """More than `MAX_SCOPES` resources are asked for."""


def parse(values: Iterable[str]) -> list[Resource]:
    """Returns what the parameters ``scope`` ask for, which may be repeated and hold several, between spaces.

    What is no scope, and what no token can be for, is left out: it is not granted. Raises `TooManyScopes`.
    """
    found: dict[tuple[str, str], dict[str, None]] = {}
    for text in " ".join(values).split():
        # A name may hold a colon, of a port.
        kind, _, rest = text.partition(":")
        name, _, actions = rest.rpartition(":")
        kind = re.sub(r"\([a-z]+\)$", "", kind)
        if kind not in KINDS or len(name) > MAX_NAME or _NAME.fullmatch(name) is None:
            continue
        wanted = found.setdefault((kind, name), {})
        wanted.update((action, None) for action in actions.split(",")[:MAX_ACTIONS] if _ACTION.fullmatch(action))
        if len(found) > MAX_SCOPES:
            raise TooManyScopes
    return [Resource(kind, name, tuple(actions)) for (kind, name), actions in found.items()]


async def granted(access: Access, identity: Identity | None, asked: Sequence[Resource]) -> list[Resource]:
    """Returns what of ``asked`` somebody may have: less is no error. All of it is one question to the policies."""
    every = [(resource, action) for resource in asked for action in _meant(resource)]
    scopes = [Scope(resource.type, resource.name, action) for resource, action in every]
    verdicts = await access.verdicts(identity, scopes) if scopes else []
    allowed = {scope for scope, verdict in zip(scopes, verdicts, strict=True) if verdict}
    found: list[Resource] = []
    for resource in asked:
        got = [action for action in _meant(resource) if Scope(resource.type, resource.name, action) in allowed]
        actions = ("*",) if "*" in got else tuple(got)
        found += [Resource(resource.type, resource.name, actions)] if actions else []
    return found


def wanted(scopes: Sequence[Scope]) -> str:
    """Returns the parameter ``scope`` of a challenge: who is to push asks for pull, too, as every client does.

    A name may be what stands in a path: what could end the parameter, or be no header, is left out.
    """
    found: dict[tuple[str, str], dict[str, None]] = {}
    for scope in scopes:
        if not all(_NAME.fullmatch(part) for part in (scope.kind, scope.name, scope.action)):
            continue
        actions = found.setdefault((scope.kind, scope.name), {})
        actions.update(dict.fromkeys(("pull", "push") if scope.action == "push" else (scope.action,)))
    return " ".join(f"{kind}:{name}:{','.join(actions)}" for (kind, name), actions in found.items())


def _meant(resource: Resource) -> list[str]:
    """Returns the actions that are asked for; who asks for all gets those that he may have."""
    all_of = sorted(KINDS[resource.type]) if "*" in resource.actions else []
    return list(dict.fromkeys((*resource.actions, *all_of)))
