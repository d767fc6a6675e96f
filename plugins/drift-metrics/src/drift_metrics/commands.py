"""The command ``drift top``: a server that is looked at for a moment, or for a while."""

import base64
import os
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.live import Live

from drift_core.api import StartError
from drift_metrics.figures import Figures, figures
from drift_metrics.reading import Away, Reading, Server
from drift_metrics.view import view

URL = "http://127.0.0.1:5000"


@click.command()
@click.option(
    "--url", default=URL, show_default=True, help="The server; with a path where metrics.endpoint is another."
)
@click.option("--username", help="Who logs in, with a password.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@click.option("--password-file", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Read it there.")
@click.option("--password-env", metavar="NAME", help="Read it from this variable of the environment.")
@click.option("--token-file", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="A token, instead.")
@click.option("--token-env", metavar="NAME", help="A token in this variable of the environment.")
@click.option("--ca-file", type=click.Path(exists=True, dir_okay=False), help="Who may sign its certificate, in PEM.")
@click.option(
    "--interval", type=click.FloatRange(0.1, 3600), default=2.0, show_default=True, help="Seconds between two readings."
)
@click.option("--once", is_flag=True, help="Print the figures of one interval, and end.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line for programs.")
def top(
    *,
    url: str,
    username: str | None,
    password_stdin: bool,
    password_file: Path | None,
    password_env: str | None,
    token_file: Path | None,
    token_env: str | None,
    ca_file: str | None,
    interval: float,
    once: bool,
    as_json: bool,
) -> None:
    """Show what a server does right now: requests, errors, durations, bytes, queues, storage and database.

    It is read from its metrics, which takes the scope registry:*:* where somebody has to log in. What is shown is of
    one node, between two readings. End it with Ctrl-C.
    """
    password = _secret(password_file, password_env, from_stdin=password_stdin)
    token = _secret(token_file, token_env)
    if (username is None) != (password is None):
        raise click.UsageError("--username and one of --password-stdin, --password-file, --password-env go together")
    if password is not None and token is not None:
        raise click.UsageError("give either a password, or a token")
    authorization = None if token is None else f"Bearer {token}"
    if username is not None:
        authorization = f"Basic {base64.b64encode(f'{username}:{password}'.encode()).decode()}"
    server = Server(url, authorization, ca_file)
    try:
        _once(server, interval, as_json=as_json) if once else _watch(server, interval, as_json=as_json)
    except KeyboardInterrupt:
        return


def _once(server: Server, interval: float, *, as_json: bool) -> None:
    before = server.read()
    time.sleep(interval)
    found = figures(before, server.read())
    if as_json:
        _print(found)
    else:
        Console().print(view(server.url, found))


def _watch(server: Server, interval: float, *, as_json: bool) -> None:
    """Shows figures until it is interrupted."""
    console = Console()
    # In a pipe there is no screen to be drawn anew.
    lively = console.is_terminal and not as_json
    screen = Live(view(server.url, None), console=console, auto_refresh=False, screen=True) if lively else nullcontext()
    with screen as live:
        for found, trouble in _following(server, interval):
            if live is not None:
                live.update(view(server.url, found, trouble), refresh=True)
            elif trouble is not None:
                click.echo(trouble, err=True)
            elif found is not None:
                _print(found) if as_json else console.print(view(server.url, found))


def _following(server: Server, interval: float) -> Iterator[tuple[Figures | None, str | None]]:
    """Yields the newest figures for ever, and why they are not newer: a server that is away is asked again."""
    before: Reading | None = None
    found: Figures | None = None
    while True:
        trouble = None
        try:
            now = server.read()
            found = None if before is None else figures(before, now)
            before = now
        except Away as error:
            trouble = f"{time.strftime('%H:%M:%S')}: {error}; trying again"
        yield found, trouble
        time.sleep(interval)


def _print(found: Figures) -> None:
    click.echo(msgspec.json.encode(found))
    sys.stdout.flush()


def _secret(file: Path | None, variable: str | None, *, from_stdin: bool = False) -> str | None:
    """Returns a secret from where it is, None where there is none. Raises `StartError`, and `click.UsageError`."""
    if sum((file is not None, variable is not None, from_stdin)) > 1:
        raise click.UsageError("a secret comes from one place: standard input, a file, or the environment")
    if from_stdin:
        return sys.stdin.readline().rstrip("\n")
    if file is not None:
        return file.read_text().strip()
    if variable is None:
        return None
    if variable not in os.environ:
        message = f"there is no {variable} in the environment"
        raise StartError(message)
    return os.environ[variable]
