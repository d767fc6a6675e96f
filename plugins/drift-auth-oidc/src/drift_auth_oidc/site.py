"""How browsers reach the server, and which cookies they keep for it."""

import hashlib
import hmac
import re
from urllib.parse import urlsplit

from litestar.datastructures import Cookie
from msgspec import Struct

from drift_core.api import Credentials, Denied, is_loopback

SESSION, LOGIN = "drift-session", "drift-login"
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
CSRF_HEADER = "x-csrf-token"

HOST = re.compile(r"[A-Za-z0-9._-]{1,253}(?::[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](?::[0-9]{1,5})?")
LONGEST_PATH = 2048


class Site:
    """The server at ``public_url``, or, where that is None, at the address that each request names."""

    def __init__(self, public_url: str | None) -> None:
        self._public = None if public_url is None else public_url.rstrip("/")

    def base(self, credentials: Credentials) -> str:
        """Returns scheme, host and port.

        Raises:
            Denied: cookies would go unprotected over the network, or the request names no host.
        """
        base = self._base(credentials)
        if base is None:
            raise Denied("logins need https")
        return base

    def cookie(self, name: str, credentials: Credentials) -> str | None:
        """Returns the value of a cookie, None where there is none, or it could be anybody's."""
        base = self._base(credentials)
        if base is None:
            return None
        wanted = _cookie_name(name, base)
        for header in (value for known, value in credentials.headers if known == "cookie"):
            for pair in header.split(";"):
                key, _, value = pair.strip().partition("=")
                if key == wanted:
                    return value
        return None

    def set_cookie(self, name: str, value: str, seconds: float, credentials: Credentials) -> Cookie:
        """Returns a cookie that only this host, and no script, gets (RFC 6265bis section 4.1.3.2). Raises `Denied`."""
        base = self.base(credentials)
        secure, seconds = base.startswith("https:"), int(seconds)
        return Cookie(_cookie_name(name, base), value=value, max_age=seconds, secure=secure, httponly=True)

    def check_origin(self, credentials: Credentials) -> None:
        """Refuses a request that a page of somebody else has sent. Raises `Denied`."""
        origin, fetched_by = credentials.header("origin"), credentials.header("sec-fetch-site")
        if (origin is not None and origin != self._base(credentials)) or fetched_by not in (None, "same-origin"):
            raise Denied("the request comes from another site")

    def _base(self, credentials: Credentials) -> str | None:
        if self._public is not None:
            return self._public
        host = credentials.header("host") or ""
        if HOST.fullmatch(host) is None:
            return None
        base = f"{credentials.scheme}://{host}"
        # The client's address alone would be that of a proxy on this machine.
        near = is_loopback(urlsplit(base).hostname or "") and is_loopback(credentials.client_address)
        return base if credentials.scheme == "https" or near else None


class Csrf(Struct, frozen=True):
    """The token that only pages of this site learn, for a session with this secret."""

    secret: str

    @property
    def token(self) -> str:
        """Returns it; from it nobody learns the secret."""
        return hmac.new(self.secret.encode(), b"drift-csrf", hashlib.sha256).hexdigest()

    def check(self, shown: str | None) -> None:
        """Raises `Denied` where ``shown`` is not the token."""
        if shown is None or not hmac.compare_digest(shown.encode("utf-8", "replace"), self.token.encode()):
            raise Denied("the CSRF token is missing or wrong")


def local_path(wanted: str | None) -> str | None:
    """Returns ``wanted`` where a browser takes it for a path of this site, else None."""
    if wanted is None or not wanted.startswith("/") or wanted.startswith("//") or len(wanted) > LONGEST_PATH:
        return None
    # Browsers read a backslash as a slash, and leave out tabs and line breaks.
    if "\\" in wanted or not wanted.isascii() or not wanted.isprintable() or " " in wanted:
        return None
    return wanted


def _cookie_name(name: str, base: str) -> str:
    return f"__Host-{name}" if base.startswith("https:") else name
