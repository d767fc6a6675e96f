"""The conditions of permissions: their forms, and whether each holds."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, time, tzinfo
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from drift_core.api import Struct, asking
from drift_rbac.globs import Glob, is_glob

Kind = Literal["TimeRange", "IpRange", "Tag", "Attribute", "Repository", "Namespace"]

LONGEST_TAG = 128
MOST_TAG_STARS = 4


class Moment(Struct, frozen=True):
    """When somebody asks, and from which address; None is not known, and is in no IpRange."""

    time: time
    address: str | None


Test = Callable[[Moment], bool]


def zone(name: str) -> tzinfo:
    """Returns a time zone of the IANA database. Raises ValueError for one that is not known."""
    try:
        # Known even where a system has no such database.
        return UTC if name == "UTC" else ZoneInfo(name)
    except (ZoneInfoNotFoundError, OSError) as error:
        message = f"{name!r} is not known"
        raise ValueError(message) from error


def moment(zone: tzinfo) -> Moment:
    """Returns the moment of the request that the running task answers."""
    credentials = asking()
    return Moment(datetime.now(zone).time(), credentials.client_address if credentials else None)


def check(kind: Kind, value: str) -> None:
    """Raises ValueError for a value that is none of this kind.

    TimeRange is such as ``09:00-17:00``, without its end, and may pass midnight; IpRange a network such as
    ``10.0.0.0/8``; Tag a glob, after ``!`` one that must not match; Attribute such as ``level=Executive``; Repository a
    glob; Namespace a path.
    """
    fits: dict[str, Callable[[str], bool]] = {
        "TimeRange": _is_time_range,
        "IpRange": _is_network,
        "Tag": lambda text: 0 < len(text.removeprefix("!")) <= LONGEST_TAG and text.count("*") <= MOST_TAG_STARS,
        "Attribute": lambda text: text.find("=") > 0,
        "Repository": is_glob,
        "Namespace": lambda text: is_glob(text) and "*" not in text,
    }
    if not fits[kind](value):
        message = f"{value!r} is no {kind}"
        raise ValueError(message)


@lru_cache(4096)
def test(kind: Kind, value: str) -> Test:
    """Returns whether a TimeRange or an IpRange holds, as a function of the moment."""
    if kind == "TimeRange":
        begin, end = (time.fromisoformat(part) for part in value.split("-"))
        if begin <= end:
            return lambda moment: begin <= moment.time < end
        return lambda moment: moment.time >= begin or moment.time < end
    network = ip_network(value)

    def inside(moment: Moment) -> bool:
        try:
            return moment.address is not None and ip_address(moment.address) in network
        except ValueError:
            # A transport may know no address, such as that of a Unix socket.
            return False

    return inside


def fits_tag(value: str, tag: str) -> bool:
    """Returns whether a Tag condition holds for a tag."""
    return not Glob(value[1:]).match(tag) if value.startswith("!") else Glob(value).match(tag)


def has_attribute(value: str, attributes: Mapping[str, str]) -> bool:
    """Returns whether an Attribute condition holds."""
    name, _, wanted = value.partition("=")
    return attributes.get(name) == wanted


def _is_time_range(text: str) -> bool:
    begin, _, end = text.partition("-")
    try:
        return len(begin) == len(end) == len("00:00") and time.fromisoformat(begin) != time.fromisoformat(end)
    except ValueError:
        return False


def _is_network(text: str) -> bool:
    try:
        ip_network(text)
    except ValueError:
        return False
    return True
