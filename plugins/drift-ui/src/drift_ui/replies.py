"""Answers to browsers: what every one of them says about what a page may do, and cookies."""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'"
)

SECURITY: tuple[tuple[bytes, bytes], ...] = (
    (b"content-security-policy", CSP.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
)
"""Of every answer; no page has a style or a script in it, so that none needs to be allowed."""


class Reply(Struct, frozen=True):
    """An answer; ``headers`` are those beside `SECURITY`. Without ``kept`` nobody may keep it."""

    status: int
    body: bytes
    kind: str = "text/html; charset=utf-8"
    headers: Sequence[tuple[str, str]] = ()
    kept: bool = False

    async def send(self, method: str, send: Any) -> None:
        """Sends it; to HEAD without its body."""
        headers = [
            (b"content-type", self.kind.encode()),
            (b"content-length", b"%d" % len(self.body)),
            (b"cache-control", b"public, max-age=3600" if self.kept else b"no-store"),
            *SECURITY,
            *((name.encode(), value.encode("latin-1")) for name, value in self.headers),
        ]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if method == "HEAD" else self.body})


def redirect(path: str, *headers: tuple[str, str]) -> Reply:
    """Returns an answer that sends the browser to a path of this site."""
    return Reply(303, b"", headers=(("location", path), *headers))


def set_cookie(name: str, value: str, seconds: float, *, secure: bool, script: bool = False) -> tuple[str, str]:
    """Returns the header for a cookie of this host alone; 0 seconds forget it (RFC 6265bis section 4.1)."""
    parts = [f"{name}={value}", "Path=/", f"Max-Age={int(seconds)}", "SameSite=Lax"]
    parts += [] if script else ["HttpOnly"]
    parts += ["Secure"] if secure else []
    return ("set-cookie", "; ".join(parts))
