"""What a login costs a pull: Drift with each way to log in, in turn; `python -m benchmarks.logins`."""

import tempfile
from base64 import b64encode
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import httpx

from benchmarks.warm_pull import Puller, chosen_scale, compare
from tests.server import Server

BASIC = "Basic " + b64encode(b"ann:not a secret").decode()
USERS = 'auth.basic.users=["ann:not a secret"]'
WAYS: dict[str, tuple[str, ...]] = {
    "nobody logs in": ("auth.mode=none",),
    "basic": ("auth.mode=basic", USERS),
    "token": ('auth.chain=["token", "basic"]', USERS),
    "basic, roles": ("auth.mode=basic", USERS, "rbac.enabled=true", 'rbac.admins=["ann"]'),
    "basic, audit": ("auth.mode=basic", USERS, "audit.enabled=true"),
    "basic, audit without pulls": ("auth.mode=basic", USERS, "audit.enabled=true", "audit.pulls=false"),
}
"""The settings of each; the first is what the others are compared with."""


def token(server: Server) -> str:
    """Returns what a client sends that has asked for a token."""
    asked = {"service": server.host, "scope": "repository:app:pull,push"}
    answer = httpx.get(f"{server.url}/auth/token", params=asked, headers={"authorization": BASIC}).raise_for_status()
    return f"Bearer {answer.json()['token']}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table."""
    rounds, requests = chosen_scale(__doc__, arguments)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        pullers = {}
        for name, settings in WAYS.items():
            place = Path(folder) / name.replace(" ", "-")
            server = stack.enter_context(Server(place, "logging.level=warning", *settings, workers=1))
            sent = {"nobody logs in": "", "token": ""}.get(name, BASIC)
            pullers[name] = Puller(server, token(server) if name == "token" else sent)
        compare("Who logs in", pullers, rounds, requests)


if __name__ == "__main__":
    main()
