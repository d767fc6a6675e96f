"""Makes HTML of pages: every text is escaped by the template engine, whoever wrote it."""

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from msgspec import Struct

from drift_core.api import Login, pages
from drift_ui.plots import drawing_of
from drift_ui.routing import local_path
from drift_ui.wording import ago_text, bytes_text, count_text, exact_text, iso_text

LONGEST_TEXT = 4000
"""Characters of one cell that are shown."""

LONGEST_CODE = 512 << 10
"""Characters of a text that is shown as it is."""


class MenuEntry(Struct, frozen=True):
    """A page in the menu, and whether it is the one that is shown."""

    text: str
    path: str
    current: bool


class Frame(Struct, frozen=True, kw_only=True):
    """What surrounds a page: who sees it, where else they can go, and what was just done.

    ``user`` is None where nobody is logged in, and ``token`` what every form of this browser has to bring along.
    ``path`` is that of the page, and ``here`` the same with its query.
    """

    title: str
    menu: Sequence[MenuEntry]
    user: str | None
    open: bool
    theme: str
    token: str
    path: str
    here: str
    notice: str = ""
    secret: str = ""
    error: str = ""


class Parts(Struct, frozen=True):
    """What a page says: what an act has found, what changes by itself, and the rest; None where nothing does.

    Where it ``follows``, the browser is to ask for what changes.
    """

    answer: Sequence[pages.Block] = ()
    live: Sequence[pages.Told] | None = None
    rest: Sequence[pages.Block] = ()
    follows: bool = False


class Renderer:
    """Renders pages. What is given to it may come from anybody."""

    def __init__(self) -> None:
        environment = Environment(
            loader=PackageLoader("drift_ui"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        filters: dict[str, Any] = {
            "bytes": bytes_text,
            "count": _count,
            "ago": ago_text,
            "exact": exact_text,
            "iso": iso_text,
            "href": local_path,
            "cut": _cut,
        }
        environment.filters.update(filters)
        known: dict[str, Any] = {"kind": _kind, "drawing": drawing_of, "longest_code": LONGEST_CODE}
        environment.globals.update(known)
        self._environment = environment

    def page(self, frame: Frame, parts: Parts, form: Mapping[str, str]) -> str:
        """Returns a page; ``form`` has what was sent with a form that was refused."""
        return self._render("page.html", frame, parts=parts, live=parts.live, sent=form)

    def live(self, blocks: Sequence[pages.Told]) -> str:
        """Returns the part of a page that changes by itself."""
        return self._environment.get_template("live.html").render(live=blocks)

    def login(self, frame: Frame, logins: Sequence[Login], name: str, following: str, known: str | None) -> str:
        """Returns the form to log in; ``known`` is who the browser is already, by another way."""
        return self._render("login.html", frame, logins=logins, name=name, following=following, known=known)

    def confirm(self, frame: Frame, form: pages.Form, sent: Mapping[str, str]) -> str:
        """Returns the question whether something is really meant."""
        return self._render("confirm.html", frame, form=form, sent=sent)

    def _render(self, template: str, frame: Frame, **values: Any) -> str:
        return self._environment.get_template(template).render(frame=frame, **values)


def _kind(value: object) -> str:
    """Returns the name of a block's, or a cell's, class."""
    if value is None:
        return "nothing"
    return "str" if isinstance(value, str) else type(value).__name__.lower()


def _count(value: float) -> str:
    return count_text(value)


def _cut(text: str, most: int = LONGEST_TEXT) -> str:
    return text if len(text) <= most else f"{text[:most]}… ({len(text) - most:,} more characters)"
