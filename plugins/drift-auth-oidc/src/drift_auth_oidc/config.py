"""The keys of ``[auth.oidc]`` and ``[auth.oauth]``."""

import re
from typing import Annotated
from urllib.parse import urlsplit

from msgspec import Meta, field

from drift_core.api import Secret, Struct, is_loopback

Text = Annotated[str, Meta(min_length=1)]
Skew = Annotated[int, Meta(ge=0, le=600)]

PROVIDER_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
PRESETS = frozenset({"oidc", "azure", "github", "google"})
TAKEN_NAMES = PRESETS | {
    *("callback", "device", "keys", "login", "logout", "logout-everywhere", "refresh", "register", "token", "tokens"),
    *("user", "whoami", "workload"),
}
"""Names of providers whose paths below ``/auth`` have another meaning."""


class GroupMapping(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Members of ``group`` have ``role``."""

    group: Text
    role: Text


class TeamMapping(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Members of ``team``, in the form ``organization/team``, have ``role``."""

    team: Text
    role: Text


class DomainMapping(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who belongs to ``domain`` has ``role``."""

    domain: Text
    role: Text


class Claims(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which claims of a token say what; ``roles`` has the names that ``required_roles`` compares."""

    username: Text = "preferred_username"
    email: Text = "email"
    name: Text = "name"
    groups: Text = "groups"
    roles: Text = "roles"
    picture: Text = "picture"


class LoginKeys(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every OpenID provider may have, however it is named.

    ``redirect_uri`` None is made of the address that the browser asks. ``username_prefix`` None is the provider's name
    and a colon. Empty ``allowed_groups`` and ``allowed_domains`` let everybody in whom the provider knows;
    ``required_roles`` must all be there. A domain is that of the verified email.
    """

    redirect_uri: str | None = None
    scopes: tuple[str, ...] = ("openid", "profile", "email")
    username_prefix: str | None = None
    claims: Claims = Claims()
    allowed_groups: tuple[str, ...] = ()
    allowed_domains: tuple[str, ...] = ()
    required_roles: tuple[str, ...] = ()
    group_mappings: tuple[GroupMapping, ...] = ()
    domain_mappings: tuple[DomainMapping, ...] = ()
    clock_skew_seconds: Skew = 60

    def __post_init__(self) -> None:
        """Raises ValueError."""
        if "openid" not in self.scopes:
            raise ValueError("scopes needs openid")
        if self.redirect_uri is not None:
            require_https("redirect_uri", self.redirect_uri)


class IssuerConfig(LoginKeys, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[auth.oidc.providers.NAME]``: an OpenID provider by the ``issuer`` that its discovery document states."""

    issuer: Text
    client_id: Text
    client_secret: Secret | None = None

    def __post_init__(self) -> None:
        """Raises ValueError."""
        super().__post_init__()
        require_https("issuer", self.issuer)


class AzureConfig(LoginKeys, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[auth.oauth.azure]``: Microsoft Entra; people of ``tenant_id``, and of the further ``tenants``, may log in.

    Groups are object ids. ``authority`` is another for national clouds.
    """

    tenant_id: Text
    tenants: tuple[Text, ...] = ()
    client_id: Text
    client_secret: Secret | None = None
    authority: Text = "https://login.microsoftonline.com"
    clock_skew_seconds: Skew = 300

    def __post_init__(self) -> None:
        """Raises ValueError."""
        super().__post_init__()
        require_https("authority", self.authority)
        for tenant in (self.tenant_id, *self.tenants):
            if tenant in ("common", "organizations", "consumers") or "/" in tenant:
                # They would let in everybody who has any account of Microsoft's.
                raise ValueError(f"{tenant} names no tenant")


class GoogleConfig(LoginKeys, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[auth.oauth.google]``: a domain is that of the Workspace organization, so personal accounts have none.

    ``issuer`` is another for tests.
    """

    client_id: Text
    client_secret: Secret | None = None
    issuer: Text = "https://accounts.google.com"
    claims: Claims = Claims(username="email")

    def __post_init__(self) -> None:
        """Raises ValueError."""
        super().__post_init__()
        require_https("issuer", self.issuer)
        if not self.allowed_domains:
            raise ValueError("allowed_domains is needed: anybody can have an account of Google's")


class GitHubConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[auth.oauth.github]``: one of the three lists has to name who logs in, teams as ``organization/team``.

    With ``require_org_membership`` also those of ``allowed_users`` must be in one of ``allowed_organizations``, and
    ``require_team_membership`` says the same of ``allowed_teams``. Membership is asked for again after
    ``cache_duration_minutes``. ``enterprise_url`` is that of a GitHub Enterprise Server; ``api_url`` follows from it.
    """

    client_id: Text
    client_secret: Secret
    redirect_uri: str | None = None
    scopes: tuple[str, ...] = ("read:user", "user:email", "read:org")
    username_prefix: str | None = None
    allowed_organizations: tuple[str, ...] = ()
    allowed_teams: tuple[str, ...] = ()
    allowed_users: tuple[str, ...] = ()
    team_mappings: tuple[TeamMapping, ...] = ()
    require_org_membership: bool = False
    require_team_membership: bool = False
    enterprise_url: str | None = None
    api_url: str | None = None
    cache_duration_minutes: Annotated[float, Meta(gt=0, le=1440)] = 15

    def __post_init__(self) -> None:
        """Raises ValueError."""
        for key in ("redirect_uri", "enterprise_url", "api_url"):
            if (url := getattr(self, key)) is not None:
                require_https(key, url)
        if not (self.allowed_organizations or self.allowed_teams or self.allowed_users):
            raise ValueError("name allowed_organizations, allowed_teams or allowed_users: anybody can have an account")
        if self.require_org_membership and not self.allowed_organizations:
            raise ValueError("require_org_membership needs allowed_organizations")
        if self.require_team_membership and not self.allowed_teams:
            raise ValueError("require_team_membership needs allowed_teams")
        for team in (*self.allowed_teams, *(mapping.team for mapping in self.team_mappings)):
            if team.count("/") != 1:
                raise ValueError(f"a team is written organization/team, not {team}")

    @property
    def site(self) -> str:
        """Where people log in, without a slash at the end."""
        return (self.enterprise_url or "https://github.com").rstrip("/")

    @property
    def api(self) -> str:
        """Where the REST API answers, without a slash at the end."""
        default = "https://api.github.com" if self.enterprise_url is None else f"{self.site}/api/v3"
        return (self.api_url or default).rstrip("/")


class OAuthConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[auth.oauth]``: the presets; without ``enabled`` none of them counts."""

    enabled: bool = False
    azure: AzureConfig | None = None
    github: GitHubConfig | None = None
    google: GoogleConfig | None = None


class WorkloadRule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A job whose token has all of ``claims`` becomes ``workload:NAME`` and may use ``scopes``.

    Each claim is a glob, in which only ``*`` is special, and is any text; one that is a list needs one element that
    fits. ``roles`` are for the policies.
    """

    name: Text
    claims: Annotated[dict[str, Text], Meta(min_length=1)]
    scopes: Annotated[tuple[Text, ...], Meta(min_length=1)]
    roles: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises ValueError."""
        if not any(pattern.strip("*") for pattern in self.claims.values()):
            # The issuers of public CI services sign for everybody.
            raise ValueError(f"the claims of {self.name} fit every token of the issuer")
        for scope in self.scopes:
            parts = [*scope.split(":")[:-1], *scope.rpartition(":")[2].split(",")]
            if scope.count(":") < 2 or not all(parts):  # noqa: PLR2004 - kind, name, action
                raise ValueError(f"a scope is written kind:name:action, not {scope}")


class WorkloadConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[auth.oidc.workloads]]``: jobs that show a token of ``issuer`` for ``audience``.

    The first rule that fits counts; without one the job is refused. What it gets is good for ``max_seconds``.
    """

    issuer: Text
    audience: Text
    rules: Annotated[tuple[WorkloadRule, ...], Meta(min_length=1)]
    max_seconds: Annotated[int, Meta(ge=30, le=86400)] = 900
    clock_skew_seconds: Skew = 60

    def __post_init__(self) -> None:
        """Raises ValueError."""
        require_https("issuer", self.issuer)


class OidcConfig(LoginKeys, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[auth.oidc]``: the plain provider by ``issuer`` and ``client_id``, and what holds for every provider.

    ``oauth`` is the table ``[auth.oauth]``, ``providers`` are further ones by name. ``public_url`` is how browsers
    reach the server; None is what they ask for. A session ends ``session_idle_minutes`` after its last request, and
    ``session_hours`` after the login. What `drift login` gets is good for ``cli_token_days``.
    """

    issuer: str | None = None
    client_id: str | None = None
    client_secret: Secret | None = None
    oauth: OAuthConfig = OAuthConfig()
    providers: dict[str, IssuerConfig] = field(default_factory=dict[str, IssuerConfig])
    workloads: tuple[WorkloadConfig, ...] = ()
    public_url: str | None = None
    session_idle_minutes: Annotated[float, Meta(gt=0)] = 480
    session_hours: Annotated[float, Meta(gt=0)] = 168
    cli_token_days: Annotated[float, Meta(gt=0, le=366)] = 90

    def __post_init__(self) -> None:
        """Raises ValueError."""
        super().__post_init__()
        if (self.issuer is None) != (self.client_id is None):
            raise ValueError("issuer and client_id belong together")
        if self.issuer is not None:
            require_https("issuer", self.issuer)
        if self.public_url is not None:
            require_https("public_url", self.public_url)
            if urlsplit(self.public_url).path.strip("/"):
                raise ValueError("public_url has no path")
        for name in self.providers:
            if PROVIDER_NAME.fullmatch(name) is None or name in TAKEN_NAMES:
                raise ValueError(f"{name} cannot be the name of a provider")
        issuers = [workload.issuer for workload in self.workloads]
        if len(set(issuers)) < len(issuers):
            raise ValueError("an issuer of workloads is named twice")

    @property
    def plain(self) -> IssuerConfig | None:
        """The provider that this table itself describes, or None."""
        if self.issuer is None or self.client_id is None:
            return None
        shared = {name: getattr(self, name) for name in LoginKeys.__struct_fields__}
        return IssuerConfig(issuer=self.issuer, client_id=self.client_id, client_secret=self.client_secret, **shared)


def require_https(key: str, url: str) -> None:
    """Raises ValueError for a URL whose answers anybody on the way could forge; loopback has no way."""
    parts = urlsplit(url)
    if parts.hostname is None or parts.query or parts.fragment or parts.username is not None:
        raise ValueError(f"{key} must be a URL such as https://login.example.org")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname)):
        raise ValueError(f"{key} must begin with https://")
