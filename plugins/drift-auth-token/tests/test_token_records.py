"""What the audit trail and the metrics hear of tokens, and that neither hears a secret."""

import time

import jwt
import pytest
from drift_auth_token.asked import parse
from drift_auth_token.authenticator import TokenAuthenticator, open_authenticator
from drift_auth_token.config import TokenConfig
from drift_auth_token.grants import begin
from prometheus_client import generate_latest

from drift_core.api import Credentials, Identity, Records, Scope, Unauthorized
from drift_core.conformance import MemoryAuditor

from .conftest import bearer, lent

pytestmark = pytest.mark.anyio

ALICE = Identity("alice", "basic", scopes=frozenset({Scope("repository", "team/*", "pull")}))


async def test_every_token_is_on_record(opened: TokenAuthenticator, heard: MemoryAuditor) -> None:
    grant = begin("pat", ALICE, title="laptop", expires=time.time() + 60)
    token = await opened.service.grant(grant, ALICE)
    issued = await opened.service.access(ALICE, parse(["repository:team/app:pull"]))
    identity, login, refresh = await opened.service.login(ALICE)
    _, renewed, again = await opened.service.renew(refresh)
    found = await opened.service.grants.find(identity.grant)
    assert found is not None
    await opened.service.grants.revoke(found, identity, "Logout")
    await opened.service.grants.revoke(grant, None, username="root")
    kinds = ["TokenIssued", "TokenIssued", "Login", "TokenIssued", "TokenRefreshed", "Logout", "TokenRevoked"]
    assert heard.types() == kinds
    assert [event.severity for event in heard.events] == ["info", "debug", *["info"] * 5]
    first, access, *_, last = heard.events
    assert (first.resource_id, first.parameters["kind"], first.parameters["scopes"]) == (
        *(grant.id, "pat"),
        ["repository:team/*:pull"],
    )
    assert access.resource_id == jwt.decode(issued.token, options={"verify_signature": False})["jti"]
    assert access.parameters["scopes"] == ["repository:team/app:pull"]
    assert (last.identity, last.username) == (None, "root")
    signatures = [signed.token.split(".")[-1] for signed in (issued, login, renewed)]
    secrets = [opaque.split("_")[-1] for opaque in (token, refresh, again)]
    for event in heard.events:
        assert not [secret for secret in signatures + secrets if secret in repr(event)]


async def test_what_is_measured(records: Records) -> None:
    services = lent(records)
    async with open_authenticator(TokenConfig(), services) as opened:
        issued = await opened.service.access(ALICE, [])
        for _ in range(5):
            await opened.authenticate(bearer(issued.token))
        for _ in range(2):
            with pytest.raises(Unauthorized):
                await opened.authenticate(bearer(f"{issued.token}x"))
        await opened.authenticate(Credentials(None, (), "192.0.2.1"))
    lines = generate_latest(services.metrics).decode().splitlines()
    for line in (
        'drift_token_issued_total{kind="access"} 1.0',
        'drift_token_verified_total{kind="access"} 1.0',
        "drift_token_refused_total 2.0",
        "drift_token_cache_hits_total 4.0",
    ):
        assert line in lines
