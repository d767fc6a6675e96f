"""The routes of programs: `drift login` (RFC 8628), and CI jobs (RFC 8693)."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal
from urllib.parse import quote

from litestar import Response, get, post
from msgspec import UNSET, Struct, UnsetType

from drift_auth_oidc import pages
from drift_auth_oidc.authenticator import LoginAuthenticator
from drift_auth_oidc.browser import FORM, PAGE, Asked, Browser, Sent, private, public
from drift_auth_oidc.devices import DEVICE_SECONDS, INTERVAL, Devices
from drift_auth_oidc.grants import Grant
from drift_auth_oidc.workloads import Workloads
from drift_core.api import AuditEvent, Services, TooManyRequests, Unauthorized, Unavailable

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
EXCHANGE_GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
JOB_TOKENS = ("urn:ietf:params:oauth:token-type:jwt", "urn:ietf:params:oauth:token-type:id_token")
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - names a kind of tokens


class DeviceAsked(Struct):
    """The form that begins the login of a device, which ``client_name`` tells who is asked about it."""

    client_name: str = ""
    provider: str = ""


class DeviceCodes(Struct, frozen=True):
    """The codes of a device (RFC 8628 section 3.2); times in seconds."""

    device_code: str
    user_code: str
    verification_uri: str
    verification_uri_complete: str
    expires_in: int
    interval: int


class DevicePolled(Struct):
    """The form with which a device asks whether it was allowed (RFC 8628 section 3.4)."""

    grant_type: Literal["urn:ietf:params:oauth:grant-type:device_code"]
    device_code: str


class DeviceShown(Struct):
    """The query of the page that asks about a device; without a code somebody types it."""

    user_code: str | None = None
    provider: str | None = None


class DeviceDecided(Sent):
    """The form of that page."""

    user_code: str
    decision: Literal["allow", "deny"]


class Exchanged(Struct):
    """The form with which a job brings its token (RFC 8693 section 2.1)."""

    grant_type: Literal["urn:ietf:params:oauth:grant-type:token-exchange"]
    subject_token: str
    subject_token_type: Literal["urn:ietf:params:oauth:token-type:jwt", "urn:ietf:params:oauth:token-type:id_token"]


class Given(Struct, frozen=True):
    """A token; ``expires_in`` in seconds. The last two are for jobs (RFC 8693 section 2.2.1)."""

    access_token: str
    token_type: Literal["Bearer"]
    expires_in: int
    name: str
    issued_token_type: str | UnsetType = UNSET
    scope: str | UnsetType = UNSET


class Refused(Struct, frozen=True):
    """An error as of RFC 6749 section 5.2."""

    error: str
    error_description: str


class Machine:
    """See `routes`. Errors have the form of RFC 6749 section 5.2."""

    def __init__(
        self,
        devices: Devices,
        workloads: Workloads,
        browser: Browser,
        authenticator: LoginAuthenticator,
        services: Services,
        providers: Sequence[str],
    ) -> None:
        self._devices = devices
        self._workloads = workloads
        self._browser = browser
        self._site = authenticator.site
        self._services = services
        self._providers = providers

    def routes(self) -> Sequence[Any]:
        """Returns the handlers."""
        return [
            public(
                post,
                ["/auth/device/code"],
                self._begin,
                body={FORM: DeviceAsked},
                answers=DeviceCodes,
                errors=Refused,
            ),
            public(post, ["/auth/device/token"], self._poll, body={FORM: DevicePolled}, answers=Given, errors=Refused),
            public(get, ["/auth/device"], self._show, query=DeviceShown, answers=PAGE, errors=PAGE),
            public(post, ["/auth/device"], self._decide, body={FORM: DeviceDecided}, answers=PAGE, errors=PAGE),
            public(
                post, ["/auth/workload/token"], self._exchange, body={FORM: Exchanged}, answers=Given, errors=Refused
            ),
        ]

    async def _begin(self, request: Asked) -> Response[Any]:
        """Gives a device its codes (RFC 8628 section 3.2)."""
        fields = await _fields(request)
        base = self._site.base(request.auth)
        label = fields.get("client_name") or request.auth.header("user-agent") or "a device"
        try:
            device_code, user_code = await self._devices.begin(label, request.auth.client_address)
        except TooManyRequests as error:
            return _refused("slow_down", error.message, 429)
        complete = f"{base}/auth/device?user_code={user_code}"
        if fields.get("provider") in self._providers:
            complete += f"&provider={quote(fields['provider'])}"
        return private(
            DeviceCodes(
                device_code=device_code,
                user_code=user_code,
                verification_uri=f"{base}/auth/device",
                verification_uri_complete=complete,
                expires_in=DEVICE_SECONDS,
                interval=INTERVAL,
            )
        )

    async def _poll(self, request: Asked) -> Response[Any]:
        """Gives a device its token once somebody has allowed it (section 3.4)."""
        fields = await _fields(request)
        if fields.get("grant_type") != DEVICE_GRANT:
            return _refused("unsupported_grant_type", f"grant_type must be {DEVICE_GRANT}")
        given = await self._devices.poll(fields.get("device_code", ""))
        return _refused(given, given.replace("_", " ")) if isinstance(given, str) else self._given(*given)

    async def _show(self, request: Asked) -> Response[Any]:
        """Asks who is logged in whether a device may log in as them, and others to log in first."""
        user_code, provider = request.query_params.get("user_code"), request.query_params.get("provider")
        session = await self._browser.current(request.auth)
        if session is None:
            following = "/auth/device" if user_code is None else f"/auth/device?user_code={quote(user_code)}"
            return pages.choice([one for one in self._providers if one == provider] or self._providers, following)
        if user_code is None:
            return pages.ask_code()
        waiting = await self._devices.find(user_code)
        if waiting is None:
            return pages.page("No device waits with this code", pages.paragraph("It may have waited too long."), 404)
        return pages.confirm(session, waiting)

    async def _decide(self, request: Asked) -> Response[Any]:
        """Lets a device log in, or not."""
        session, _ = await self._browser.changing(request)
        fields = await _fields(request)
        allow = fields.get("decision") == "allow"
        if not await self._devices.decide(fields.get("user_code", ""), session.grant, allow=allow):
            return pages.page("No device waits with this code", pages.paragraph("It may have waited too long."), 404)
        title = "The device is logged in" if allow else "The device was refused"
        return pages.page(title, pages.paragraph("You can close this page."))

    async def _exchange(self, request: Asked) -> Response[Any]:
        """Gives a job a token for the one that its CI service has made (RFC 8693 section 2)."""
        fields = await _fields(request)
        if fields.get("grant_type") != EXCHANGE_GRANT:
            return _refused("unsupported_grant_type", f"grant_type must be {EXCHANGE_GRANT}")
        if fields.get("subject_token_type") not in JOB_TOKENS or not fields.get("subject_token"):
            return _refused("invalid_request", "subject_token and subject_token_type are needed")
        try:
            secret, grant = await self._workloads.exchange(fields["subject_token"])
        except Unauthorized as error:
            await self._services.audit.note(
                AuditEvent(
                    type="AuthenticationFailed",
                    severity="warning",
                    success=False,
                    reason=error.message,
                    username=error.username,
                    parameters={"provider": "workload"},
                )
            )
            return _refused("invalid_grant", error.message)
        except Unavailable as error:
            return _refused("temporarily_unavailable", error.message, 503)
        scope = " ".join(str(scope) for scope in grant.person.scopes or ())
        return self._given(secret, grant, issued_token_type=ACCESS_TOKEN, scope=scope)

    @staticmethod
    def _given(secret: str, grant: Grant, **more: str) -> Response[Any]:
        seconds = int(grant.expires - grant.created)
        return private(Given(secret, "Bearer", seconds, grant.person.name, **more))


async def _fields(request: Asked) -> Mapping[str, str]:
    """Returns the fields of a form, without files."""
    return {name: value for name, value in (await request.form()).items() if isinstance(value, str)}


def _refused(error: str, description: str, status: int = 400) -> Response[Any]:
    return private(Refused(error, description), status)
