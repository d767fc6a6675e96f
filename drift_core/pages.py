"""What a page of the console says, as plain values: whoever shows pages makes HTML, or something else, of them.

A page that a plugin adds cannot break what all pages promise, such as that no text is ever read as markup, since it
never writes any.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Literal

from msgspec import Struct

from drift_core.model import EVERYTHING, Identity, Scope

MOST_DIGITS = 18
"""Of a number in 64 bits."""


class Link(Struct, frozen=True):
    """Leads to another page: ``path`` is one of the console's, beginning with ``/``, each part percent-encoded."""

    text: str
    path: str


class Size(Struct, frozen=True):
    """A number of bytes."""

    bytes: int


class Moment(Struct, frozen=True):
    """A time in seconds since the epoch."""

    at: float


class Copied(Struct, frozen=True):
    """Text to be copied whole, such as a digest or a command; ``short`` is shown in its place where there is one."""

    text: str
    short: str = ""


class State(Struct, frozen=True):
    """A word on how something is, and whether that is good, bad, or to be looked at."""

    text: str
    kind: Literal["good", "bad", "warning", "neutral"] = "neutral"


Cell = str | int | float | bool | None | Link | Size | Moment | Copied | State
"""What stands in one place of a page. None is nothing."""


class Figure(Struct, frozen=True):
    """One number that matters, with what it is and, where it helps, a word on it."""

    label: str
    value: Cell
    hint: str = ""


class Figures(Struct, frozen=True):
    """The few numbers that are looked at first."""

    figures: Sequence[Figure]


class Facts(Struct, frozen=True):
    """What is known of one thing: names and values."""

    title: str
    rows: Sequence[tuple[str, Cell]]


class Table(Struct, frozen=True):
    """Rows, all of as many cells as there are ``columns``; ``empty`` is said where there are none.

    ``more`` leads to the rows that follow, by its query: a page of a table has a bounded number of them.
    """

    title: str
    columns: Sequence[str | Link]
    rows: Sequence[Sequence[Cell]]
    empty: str = "There is nothing yet."
    more: Link | None = None


class Text(Struct, frozen=True):
    """A paragraph, or with ``code`` lines as they are, which may be long."""

    text: str
    title: str = ""
    code: bool = False


class Series(Struct, frozen=True):
    """What is plotted under one name: moments in seconds since the epoch, and values."""

    name: str
    points: Sequence[tuple[float, float]]


class Plot(Struct, frozen=True):
    """Values over time; ``unit`` is "bytes" or a word such as "pulls"."""

    title: str
    unit: str
    series: Sequence[Series]


class Field(Struct, frozen=True):
    """One thing that a form asks for; the ``name`` is that in `Asked.form`, or in `Asked.query` without an act.

    ``choices`` are those of kind "choice", and suggestions for "text".
    """

    name: str
    label: str
    kind: Literal["text", "number", "checkbox", "choice", "hidden", "password"] = "text"
    value: str = ""
    choices: Sequence[str] = ()
    hint: str = ""
    required: bool = False


class Form(Struct, frozen=True):
    """Asks for something: with ``act`` it does the `Act` of that name of the page, else it shows the page by its query.

    ``danger`` is what cannot be undone; it is asked twice.
    """

    title: str
    button: str
    fields: Sequence[Field] = ()
    act: str | None = None
    danger: bool = False


Told = Figures | Facts | Table | Text | Plot
"""A part of a page that asks for nothing."""

Block = Told | Form
"""A part of a page."""


class Asked(Struct, frozen=True):
    """What a page is asked for: by whom, None being nobody in particular, and with which parts of the path.

    ``query`` and ``form`` have the first value of each name. ``host`` is where clients of the registry reach it.
    """

    identity: Identity | None
    path: Mapping[str, str]
    query: Mapping[str, str]
    form: Mapping[str, str]
    host: str


def number(text: str) -> int | None:
    """Returns the whole number that a path or a query says, None for anything else: databases count in 64 bits."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= MOST_DIGITS else None


class Done(Struct, frozen=True):
    """What an act says afterwards. ``secret`` and ``found`` are shown once, above the page, and kept nowhere.

    ``found`` is what was asked for, of an act that changes nothing but costs too much for a page that anybody's link
    can show. Without either, ``then`` is the page that is shown, that of the form where it is None.
    """

    message: str
    secret: str = ""
    then: str | None = None
    found: Sequence[Block] = ()


Needed = Scope | Callable[[Mapping[str, str]], Scope] | None
"""The right that is needed, or what tells it by the parts of the path; None is that of whoever has logged in."""


class Act(Struct, frozen=True):
    """Something that a form of a page does. Raises `RegistryError`, whose message is shown beside the form."""

    do: Callable[[Asked], Awaitable[Done]]
    needs: Needed = EVERYTHING


class Page(Struct, frozen=True):
    """A page of the console at ``path``, such as ``/retention`` or ``/bolt/profiles/{name}``.

    One with a ``menu`` is in it under this word. It is shown, and in the menu, to whom ``needs`` allows it. ``show``
    raises `RegistryError`, which is shown in its place: a page fails open, for itself alone. What it costs must not
    grow with what the registry holds.

    ``live`` is for work under way: what it returns stands before the rest, and is replaced whenever it differs, without
    the page being loaded anew. While somebody looks it is asked once a second by each worker, in no request, so that it
    has to be cheap; it gets the same as ``show``.
    """

    path: str
    title: str
    show: Callable[[Asked], Awaitable[Sequence[Block]]]
    menu: str | None = None
    needs: Needed = EVERYTHING
    acts: Mapping[str, Act] = {}
    live: Callable[[Asked], Awaitable[Sequence[Told]]] | None = None
