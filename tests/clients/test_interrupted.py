"""Checks that clients get their content across although a connection breaks in the middle of a blob."""

from pathlib import Path

import pytest

from tests.clients.couriers import COURIERS, plain_http, pull, push
from tests.clients.image_layout import MIB, ImageLayout, content, differences, digest_of, noise
from tests.clients.programs import Programs
from tests.clients.registry_api import RegistryApi
from tests.clients.relay import Relay
from tests.server import Server

SIZE = 24 * MIB
CUT = 9 * MIB + 12_345


@pytest.fixture
def heavy(seed: int, tmp_path: Path) -> ImageLayout:
    """A layout whose tag `v1` is an image of two layers too big for one packet or one chunk."""
    layout = ImageLayout(tmp_path / "heavy")
    layout.tag(layout.add_image(seed, layers=2, layer_size=SIZE, compression="stored"))
    return layout


@pytest.mark.parametrize("pusher", COURIERS)
def test_a_push_succeeds_after_a_cut_one(
    run: Programs, registry: Server, api: RegistryApi, heavy: ImageLayout, repository: str, pusher: str
) -> None:
    """The connection breaks in the middle of a layer; the client's own or our second try completes the image."""
    with Relay(registry.port, "push", CUT) as relay:
        first = push(run, pusher, heavy.folder, f"{relay.host}/{repository}:v1", may_fail=True)
        assert relay.cut
        if first.code != 0:
            assert api.manifest_status(repository, "v1") == 404, "a manifest was accepted although a layer is missing"
            push(run, pusher, heavy.folder, f"{relay.host}/{repository}:v1")
    root = heavy.root()
    assert differences(content(root, heavy.read), content(root, api.reader(repository))) == []


@pytest.mark.parametrize("puller", COURIERS)
def test_a_pull_succeeds_after_a_cut_one(
    run: Programs,
    registry: Server,
    api: RegistryApi,
    heavy: ImageLayout,
    repository: str,
    puller: str,
    tmp_path: Path,
) -> None:
    """The connection breaks in the middle of a layer; the client's own or our second try completes the image."""
    root = api.put_content(repository, "v1", heavy)
    received = tmp_path / "received"
    with Relay(registry.port, "pull", CUT) as relay:
        first = pull(run, puller, f"{relay.host}/{repository}:v1", received, may_fail=True)
        assert relay.cut
        if first.code != 0:
            received = tmp_path / "received-again"
            pull(run, puller, f"{relay.host}/{repository}:v1", received)
    assert differences(content(root, heavy.read), content(root, ImageLayout(received).read)) == []


def test_regctl_continues_a_chunked_upload(
    run: Programs, registry: Server, api: RegistryApi, repository: str, seed: int
) -> None:
    """Regctl is told (416 with Range) how much of a broken chunk was kept, and goes on in the same upload."""
    data = noise(SIZE, seed)
    with Relay(registry.port, "push", CUT) as relay:
        run("regctl", "registry", "set", relay.host, "--tls", "disabled", "--blob-chunk", "2097152", "--blob-max", "1")
        told = run("regctl", "blob", "put", "-v", "debug", f"{relay.host}/{repository}", data=data)
        assert relay.cut
    assert told.text == digest_of(data)
    assert told.errors.count('"Upload location received"') == 1, "the upload was begun anew"
    assert api.blob(repository, digest_of(data)) == data


def test_regctl_continues_a_download(
    run: Programs, registry: Server, api: RegistryApi, repository: str, seed: int
) -> None:
    """Regctl asks for the rest of a blob with a range when the connection ends early, within one command."""
    data = noise(SIZE, seed)
    api.put_blob(repository, data, digest_of(data))
    with Relay(registry.port, "pull", CUT, reset=False) as relay:
        blob = f"{relay.host}/{repository}"
        got = run("regctl", "blob", "get", *plain_http(relay.host), blob, digest_of(data))
        assert relay.cut
    assert got.data == data
