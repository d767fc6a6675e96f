"""Compares names with patterns of one wildcard."""


def matches(pattern: str, name: str) -> bool:
    """Says whether ``name`` is ``pattern``, in which ``*`` is any text, also none; takes time in proportion to both."""
    first, *others = pattern.split("*")
    if not others:
        return name == pattern
    *middle, last = others
    if not name.startswith(first) or len(name) < len(first) + len(last):
        return False
    end = len(name) - len(last)
    place = len(first)
    for part in middle:
        found = name.find(part, place, end)
        if found < 0:
            return False
        place = found + len(part)
    return name.endswith(last)
