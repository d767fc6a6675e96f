"""Reads what somebody typed to search for: words, and filters such as ``tag:`` or ``size>1GB``."""

import re
import time
from collections.abc import Callable, Sequence

from msgspec import Struct

from drift_core.api import RegistryError

FILTERS = (
    "repo:",
    "tag:",
    "digest:",
    "layer:",
    "label:",
    "signed:yes",
    "signed:no",
    "size>",
    "size<",
    "pushed<",
    "pushed>",
)
LONGEST = 500
MOST_WORDS, LONGEST_WORD = 8, 64
_TOKEN = re.compile(r'((?:[a-z]+[:<>])?)(?:"([^"]*)"|(\S+))')
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?)i?b?", re.IGNORECASE)
_AGE = re.compile(r"([0-9]+(?:\.[0-9]+)?)([hdw])")
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_AGES = {"h": 3600.0, "d": 86400.0, "w": 604800.0}


class BadQuery(RegistryError):
    """What was typed is no search."""

    code, status, text = "UNSUPPORTED", 400, "the search cannot be read"


class Query(Struct, frozen=True):
    """A search: all of it has to hold. Sizes in bytes, moments in seconds since the epoch; None asks nothing."""

    words: Sequence[str] = ()
    repository: str | None = None
    tag: str | None = None
    digest: str | None = None
    label: tuple[str, str | None] | None = None
    signed: bool | None = None
    larger: float | None = None
    smaller: float | None = None
    newer: float | None = None
    older: float | None = None
    layer: str | None = None

    @property
    def asks_images(self) -> bool:
        """Whether it is about single images, not about repositories as a whole."""
        what = (self.tag, self.digest, self.layer, self.label, self.signed)
        asked = (*what, self.larger, self.smaller, self.newer, self.older)
        return any(one is not None for one in asked)

    @property
    def is_empty(self) -> bool:
        """Whether it asks nothing."""
        return not self.words and self.repository is None and not self.asks_images


def read_query(text: str, now: float | None = None) -> Query:
    """Returns the search that was typed. Raises `BadQuery`, which says what is wrong."""
    if len(text) > LONGEST:
        raise BadQuery(f"a search has at most {LONGEST} characters")
    now = time.time() if now is None else now
    words: list[str] = []
    found: dict[str, object] = {}
    for filter_, quoted, plain in _TOKEN.findall(text):
        value = quoted or plain
        if filter_:
            found |= _filter(filter_, value, now)
        else:
            words.append(value.lower())
    if len(words) > MOST_WORDS or any(len(word) > LONGEST_WORD for word in words):
        raise BadQuery(f"a search has at most {MOST_WORDS} words, of {LONGEST_WORD} characters each")
    return Query(words, **found)  # type: ignore[arg-type]


def _filter(name: str, value: str, now: float) -> dict[str, object]:
    readers: dict[str, Callable[[], dict[str, object]]] = {
        "repo:": lambda: {"repository": value.lower().rstrip("*")},
        "tag:": lambda: {"tag": value.rstrip("*")},
        "digest:": lambda: {"digest": _digest(value)},
        "layer:": lambda: {"layer": _digest(value)},
        "label:": lambda: {"label": _label(value)},
        "signed:": lambda: {"signed": _signed(value)},
        "size>": lambda: {"larger": _size(value)},
        "size<": lambda: {"smaller": _size(value)},
        "pushed<": lambda: {"newer": now - _age(value)},
        "pushed>": lambda: {"older": now - _age(value)},
    }
    if name not in readers:
        raise BadQuery(f"there is no filter {name}; there are {', '.join(FILTERS)}")
    return readers[name]()


def _digest(text: str) -> str:
    return text.lower() if ":" in text else f"sha256:{text.lower()}"


def _label(text: str) -> tuple[str, str | None]:
    key, equals, wanted = text.partition("=")
    return key, wanted if equals else None


def _signed(text: str) -> bool:
    if text.lower() not in ("yes", "no"):
        raise BadQuery("signed: is followed by yes or no")
    return text.lower() == "yes"


def _size(text: str) -> float:
    found = _SIZE.fullmatch(text)
    if found is None:
        raise BadQuery(f"{text!r} is no size such as 500MB or 1.5GB")
    return min(float(found[1]) * _UNITS[found[2].lower()], 2.0**62)


def _age(text: str) -> float:
    found = _AGE.fullmatch(text)
    if found is None:
        raise BadQuery(f"{text!r} is no age such as 12h, 7d or 4w")
    return float(found[1]) * _AGES[found[2]]
