"""What the management routes share: who asks for what, in which body, and which page of it is the answer."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import quote, urlencode

import msgspec
from litestar import Request, Response
from msgspec import UNSET, Meta, Struct

from drift_core.api import Identity, Scope
from drift_rbac.errors import EntityInvalid

T = TypeVar("T")

Asked = Request[Any, Any, Any]
"""A request behind the guard: its ``user`` is an `Identity`, or None where nobody has to log in."""

PAGE: Final = 100
LONGEST_PAGE: Final = 1000


class Paging(Struct):
    """The query of a list, as `page` reads it."""

    n: Annotated[int, Meta(ge=1, le=LONGEST_PAGE)] = PAGE
    last: str = ""


Needed = Callable[[Mapping[str, str]], Scope]


def needs(kind: str, action: str, name: str) -> Needed:
    """Returns what makes the scope of a route; ``name`` is a format of the path's parameters."""
    return lambda parameters: Scope(kind, name.format(**parameters), action)


async def read(request: Asked, kind: type[T]) -> T:
    """Returns the body as a Struct. Raises `EntityInvalid` with the path of what does not fit."""
    try:
        return msgspec.json.decode(await request.body(), type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise EntityInvalid(str(error)) from error


def given(body: Struct) -> dict[str, Any]:
    """Returns the fields of a body that were sent."""
    return {name: value for name in body.__struct_fields__ if (value := getattr(body, name)) is not UNSET}


def actor(request: Asked) -> Identity | None:
    """Returns who asks, None where nobody has to log in."""
    identity: Identity | None = request.user
    return identity


def answer(content: Any, status: int = 200) -> Response[Any]:
    """Returns JSON."""
    return Response(msgspec.json.encode(content), status_code=status, media_type="application/json")


def page(
    request: Asked, kind: Callable[[list[T]], Struct], keys: Sequence[str], entry: Callable[[str], T]
) -> Response[Any]:
    """Returns a page of what ``keys``, in order, name: ``n`` entries behind the key ``last``, and a link to the next.

    ``kind`` is a Struct whose one field has the entries. Raises `EntityInvalid` where ``n`` is no number.
    """
    text, last = request.query_params.get("n", str(PAGE)), request.query_params.get("last", "")
    if not (text.isascii() and text.isdecimal() and 0 < len(text) < len(str(LONGEST_PAGE)) + 1 and int(text) > 0):
        raise EntityInvalid(f"n is no number from 1 to {LONGEST_PAGE}")
    count = min(int(text), LONGEST_PAGE)
    after = [key for key in keys if key > last][: count + 1]
    response = answer(kind([entry(key) for key in after[:count]]))
    if len(after) > count:
        query = urlencode({"n": count, "last": after[count - 1]}, quote_via=quote)
        response.headers["link"] = f'<{request.url.path}?{query}>; rel="next"'
    return response
