"""Somebody, or a job, whom a provider has named."""

from msgspec import Struct

from drift_core.api import Identity, Scope


class Person(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is kept of them; ``name`` already has the provider's prefix, ``scopes`` are as `Identity` has them."""

    provider: str
    subject: str
    name: str
    email: str | None = None
    full_name: str | None = None
    avatar_url: str | None = None
    groups: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    scopes: tuple[Scope, ...] | None = None

    def identity(self, *, delegated: bool = False) -> Identity:
        """Returns what the core asks the policies about; a program that acts for somebody is ``delegated``."""
        limits = None if self.scopes is None else frozenset(self.scopes)
        return Identity(self.name, self.provider, frozenset(self.groups), frozenset(self.roles), limits, delegated)


class Known(Struct, frozen=True):
    """A person, and the provider's token by which it can be asked about them again, where it has one."""

    person: Person
    access_token: str | None = None
