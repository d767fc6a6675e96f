"""Who may log in: the accounts of every source, and what it costs to try their passwords."""

from collections.abc import Iterable, Mapping, Sequence
from math import inf
from typing import Protocol

from msgspec import Struct

from drift_auth_basic.hashes import cost_of
from drift_auth_basic.passwords import DECOY


class Account(Struct, frozen=True, gc=False):
    """One user: the hash of the password, and whether a right one is good at present."""

    name: str
    hashed: str
    disabled: bool = False


class Roster(Struct, frozen=True):
    """The accounts of one source by name; for each cost, how many of their hashes have it, and one of these.

    ``removed`` is when names were last taken from somebody, in seconds since the epoch.
    """

    accounts: Mapping[str, Account]
    costs: Mapping[str, tuple[int, str]]
    removed: Mapping[str, float] = {}

    @classmethod
    def of(cls, accounts: Iterable[Account], removed: Mapping[str, float] | None = None) -> "Roster":
        """Returns the roster of accounts; of two with the same name the first counts."""
        by_name: dict[str, Account] = {}
        costs: dict[str, tuple[int, str]] = {}
        for account in accounts:
            if by_name.setdefault(account.name, account) is account:
                cost = cost_of(account.hashed)
                costs[cost] = costs.get(cost, (0, ""))[0] + 1, account.hashed
        return cls(by_name, costs, removed or {})

    async def get(self) -> "Roster":
        """Returns itself: a roster that never changes is a `Source`."""
        return self


class Source(Protocol):
    """Where accounts come from."""

    async def get(self) -> Roster:
        """Returns the accounts as of at most a second ago, at once where nothing has changed."""
        ...


class Directory:
    """Looks in one source after the other."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = tuple(sources)

    async def find(self, name: str) -> Account | None:
        """Returns the account of the first source that has the name. Raises `Unavailable`."""
        for source in self._sources:
            account = (await source.get()).accounts.get(name)
            if account is not None:
                return account
        return None

    async def keeps(self, name: str, since: float) -> bool | None:
        """Returns whether a user may log in who was there at ``since``, None where nobody has had the name then.

        Raises `Unavailable`.
        """
        rosters = [await source.get() for source in self._sources]
        if any(since <= roster.removed.get(name, -inf) for roster in rosters):
            return False
        for roster in rosters:
            account = roster.accounts.get(name)
            if account is not None:
                return not account.disabled
        return None

    async def count(self) -> int:
        """Returns how many accounts all sources have, also those that another one hides. Raises `Unavailable`."""
        return sum([len((await source.get()).accounts) for source in self._sources])

    async def decoy(self) -> str:
        """Returns the hash to try for a name that nobody has, so that it takes as long as for most who exist."""
        costs: dict[str, tuple[int, str]] = {}
        for source in self._sources:
            for cost, (count, hashed) in (await source.get()).costs.items():
                costs[cost] = costs.get(cost, (0, ""))[0] + count, hashed
        return max(costs.values(), default=(0, DECOY))[1]
