"""Everything that a server with every plugin answers without credentials is in this list, and nothing else is."""

import json
import subprocess

from tests.server import DRIFT
from tests.tools import ROOT

PUBLIC = {
    # The state of the server.
    "/health": "GET",
    "/healthz": "GET",
    "/readyz": "GET",
    "/version": "GET",
    # Who has no token yet asks for one; who sends credentials here is identified by them.
    "/auth/token": "GET POST",
    "/oauth2/token": "GET POST",
    "/auth/keys": "GET",
    "/v1/auth/login": "POST",
    "/v1/auth/refresh": "POST",
    "/v1/auth/register": "POST",
    # These ask by themselves who sends the request, and refuse nobody in particular.
    "/v1/auth/logout": "POST",
    "/v1/auth/whoami": "GET",
    "/api/tokens": "GET POST",
    "/api/tokens/{token}": "DELETE",
    "/auth/tokens": "GET",
    "/auth/tokens/{identifier}": "DELETE",
    "/auth/user": "GET",
    "/auth/user/organizations": "GET",
    "/auth/user/teams": "GET",
    "/auth/user/repositories": "GET",
    "/auth/logout": "POST",
    "/auth/logout-everywhere": "POST",
    # The browser on its way to a provider and back, a device, a job of a CI.
    "/auth/login": "GET",
    "/auth/oidc": "GET",
    "/auth/oidc/callback": "GET",
    "/auth/login/oidc": "GET",
    "/auth/callback/oidc": "GET",
    "/auth/device": "GET POST",
    "/auth/device/code": "POST",
    "/auth/device/token": "POST",
    "/auth/workload/token": "POST",
}
SETTINGS = ('auth.chain=["token", "basic", "oidc"]', "rbac.enabled=true", "audit.enabled=true")


def test_public_endpoints() -> None:
    provider = ("auth.oidc.issuer=https://login.example.org", "auth.oidc.client_id=a", "auth.oidc.client_secret=b")
    options = [part for setting in (*SETTINGS, *provider) for part in ("--set", setting)]
    command = [str(DRIFT), "plugins", "routes", "--json", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found: dict[str, list[str]] = {}
    for row in json.loads(done.stdout):
        if row["needs"] == "public":
            found.setdefault(row["path"], []).extend(row["methods"])
    assert {path: " ".join(sorted(methods)) for path, methods in found.items()} == PUBLIC
