"""Two hundred uploads of one name at the same moment, over HTTP, by several workers, on both databases."""

import asyncio
from pathlib import Path

import httpx
import pytest

from tests.server import Server
from tests.services.postgresql import Postgresql

from . import samples

NUMBER = 200


@pytest.mark.soak
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
async def test_versions_are_distinct_and_gapless(database: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    settings = ["bolt.enabled=true", "bolt.default_profiles=false"]
    if database == "postgresql":
        postgresql: Postgresql = request.getfixturevalue("postgresql")
        settings.append(f"metadata.url={postgresql.url(postgresql.new_database())}")
    with Server(tmp_path, *settings) as server:
        limits = httpx.Limits(max_connections=NUMBER)
        async with httpx.AsyncClient(base_url=server.url, limits=limits, timeout=300) as client:

            async def upload(priority: int) -> str:
                body = {"profile": samples.profile("same", priority=priority), "metadata": samples.metadata()}
                answer = await client.post("/v1/profiles/upload", json=body)
                assert answer.status_code == 200, answer.text
                return str(answer.json()["version"])

            made = await asyncio.gather(*map(upload, range(NUMBER)))
            assert sorted(made) == sorted(f"1.{minor}.0" for minor in range(NUMBER))
            known = (await client.get("/v1/profiles/same/versions")).json()["versions"]
            tags = (await client.get("/v2/bolt/profiles/same/tags/list?n=1000")).json()["tags"]
            assert {one["version"] for one in known} == set(tags) == set(made)
            for priority, version in list(enumerate(made))[::20]:
                detail = (await client.get(f"/v1/profiles/same?version={version}")).json()
                assert detail["profile"]["priority"] == priority
