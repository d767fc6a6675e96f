"""Bolt's repository of profiles: one object with all, as its types have them, and profiles that are handed in."""

from typing import Annotated, Any, Literal

import httpx
import msgspec
import pytest
from drift_bolt.model import ProfileUpload
from drift_bolt.repository import Submission, upload_of
from msgspec import Meta, Struct

from tests.server import Server

from . import samples
from .client import BoltError, DriftClient, Time
from .test_bolt_client import refusal

U32 = Annotated[int, Meta(ge=0, le=0xFFFFFFFF)]
Vendor = Literal["Nvidia", "Amd", "Intel", "Any"]


class Requirements(Struct):
    """As Bolt's serde reads it: all of them may be null."""

    min_cpu_cores: U32 | None = None
    min_memory_gb: U32 | None = None
    required_gpu_vendor: Vendor | None = None
    min_gpu_memory_gb: U32 | None = None


class Metadata(Struct):
    author: str
    version: str
    created_at: Time
    updated_at: Time
    downloads: int
    rating: float
    verified: bool
    tags: list[str]
    compatible_games: list[str]
    min_requirements: Requirements


class Entry(Struct):
    profile: dict[str, Any]
    metadata: Metadata


def profiles(client: DriftClient) -> dict[str, Entry]:
    return msgspec.json.decode(client.ask("GET", "/v1/repository/profiles").content, type=dict[str, Entry])


def test_all_profiles_in_one_object(ann: DriftClient, bob: DriftClient) -> None:
    for priority in (1, 2):
        ann.upload_profile(samples.profile("offered", priority=priority), samples.metadata())
    needs = {**samples.metadata()["system_requirements"], "required_gpu_vendor": "3dfx"}
    ann.upload_profile(samples.profile("offered-too"), samples.metadata(system_requirements=needs))
    bob.ask("POST", "/v1/profiles/offered/ratings", json={"rating": 4})
    found = profiles(bob)
    assert found["offered"].profile == samples.profile("offered", priority=2)
    about = found["offered"].metadata
    assert (about.author, about.version, about.rating, about.verified) == ("ann", "1.1.0", 4.0, False)
    assert (about.tags, about.compatible_games) == (["example", "amd"], ["Some Game 2"])
    assert about.min_requirements == Requirements(min_cpu_cores=4, required_gpu_vendor="Amd")
    assert found["offered-too"].metadata.min_requirements.required_gpu_vendor is None, "Bolt would skip the entry"


def test_a_profile_is_handed_in(ann: DriftClient, bob: DriftClient) -> None:
    sent = {
        "profile": samples.profile("handed-in", description=""),
        "author_email": "ann@example.org",
        "description": "said beside it",
        "tags": ["handed"],
        "compatible_games": ["Some Game 3"],
    }
    for version in ("1.0.0", "1.1.0"):
        answer = ann.ask("POST", "/v1/repository/submit", json=sent)
        assert answer.json() == {"profile": "handed-in", "version": version}
    detail = bob.get_profile("handed-in")
    assert detail.profile["description"] == "said beside it"
    assert (detail.metadata.author, detail.metadata.tags) == ("ann", ["handed"])
    for changes, status in (({"profile": samples.profile("Refused")}, 400), ({"tags": None}, 400)):
        with pytest.raises(BoltError) as error:
            ann.ask("POST", "/v1/repository/submit", json={**sent, **changes})
        assert refusal(error)[0] == status


def test_a_description_of_its_own_stays() -> None:
    sent = {"profile": samples.profile("own"), "author_email": "", "description": "other", "tags": []}
    upload: ProfileUpload = upload_of(msgspec.convert({**sent, "compatible_games": []}, Submission))
    assert upload.profile.description == "own example"


def test_both_need_what_lists_and_uploads_need(server: Server) -> None:
    """That is a login here; who may read only is told by the scope of the routes, see `test_pages`."""
    assert httpx.get(f"{server.url}/v1/repository/profiles").status_code == 401
    assert httpx.post(f"{server.url}/v1/repository/submit", json={}).status_code == 401
