"""The command `drift login`: logs a program in that has no browser, by the client's side of RFC 8628."""

import time
from typing import Any
from urllib.parse import urlsplit

import click
import httpx

from drift_auth_oidc.docker_config import check, docker_config_file, store
from drift_core.api import is_loopback

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
SECONDS = 30.0
"""Until the server has to answer."""


@click.command()
@click.argument("registry_url")
@click.option("--provider", help="The login provider, where the server has several.")
@click.option("--print", "only_print", is_flag=True, help="Print the token instead of storing it for docker.")
def login(registry_url: str, *, provider: str | None, only_print: bool) -> None:
    """Log in to a registry in a browser, on this machine or another; docker, crane and others then use the token."""
    base = base_of(registry_url)
    file, registry = docker_config_file(), urlsplit(base).netloc
    if not only_print:
        check(file, registry)
    token = log_in(base, provider)
    if only_print:
        click.echo(token["access_token"])
        return
    store(file, registry, token["access_token"])
    click.echo(f"logged in as {token['name']}; the token is in {file}", err=True)


def log_in(base: str, provider: str | None) -> dict[str, Any]:
    """Returns what the server at ``base`` gives once somebody has confirmed the code that is shown.

    Raises:
        ClickException: nobody did, or the server cannot be asked.
    """
    with httpx.Client(base_url=base, timeout=SECONDS) as client:
        begun = _post(client, "/auth/device/code", {"provider": provider or "", "client_name": "drift login"})
        click.echo(f"Open {begun['verification_uri_complete']}\nand confirm the code {begun['user_code']}", err=True)
        return _await_token(client, begun)


def base_of(registry_url: str) -> str:
    """Returns scheme and host of what was typed. Raises `ClickException` where the token would go unprotected."""
    url = registry_url if "://" in registry_url else f"//{registry_url}"
    parts = urlsplit(url)
    near = is_loopback(parts.hostname or "")
    scheme = parts.scheme or ("http" if near else "https")
    if not parts.hostname or scheme not in ("http", "https"):
        raise click.ClickException(f"{registry_url} is no address of a registry")
    if scheme == "http" and not near:
        raise click.ClickException("a login needs https: over http everybody on the way could read the token")
    return f"{scheme}://{parts.netloc}"


def _post(client: httpx.Client, path: str, fields: dict[str, str]) -> dict[str, Any]:
    """Returns the JSON of an answer, also of a refusal in the form of RFC 6749. Raises `ClickException`."""
    try:
        answer = client.post(path, data=fields)
        document = answer.json()
    except httpx.HTTPError as error:
        raise click.ClickException(f"{client.base_url} cannot be reached: {error}") from error
    except ValueError as error:
        raise click.ClickException(f"{client.base_url} does not answer like Drift") from error
    if not isinstance(document, dict) or (answer.is_error and "error" not in document):
        raise click.ClickException(f"{client.base_url} lets nobody log in by a browser (status {answer.status_code})")
    return {str(name): value for name, value in document.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


def _await_token(client: httpx.Client, begun: dict[str, Any]) -> dict[str, Any]:
    interval = float(begun.get("interval", 5))
    deadline = time.monotonic() + float(begun["expires_in"])
    while time.monotonic() < deadline:
        time.sleep(interval)
        given = _post(client, "/auth/device/token", {"grant_type": DEVICE_GRANT, "device_code": begun["device_code"]})
        match given.get("error"):
            case None:
                return given
            case "authorization_pending":
                pass
            case "slow_down":
                interval += 5
            case "access_denied":
                raise click.ClickException("the login was refused")
            case _:
                break
    raise click.ClickException("nobody confirmed the login in time")
