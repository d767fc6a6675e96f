"""Endpoints of signatures, for those who may do everything: sign, verify, and which keys there are."""

from typing import Any

from litestar import Request, get, post
from litestar.handlers import HTTPRouteHandler
from msgspec import Struct

from drift_core.http.admin import body_of
from drift_core.model import Identity
from drift_core.registry.rules import check_name
from drift_core.signing.signing import Key, Made, Signing, Verified

SIGN, VERIFY, KEYS = "/admin/signing/sign", "/admin/signing/verify", "/admin/signing/keys"
ANYBODY = Identity("anonymous", "request")
"""Who signs where nobody has to log in."""


class ToVerify(Struct, forbid_unknown_fields=True):
    """The body of a question: a manifest, by digest or tag."""

    repository: str
    reference: str


class ToSign(Struct, forbid_unknown_fields=True):
    """The body of a wish: a manifest by digest or tag; the key, None for the default; no formats are all that have it.

    ``annotations`` are signed, too.
    """

    repository: str
    reference: str
    key_id: str | None = None
    formats: tuple[str, ...] = ()
    annotations: dict[str, str] = {}


def signing_routes(signing: Signing) -> list[HTTPRouteHandler]:
    """Returns the handlers of `/admin/signing`."""

    @get(KEYS)
    async def keys() -> list[Key]:
        """Says which keys sign, who is trusted, and which certificates end soon."""
        return await signing.keys()

    @post(VERIFY, status_code=200, body=ToVerify)
    async def verify(request: Request[Any, Any, Any]) -> Verified:
        """Judges the signatures of a manifest by the policy of its repository."""
        wanted = await body_of(request, ToVerify)
        return await signing.verify(check_name(wanted.repository), wanted.reference)

    @post(SIGN, status_code=201, body=ToSign)
    async def sign(request: Request[Any, Any, Any]) -> list[Made]:
        """Signs a manifest, and says which artifacts were pushed."""
        wanted = await body_of(request, ToSign)
        name, by = check_name(wanted.repository), request.user or ANYBODY
        return await signing.sign(name, wanted.reference, wanted.key_id, wanted.formats, wanted.annotations, by)

    return [keys, verify, sign]
