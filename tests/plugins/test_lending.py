"""What the core lends: to a layer the store beneath it, to a feature the optimizers and the registry itself."""

from collections.abc import Iterator

import httpx
import pytest

from tests.oci.content import EMPTY_CONFIG, Blob, image
from tests.plugins.installation import Installation
from tests.server import Server

MODULE = '''
"""A layer that shouts, and a feature that moves tags."""

import gzip
from contextlib import asynccontextmanager

from drift_core.api import Digest, Driver, Encoded, RegistryError, StoreLayer, Struct, hookimpl


class Config(Struct):
    enabled: bool = True


class Shouting(StoreLayer):
    """Gives small blobs out in gzip, too, where a client takes it."""

    async def encoded(self, digest, accepted):
        if "gzip" not in accepted or (await self.beneath.stat(digest)).size > 1000:
            return None
        packed = gzip.compress(b"".join([chunk async for chunk in self.beneath.read(digest)]))
        async def chunks():
            yield packed
        return Encoded("gzip", len(packed), chunks())


@asynccontextmanager
async def open_layer(config, services):
    yield Shouting(services)


class Nothing:
    async def optimize(self, layer, content, sink):
        return None


@asynccontextmanager
async def open_nothing(config, services):
    yield Nothing()


class Mover:
    name = "mover"

    def __init__(self, services):
        self.optimizers = services.optimizers

    def use(self, registry):
        self.registry = registry

    def routes(self):
        from litestar import get, post

        @get("/mover", sync_to_thread=False)
        def lent() -> list[str]:
            return list(self.optimizers)

        @post("/mover/{tag:str}/{old:str}/{new:str}")
        async def move(tag: str, old: str, new: str) -> str:
            old, new = (Digest.parse(f"sha256:{one}") for one in (old, new))
            media_type, content = await self.registry.manifest("team/app", new)
            try:
                await self.registry.push_manifest("team/app", content, media_type, new, [tag], instead_of=old)
            except RegistryError as error:
                return str(error.status)
            return "moved"

        return [lent, move]


@asynccontextmanager
async def open_mover(config, services):
    yield Mover(services)


@hookimpl
def drift_storage():
    return [Driver("shouting", Config, open_layer, layer=True)]


@hookimpl
def drift_optimizers():
    return [Driver("nothing", Config, open_nothing)]


@hookimpl
def drift_features():
    return [Driver("mover", Config, open_mover)]
'''
LAYERED = 'storage.layers=["shouting"]'


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    installed = Installation(tmp_path_factory.mktemp("lending"))
    installed.add("drift-lending", {"lending": "drift_lending"}, {"drift_lending": MODULE})
    return installed


@pytest.fixture(scope="module")
def server(installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(installation.folder))
        folder = tmp_path_factory.mktemp("server")
        # The tables of [optimization] that nobody else reads: whoever is installed for it is not part of this.
        with Server(folder, LAYERED, "optimization.enabled=true", 'plugins.disabled=["optimize"]') as server:
            yield server


def push(server: Server, blob: Blob) -> str:
    url = f"{server.url}/v2/team/app/blobs"
    assert httpx.post(f"{url}/uploads/?digest={blob.digest}", content=blob.content).status_code == 201
    return f"{url}/{blob.digest}"


def get(url: str, **headers: str) -> httpx.Response:
    return httpx.get(url, headers={name.replace("_", "-"): value for name, value in headers.items()})


def test_a_blob_in_a_coding(server: Server) -> None:
    blob = Blob(b"a text " * 100)
    url = push(server, blob)
    plain = get(url, accept_encoding="identity")
    assert (plain.content, plain.headers["etag"]) == (blob.content, f'"{blob.digest}"')
    assert (plain.headers["vary"], "content-encoding" in plain.headers) == ("accept-encoding", False)
    coded = get(url, accept_encoding="br;q=0, gzip;q=0.5")
    assert coded.content == blob.content
    assert coded.headers["content-encoding"] == "gzip"
    assert int(coded.headers["content-length"]) < len(blob.content)
    assert (coded.headers["etag"], coded.headers["vary"]) == (f'W/"{blob.digest}"', "accept-encoding")
    assert "accept-ranges" not in coded.headers
    assert coded.headers["docker-content-digest"] == blob.digest
    assert get(url, accept_encoding="gzip", if_none_match=coded.headers["etag"]).status_code == 304
    assert httpx.head(url).headers["vary"] == "accept-encoding"


@pytest.mark.parametrize("accepted", ["gzip;q=0", "gzip; q=0.000", "*", "br", ""])
def test_a_coding_that_is_not_accepted(server: Server, accepted: str) -> None:
    blob = Blob(b"another text " * 50)
    answer = get(push(server, blob), accept_encoding=accepted)
    assert answer.content == blob.content
    assert "content-encoding" not in answer.headers


def test_a_range_is_one_of_the_blob_itself(server: Server) -> None:
    blob = Blob(b"0123456789" * 50)
    answer = get(push(server, blob), accept_encoding="gzip", range="bytes=11-13")
    assert (answer.status_code, answer.content) == (206, b"123")


def test_what_is_too_large_for_the_layer_is_sent_as_a_file(server: Server) -> None:
    blob = Blob(b"long " * 1000)
    answer = get(push(server, blob), accept_encoding="gzip")
    assert (answer.content, "content-encoding" in answer.headers) == (blob.content, False)


def test_optimizers_are_lent_to_features(server: Server) -> None:
    assert httpx.get(f"{server.url}/mover").json() == ["nothing"]


def test_a_tag_is_moved_only_while_it_names_what_it_did(server: Server) -> None:
    push(server, EMPTY_CONFIG)
    first, second = image(EMPTY_CONFIG), image(EMPTY_CONFIG, annotations={"number": "2"})
    for manifest, tag in ((second, second.digest), (first, "edge")):
        headers = {"content-type": manifest.media_type}
        url = f"{server.url}/v2/team/app/manifests/{tag}"
        assert httpx.put(url, content=manifest.content, headers=headers).status_code == 201
    old, new = (one.digest.partition(":")[2] for one in (first, second))
    assert httpx.post(f"{server.url}/mover/edge/{new}/{old}").text == "412"
    assert httpx.post(f"{server.url}/mover/edge/{old}/{new}").text == "moved"
    assert httpx.post(f"{server.url}/mover/edge/{old}/{new}").text == "412"
    named = get(f"{server.url}/v2/team/app/manifests/edge", accept=second.media_type)
    assert named.headers["docker-content-digest"] == second.digest


def test_a_layer_alone_is_refused(installation: Installation) -> None:
    done = installation.drift("serve", "--set", "storage.type=shouting")
    assert (done.returncode, "storage.type: shouting lies around another store" in done.stderr) == (1, True)


def test_what_is_no_layer_is_refused(installation: Installation) -> None:
    settings = ("--set", "storage.type=shouting", "--set", 'storage.layers=["filesystem"]')
    done = installation.drift("config", "check", *settings)
    assert done.returncode == 1
    assert "storage." in done.stderr
    done = installation.drift("config", "check", "--set", 'storage.layers=["s3"]')
    assert (done.returncode, "storage.layers: s3 is a store by itself" in done.stderr) == (1, True)


@pytest.mark.parametrize("layers", ['["filesystem"]', '["shouting", "shouting"]'])
def test_a_driver_twice_is_refused(installation: Installation, layers: str) -> None:
    done = installation.drift("config", "check", "--set", f"storage.layers={layers}")
    assert done.returncode == 1
    assert "storage.layers: names a driver twice" in done.stderr


def test_a_check_looks_through_the_layer(server: Server, installation: Installation) -> None:
    done = installation.drift("fsck", *server.arguments())
    assert done.returncode == 0, done.stdout + done.stderr
