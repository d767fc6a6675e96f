"""The commands ``drift import distribution``, ``oci-layout`` and ``registry``, and ``drift export``."""

import asyncio
import getpass
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

import click

from drift_core.api import Config, Identity, LocalRegistry, StartError, configured, open_registry
from drift_transfer.distribution import Distribution
from drift_transfer.exporting import Export
from drift_transfer.files import Files, Folder
from drift_transfer.importing import Import
from drift_transfer.layout import Layouts, is_layout
from drift_transfer.remote import open_remote
from drift_transfer.showing import progress, show
from drift_transfer.source import Source, SourceError
from drift_transfer.tally import Tally

F = TypeVar("F", bound=Callable[..., Any])


def transferring(command: F) -> F:
    """Adds the options that every command of this plugin has."""
    options = (
        click.option("--jobs", type=click.IntRange(1, 64), default=8, show_default=True, help="Blobs moved at a time."),
        click.option("--dry-run", is_flag=True, help="Only say what there is to do."),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object for programs."),
    )
    made = cast("F", configured(command))
    for option in reversed(options):
        made = option(made)
    return made


@click.group("import")
def import_group() -> None:
    """Copy images from elsewhere into this registry, beside servers that run or without one."""


@import_group.command("distribution")
@click.argument("place", metavar="PATH|s3://BUCKET[/PREFIX]")
@click.option("--endpoint", metavar="URL", help="The S3 service, where it is not Amazon's.")
@transferring
def import_distribution(settings: Config, *, place: str, endpoint: str | None, **options: Any) -> None:
    """Import what distribution (registry:2, registry:3) has stored: tags, untagged manifests, referrers, blobs.

    PATH is the root folder of its storage. It should not be pushed to meanwhile. Credentials of a bucket are found as
    every AWS client finds them: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile.
    """

    @asynccontextmanager
    async def opened() -> AsyncIterator[Source]:
        source = Distribution(_files(place, endpoint, options["jobs"]))
        await source.open()
        yield source

    _import(settings, opened(), (), **options)


@import_group.command("oci-layout")
@click.argument("folder", metavar="PATH", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("repository", required=False)
@transferring
def import_layout(settings: Config, *, folder: Path, repository: str | None, **options: Any) -> None:
    """Import the OCI image layout PATH into REPOSITORY; without REPOSITORY, every layout below the folder PATH.

    Each is then named by its path below PATH, as `drift export` and zot lay them out. Its annotations
    org.opencontainers.image.ref.name are the tags.
    """
    if repository is None and is_layout(folder):
        message = f"{folder} is itself an image layout: say into which REPOSITORY it is to go"
        raise click.UsageError(message)

    @asynccontextmanager
    async def opened() -> AsyncIterator[Source]:
        yield Layouts(folder, repository)

    _import(settings, opened(), (), **options)


@import_group.command("registry")
@click.argument("url")
@click.argument("repositories", metavar="[REPOSITORY]...", nargs=-1)
@click.option("--username", help="Who logs in; else nobody does.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@click.option("--password-file", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Read it there.")
@click.option("--password-env", metavar="NAME", help="Read it from this variable of the environment.")
@click.option("--ca-file", type=click.Path(exists=True, dir_okay=False), help="Who may sign its certificate, in PEM.")
@transferring
def import_registry(
    settings: Config,
    *,
    url: str,
    repositories: Sequence[str],
    username: str | None,
    password_stdin: bool,
    password_file: Path | None,
    password_env: str | None,
    ca_file: str | None,
    **options: Any,
) -> None:
    """Import from the registry at URL, such as https://registry.example.com: REPOSITORY..., or all that it lists.

    Tags come with all that they reach and what refers to it. What is neither, no registry lists.
    """
    password = _password(password_file, password_env, from_stdin=password_stdin)
    if (username is None) != (password is None):
        raise click.UsageError("--username and one of --password-stdin, --password-file, --password-env go together")
    source = open_remote(url, username, password, ca_file, 2 * options["jobs"])
    _import(settings, source, repositories, **options)


@click.command("export")
@click.argument("folder", metavar="PATH", type=click.Path(path_type=Path, file_okay=False))
@click.argument("wanted", metavar="[REPOSITORY[:TAG]]...", nargs=-1)
@transferring
def export_repositories(
    settings: Config, *, folder: Path, wanted: Sequence[str], jobs: int, dry_run: bool, as_json: bool
) -> None:
    """Write repositories as OCI image layouts: REPOSITORY into the folder PATH/REPOSITORY. Without one, all.

    A TAG brings what refers to its image, such as signatures, and is added to the layout that is there.
    """
    selection = [(name, tag or None) for name, _, tag in (one.partition(":") for one in wanted)]

    async def run(registry: LocalRegistry, tally: Tally) -> None:
        try:
            await Export(registry, folder, tally, jobs, dry_run=dry_run).run(selection)
        except OSError as error:
            message = f"{error.filename or folder} cannot be written: {error.strerror}"
            raise StartError(message) from error

    _run(settings, run, dry_run=dry_run, as_json=as_json)


def _import(
    settings: Config,
    source: AbstractAsyncContextManager[Source],
    repositories: Sequence[str],
    *,
    jobs: int,
    dry_run: bool,
    as_json: bool,
) -> None:
    async def run(registry: LocalRegistry, tally: Tally) -> None:
        try:
            async with source as opened:
                await Import(opened, registry, tally, jobs, dry_run=dry_run).run(repositories)
        except SourceError as error:
            raise StartError(str(error)) from error

    _run(settings, run, dry_run=dry_run, as_json=as_json)


def _run(
    settings: Config, work: Callable[[LocalRegistry, Tally], Awaitable[None]], *, dry_run: bool, as_json: bool
) -> None:
    """Does the work on the opened registry, shows what came of it, and ends with 1 where something failed."""
    tally = Tally()

    async def run() -> None:
        identity = Identity(getpass.getuser(), "command")
        async with open_registry(settings, identity) as registry, progress(tally, quiet=as_json):
            await work(registry, tally)

    asyncio.run(run())
    show(tally, dry_run=dry_run, as_json=as_json)
    raise SystemExit(tally.failed > 0)


def _files(place: str, endpoint: str | None, jobs: int) -> Files:
    if not place.startswith("s3://"):
        return Folder(Path(place).absolute())
    try:
        from drift_transfer.bucket import Bucket  # noqa: PLC0415 - is an extra
    except ImportError as error:
        message = f"{error.name} is not installed; pip install 'drift-transfer[s3]'"
        raise StartError(message) from error
    parts = urlsplit(place)
    return Bucket(parts.netloc, parts.path, endpoint, 2 * jobs)


def _password(file: Path | None, variable: str | None, *, from_stdin: bool) -> str | None:
    if sum((from_stdin, file is not None, variable is not None)) > 1:
        raise click.UsageError("the password is read from one place")
    if from_stdin:
        return sys.stdin.read().removesuffix("\n")
    if file is not None:
        return file.read_text().removesuffix("\n")
    if variable is not None and variable not in os.environ:
        message = f"the environment variable {variable} is not set"
        raise click.UsageError(message)
    return None if variable is None else os.environ[variable]
