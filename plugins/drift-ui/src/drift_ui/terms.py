"""What of a name is found: its parts, and of each part three characters at a time, so that typing errors do no harm."""

import re
from difflib import SequenceMatcher

_SEPARATOR = re.compile(r"[/._-]+")
MOST_TERMS = 24


def terms_of(name: str) -> list[str]:
    """Returns the name, its path components, and their words, each once."""
    components = name.split("/")
    words = [word for component in components for word in _SEPARATOR.split(component) if word]
    return list(dict.fromkeys([name, *components, *words]))[:MOST_TERMS]


def grams_of(term: str) -> set[str]:
    """Returns every three characters in a row of a term, with a space before it and behind."""
    padded = f" {term} "
    return {padded[place : place + 3] for place in range(max(1, len(padded) - 2))}


def shared(one: str, other: str) -> float:
    """Returns how many of the grams of both are in both: 0 to 1."""
    left, right = grams_of(one), grams_of(other)
    return len(left & right) / len(left | right)


def likeness(one: str, other: str) -> float:
    """Returns how like two words are, from 0 to 1: more exact than `shared`, and slower."""
    return SequenceMatcher(None, one, other, autojunk=False).ratio()
