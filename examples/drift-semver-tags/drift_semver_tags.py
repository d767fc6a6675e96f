"""Lets only semantic versions (semver.org) be tags of some repositories: a whole plugin in one file.

[semver_tags]
repositories = ["release/*"]
"""

import re
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from fnmatch import fnmatchcase

from drift_core.api import Action, Change, Denied, Driver, Feature, Services, Struct, hookimpl

NUMBER = r"(0|[1-9]\d*)"
VERSION = re.compile(rf"v?{NUMBER}\.{NUMBER}\.{NUMBER}(-[0-9A-Za-z.-]+)?")
"""A version as a tag can spell it: the ``+`` of build metadata is no character of a tag."""


class SemverTagsConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """``repositories`` are globs."""

    repositories: tuple[str, ...] = ()


class SemverTags:
    """A gate: asked before every push of a manifest."""

    name = "semver_tags"
    gated: Sequence[Action] = ("manifest.push",)

    def __init__(self, config: SemverTagsConfig) -> None:
        self._repositories = config.repositories

    async def admit(self, change: Change) -> None:
        """Raises `Denied` for a tag that is no version; a push by digest sets no tag."""
        if any(fnmatchcase(change.repository, glob) for glob in self._repositories):
            for tag in change.tags:
                if VERSION.fullmatch(tag) is None:
                    raise Denied(f"{tag} is not a semantic version")


@asynccontextmanager
async def open_semver_tags(config: SemverTagsConfig, services: Services) -> AsyncIterator[SemverTags]:
    """Opens the feature for as long as the server runs."""
    services.log.info("tags have to be versions", repositories=config.repositories)
    yield SemverTags(config)


@hookimpl
def drift_features() -> Iterable[Driver[Feature]]:
    """Offers the feature; it is on wherever the plugin is installed."""
    return [Driver("semver_tags", SemverTagsConfig, open_semver_tags)]
