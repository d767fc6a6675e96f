"""The few pages that a browser is shown; they run no script and load nothing."""

from collections.abc import Sequence
from html import escape
from urllib.parse import quote

from litestar import Response

from drift_auth_oidc.authenticator import Session
from drift_auth_oidc.devices import Waiting

HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": (
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    # Not no-referrer, with which browsers hide the origin of forms.
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
}

STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:32rem;margin:4rem auto;padding:0 1rem;color:#1b1f24}"
    "h1{font-size:1.4rem}a.button,button{display:inline-block;font:inherit;padding:.5rem 1rem;margin:.25rem .5rem 0 0;"
    "border:1px solid #6e7781;border-radius:.4rem;background:#fff;color:inherit;text-decoration:none;cursor:pointer}"
    "button.yes{background:#1a7f37;border-color:#1a7f37;color:#fff}code{font-size:1.3rem;letter-spacing:.1em}"
    "input{font:inherit;padding:.4rem}"
)


def page(title: str, body: str, status: int = 200) -> Response[str]:
    """Returns a page; ``body`` is HTML."""
    content = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style></head><body><h1>{escape(title)}</h1>{body}</body></html>"
    )
    return Response(content, status_code=status, headers=HEADERS, media_type="text/html; charset=utf-8")


def paragraph(text: str) -> str:
    """Returns text as a paragraph."""
    return f"<p>{escape(text)}</p>"


def choice(providers: Sequence[str], next_path: str | None) -> Response[str]:
    """Returns the page on which somebody picks a provider."""
    following = "" if next_path is None else f"?next={quote(next_path, safe='/')}"
    links = (
        f'<a class="button" id="login-{escape(name)}" href="/auth/login/{escape(name)}{following}">{escape(name)}</a>'
        for name in providers
    )
    return page("Log in to Drift", f"<p>{''.join(links)}</p>")


def account(session: Session) -> Response[str]:
    """Returns the page of somebody who is logged in."""
    person = session.grant.person
    return page(
        "You are logged in",
        f'<p>as <strong id="name">{escape(person.name)}</strong></p>'
        + form("/auth/logout", session, '<button id="logout">Log out</button>')
        + form("/auth/logout-everywhere", session, '<button id="logout-everywhere">Log out everywhere</button>'),
    )


def ask_code() -> Response[str]:
    """Returns the page on which somebody types the code that a device shows."""
    return page(
        "Log in a device",
        '<form method="get" action="/auth/device"><input name="user_code" id="user_code" autofocus autocomplete="off">'
        ' <button id="continue">Continue</button></form>',
    )


def confirm(session: Session, waiting: Waiting) -> Response[str]:
    """Returns the page on which somebody lets a device log in as them."""
    fields = f'<input type="hidden" name="user_code" value="{escape(waiting.user_code)}">'
    buttons = (
        '<button class="yes" id="allow" name="decision" value="allow">Let it log in</button>'
        '<button id="deny" name="decision" value="deny">Refuse</button>'
    )
    return page(
        "Let a device log in as you?",
        f"<p>It shows the code <code>{escape(waiting.user_code)}</code></p>"
        + paragraph(f"It calls itself {waiting.label!r}, and asks from {waiting.address}.")
        + paragraph("Whoever sent you here gets all that you may do. Refuse unless you have just begun this yourself.")
        + form("/auth/device", session, fields + buttons),
    )


def form(action: str, session: Session, content: str) -> str:
    """Returns a form that only a page of this site can send."""
    token = f'<input type="hidden" name="csrf_token" value="{session.csrf.token}">'
    return f'<form method="post" action="{escape(action)}">{token}{content}</form>'
