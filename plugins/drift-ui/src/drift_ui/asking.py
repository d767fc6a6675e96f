"""Reads a request of a browser: its cookies, its query, its form, each of a bounded size."""

import re
from typing import Any
from urllib.parse import parse_qsl

from msgspec import Struct

from drift_core.api import Credentials, Denied, RegistryError

LONGEST_FORM = 256 << 10
"""Bytes of a form."""

MOST_FIELDS = 500
EVENTS = "text/event-stream"
SECRET = re.compile(r"[A-Za-z0-9_-]{43}")


class BadForm(RegistryError):
    """A form, or a query, that no page of the console has."""

    code, status, text = "UNSUPPORTED", 400, "the form cannot be read"


class Browser(Struct, frozen=True):
    """A request: what it asks for, and what the browser keeps for this site.

    ``secret`` is that of its cookie, None where it has none. ``theme`` is "light", "dark", or empty for that of the
    browser.
    """

    method: str
    path: str
    query: dict[str, str]
    credentials: Credentials
    secret: str | None
    theme: str

    @property
    def follows(self) -> bool:
        """Whether it asks to be told what changes on a page, as `EventSource` does."""
        return self.method == "GET" and self.credentials.header("accept") == EVENTS

    @property
    def secure(self) -> bool:
        """Whether it came by https."""
        return self.credentials.scheme == "https"

    @property
    def host(self) -> str:
        """Host and port by which the browser knows the console."""
        return self.credentials.header("host") or "localhost"

    def check_origin(self) -> None:
        """Raises `Denied` for what a page of another site has sent."""
        origin, fetched_by = self.credentials.header("origin"), self.credentials.header("sec-fetch-site")
        ours = f"{self.credentials.scheme}://{self.host}"
        if (origin is not None and origin != ours) or fetched_by not in (None, "same-origin"):
            raise Denied("the form comes from another site")


def read_browser(scope: Any, cookie: str, theme: str) -> Browser:
    """Returns a request by its ASGI scope; the others are names of cookies. Raises `BadForm`."""
    cookies = _cookies(scope["headers"])
    credentials: Credentials = scope["auth"]
    name = f"__Host-{cookie}" if credentials.scheme == "https" else cookie
    secret, chosen = cookies.get(name, ""), cookies.get(theme, "")
    return Browser(
        "GET" if scope["method"] == "HEAD" else scope["method"],
        (scope.get("raw_path") or scope["path"].encode()).decode("ascii", "replace"),
        _fields(scope["query_string"]),
        credentials,
        secret if SECRET.fullmatch(secret) else None,
        chosen if chosen in ("light", "dark") else "",
    )


async def read_form(scope: Any, receive: Any) -> dict[str, str]:
    """Returns the first value of each field of the form that was sent. Raises `BadForm`."""
    kind = next((value for name, value in scope["headers"] if name == b"content-type"), b"")
    if kind.partition(b";")[0].strip().lower() != b"application/x-www-form-urlencoded":
        raise BadForm("a form is sent as application/x-www-form-urlencoded")
    body = b""
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise BadForm("the form is not whole")
        body += event.get("body", b"")
        if len(body) > LONGEST_FORM:
            raise BadForm(f"the form has more than {LONGEST_FORM} bytes")
        if not event.get("more_body"):
            return _fields(body)


def _fields(raw: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS)
    except ValueError as error:
        raise BadForm from error
    fields: dict[str, str] = {}
    for name, value in pairs:
        # PostgreSQL takes no text that has a zero byte in it.
        fields.setdefault(name, value.replace("\0", ""))
    return fields


def _cookies(headers: Any) -> dict[str, str]:
    cookies: dict[str, str] = {}
    for name, value in headers:
        if name == b"cookie":
            for pair in value.decode("latin-1").split(";"):
                key, _, content = pair.strip().partition("=")
                cookies.setdefault(key, content)
    return cookies
