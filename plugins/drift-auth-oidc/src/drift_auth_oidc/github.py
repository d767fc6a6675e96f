"""Logs people in by GitHub, which speaks OAuth 2.0 and a REST API of its own instead of OpenID Connect."""

import asyncio
import re
from http import HTTPStatus
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from drift_auth_oidc.config import GitHubConfig
from drift_auth_oidc.fetching import Fetcher, RefusedError
from drift_auth_oidc.oauth import Attempt, Client, authorization_url, exchange
from drift_auth_oidc.openid import prefixed
from drift_auth_oidc.person import Known, Person
from drift_core.api import Denied, Unauthorized

T = TypeVar("T")

NEXT_PAGE = re.compile(r'<([^<>]+)>;\s*rel="next"')
MOST_PAGES = 20
"""Pages of 100 that are asked for; more organizations or teams than that nobody has."""


class User(Struct, frozen=True):
    """`GET /user`."""

    id: int
    login: str
    name: str | None = None
    avatar_url: str | None = None


class Email(Struct, frozen=True):
    """`GET /user/emails`."""

    email: str
    primary: bool
    verified: bool


class Organization(Struct, frozen=True):
    """`GET /user/orgs`."""

    login: str


class Team(Struct, frozen=True):
    """`GET /user/teams`."""

    slug: str
    organization: Organization


class GitHubProvider:
    """github.com, or an Enterprise Server; see `Provider` and `SupportsRecheck`. Names are compared in lower case."""

    name = "github"

    def __init__(self, config: GitHubConfig, fetcher: Fetcher) -> None:
        self.redirect_uri = config.redirect_uri
        self.recheck_seconds = config.cache_duration_minutes * 60
        self._config = config
        self._client = Client(config.client_id, config.client_secret, config.scopes)
        self._fetcher = fetcher
        self._organizations = _lower(config.allowed_organizations)
        self._teams = _lower(config.allowed_teams)
        self._users = _lower(config.allowed_users)

    async def begin(self, attempt: Attempt) -> str:
        """See `Provider`."""
        return authorization_url(f"{self._config.site}/login/oauth/authorize", self._client, attempt)

    async def finish(self, attempt: Attempt, code: str) -> Known:
        """See `Provider`."""
        endpoint = f"{self._config.site}/login/oauth/access_token"
        given = await exchange(self._fetcher, endpoint, self._client, attempt, code, {"client_secret_post"})
        return await self.recheck(given["access_token"])

    async def recheck(self, access_token: str) -> Known:
        """See `SupportsRecheck`."""
        document, _ = await self._get(f"{self._config.api}/user", access_token)
        user = _read(document, User)
        emails, organizations, teams = await asyncio.gather(
            self._all("/user/emails", access_token, list[Email]),
            self._all("/user/orgs", access_token, list[Organization]),
            self._all("/user/teams", access_token, list[Team]),
        )
        within = {organization.login.lower() for organization in organizations}
        of_teams = {f"{team.organization.login}/{team.slug}".lower() for team in teams}
        self._check(user.login.lower(), within, of_teams)
        email = next((email.email for email in emails if email.primary and email.verified), None)
        person = Person(
            provider=self.name,
            subject=str(user.id),
            name=prefixed(self.name, self._config.username_prefix, user.login.lower()),
            email=email,
            full_name=user.name,
            avatar_url=user.avatar_url,
            groups=tuple(sorted(within | of_teams)),
            roles=tuple(
                sorted({mapping.role for mapping in self._config.team_mappings if mapping.team.lower() in of_teams})
            ),
        )
        return Known(person, access_token)

    def _check(self, login: str, organizations: set[str], teams: set[str]) -> None:
        in_organization = not self._organizations.isdisjoint(organizations)
        in_team = not self._teams.isdisjoint(teams)
        if self._config.require_org_membership and not in_organization:
            raise Denied("you are in none of the organizations that may log in")
        if self._config.require_team_membership and not in_team:
            raise Denied("you are in none of the teams that may log in")
        if not (in_organization or in_team or login in self._users):
            raise Denied("you are none of those who may log in")

    async def _all(self, path: str, access_token: str, kind: type[list[Any]]) -> list[Any]:
        """Returns every page of a list (REST API, "Using pagination")."""
        url, found = f"{self._config.api}{path}?per_page=100", list[Any]()
        for _ in range(MOST_PAGES):
            document, more = await self._get(url, access_token)
            found += _read(document, kind)
            if more is None or not more.startswith(f"{self._config.api}/"):
                break
            url = more
        return found

    async def _get(self, url: str, access_token: str) -> tuple[Any, str | None]:
        """Returns the document, and the URL of the next page or None."""
        headers = {
            "accept": "application/vnd.github+json",
            "authorization": f"Bearer {access_token}",
            "x-github-api-version": "2022-11-28",
        }
        answer = await self._fetcher.ask(url, headers=headers)
        if answer.status == HTTPStatus.UNAUTHORIZED:
            raise Unauthorized("GitHub does not take its token any more")
        if answer.status != HTTPStatus.OK:
            raise RefusedError("GitHub did not say who you are", status=answer.status)
        following = NEXT_PAGE.search(answer.headers.get("link", ""))
        return answer.document, following[1] if following else None


def _read(document: Any, kind: type[T]) -> T:
    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        raise RefusedError("GitHub's answer cannot be read", reason=str(error)) from None


def _lower(names: tuple[str, ...]) -> frozenset[str]:
    return frozenset(name.lower() for name in names)
