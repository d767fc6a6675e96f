"""What a provider of logins does, whatever it speaks."""

from typing import Protocol, runtime_checkable

from drift_auth_oidc.oauth import Attempt
from drift_auth_oidc.person import Known


class Provider(Protocol):
    """Somebody who says who a browser's user is."""

    name: str
    redirect_uri: str | None

    async def begin(self, attempt: Attempt) -> str:
        """Returns the URL at which the browser logs in. Raises `Unavailable`."""
        ...

    async def finish(self, attempt: Attempt, code: str) -> Known:
        """Returns who has logged in.

        Raises:
            Unauthorized: the provider, or its token, does not prove it.
            Denied: that person is not one of those who may log in.
            Unavailable: the provider does not answer.
        """
        ...


@runtime_checkable
class SupportsRecheck(Protocol):
    """A provider that can be asked later whether somebody still belongs to those who may log in."""

    recheck_seconds: float

    async def recheck(self, access_token: str) -> Known:
        """Returns the person as of now. Raises like `Provider.finish`."""
        ...
