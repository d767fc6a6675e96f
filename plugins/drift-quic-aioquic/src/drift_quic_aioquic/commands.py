"""The commands ``drift quic ping`` and ``drift quic get``, which need no configuration."""

import asyncio
from collections.abc import Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from drift_core.api import Digest, DigestInvalid, StartError
from drift_quic_aioquic.client import connect
from drift_quic_aioquic.fetching import Download, Wanted
from drift_quic_aioquic.targets import parse

CA_FILE = click.option(
    "--ca-file", type=click.Path(exists=True, dir_okay=False), help="Who vouches for the server's certificate, as PEM."
)
INSECURE = click.option("--insecure", is_flag=True, help="Do not check the server's certificate.")
SHOWN_DIGITS = 12


@click.group()
def quic() -> None:
    """Talk to a registry by QUIC."""


@quic.command()
@click.argument("address", metavar="HOST:PORT")
@CA_FILE
@INSECURE
@click.option("--count", default=3, show_default=True, type=click.IntRange(1, 1000), help="How many signs of life.")
def ping(address: str, *, ca_file: str | None, insecure: bool, count: int) -> None:
    """Ask a server for signs of life; ends with 1 where none comes."""
    host, port = _parsed(address)

    async def run() -> None:
        async with connect(host, port, ca_file=ca_file, verified=not insecure) as client:
            for _ in range(count):
                async with asyncio.timeout(10):
                    click.echo(f"{address} answered after {await client.ping() * 1000:.1f} ms")

    _run(run())


@quic.command()
@click.argument("wanted", metavar="HOST:PORT/REPOSITORY@DIGEST")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The file; else the digest's first digits.")
@click.option("--streams", default=4, show_default=True, type=click.IntRange(1, 64), help="Ranges at once.")
@click.option(
    "--authorization", envvar="DRIFT_QUIC_AUTHORIZATION", help="The header Authorization, better by environment."
)
@CA_FILE
@INSECURE
def get(
    wanted: str, *, output: Path | None, streams: int, authorization: str | None, ca_file: str | None, insecure: bool
) -> None:
    """Download a blob; called again after a break, it fetches only what is missing."""
    address, _, rest = wanted.partition("/")
    repository, _, text = rest.partition("@")
    host, port = _parsed(address)
    try:
        digest = Digest.parse(text)
    except DigestInvalid as error:
        message = f"{wanted}: {error.message}"
        raise StartError(message) from error
    target = output or Path(digest.encoded[:SHOWN_DIGITS])
    headers = ((b"authorization", authorization.encode()),) if authorization else ()

    async def run() -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bars:
            bar = bars.add_task(target.name, total=None)

            def told(done: int, size: int) -> None:
                bars.update(bar, completed=done, total=size)

            download = Download(Wanted(f"/v2/{repository}/blobs/{digest}", digest, headers), target, streams, told)
            await download.run(partial(connect, host, port, ca_file=ca_file, verified=not insecure))
        click.echo(f"{target}: {digest}")

    _run(run())


def _parsed(address: str) -> tuple[str, int]:
    try:
        return parse(address)
    except ValueError as error:
        raise StartError(str(error)) from error


def _run(work: Coroutine[Any, Any, None]) -> None:
    try:
        asyncio.run(work)
    except TimeoutError as error:
        message = "no answer in time"
        raise StartError(message) from error
    except OSError as error:
        raise StartError(str(error)) from error
