"""Checks what is left, and what is not, after each client deleted something."""

import pytest

from tests.clients.couriers import plain_http
from tests.clients.image_layout import Descriptor
from tests.clients.programs import Programs
from tests.clients.registry_api import RegistryApi


def test_regctl_deletes_one_tag(
    run: Programs, api: RegistryApi, repository: str, reference: str, subject: Descriptor
) -> None:
    """The tag is gone; the image, and another tag of it, stay."""
    run("crane", "tag", "--insecure", reference, "kept")
    run("regctl", "tag", "rm", *plain_http(reference), reference)
    assert api.manifest_status(repository, "v1") == 404
    assert api.manifest_status(repository, subject["digest"]) == 200
    assert api.tags(repository) == ["kept"]
    again = run("regctl", "tag", "rm", *plain_http(reference), reference, may_fail=True)
    assert again.code != 0
    run("regctl", "tag", "rm", *plain_http(reference), "--ignore-missing", reference)


def test_crane_deletes_one_tag(
    run: Programs, api: RegistryApi, repository: str, reference: str, subject: Descriptor
) -> None:
    """The tag is gone; the image stays by digest until it is deleted by digest."""
    run("crane", "delete", "--insecure", reference)
    assert api.manifest_status(repository, "v1") == 404
    assert api.tags(repository) == []
    by_digest = f"{reference.rpartition(':')[0]}@{subject['digest']}"
    assert run("crane", "digest", "--insecure", by_digest).text == subject["digest"]
    run("crane", "delete", "--insecure", by_digest)
    assert api.manifest_status(repository, subject["digest"]) == 404


def test_skopeo_deletes_an_image(
    run: Programs, api: RegistryApi, repository: str, reference: str, subject: Descriptor
) -> None:
    """Skopeo deletes by digest: the image goes, and with it every tag of it."""
    run("crane", "tag", "--insecure", reference, "also")
    run("skopeo", "delete", "--tls-verify=false", f"docker://{reference}")
    for gone in ("v1", "also", subject["digest"]):
        assert api.manifest_status(repository, gone) == 404
    assert api.tags(repository) == []


def test_oras_deletes_a_manifest_and_a_blob(
    run: Programs, api: RegistryApi, repository: str, reference: str, subject: Descriptor
) -> None:
    """A manifest and then one of its blobs are deleted by digest."""
    config = api.manifest(repository, "v1").json()["config"]["digest"]
    name = reference.rpartition(":")[0]
    run("oras", "manifest", "delete", "--plain-http", "--force", f"{name}@{subject['digest']}")
    assert api.manifest_status(repository, "v1") == 404
    assert api.blob_status(repository, config) == 200
    run("oras", "blob", "delete", "--plain-http", "--force", f"{name}@{config}")
    assert api.blob_status(repository, config) == 404


def test_a_blob_deleted_in_one_repository_stays_in_another(
    run: Programs, api: RegistryApi, repository: str, reference: str, subject: Descriptor
) -> None:
    """A blob belongs to each repository that holds it: what one repository gives up, another still serves."""
    name = reference.rpartition(":")[0]
    run("crane", "copy", "--insecure", reference, f"{name}/copied:v1")
    config = api.manifest(repository, "v1").json()["config"]["digest"]
    run("regctl", "manifest", "delete", *plain_http(reference), f"{name}@{subject['digest']}")
    run("regctl", "blob", "delete", *plain_http(reference), name, config)
    assert api.blob_status(repository, config) == 404
    assert api.blob_status(f"{repository}/copied", config) == 200
    assert api.manifest_status(f"{repository}/copied", subject["digest"]) == 200


@pytest.mark.parametrize("client", ["crane", "oras", "regctl", "skopeo"])
def test_a_missing_image_is_told_as_missing(run: Programs, repository: str, reference: str, client: str) -> None:
    """Every client says that the manifest is unknown, and does not stumble over the answer."""
    commands = {
        "crane": ("manifest", "--insecure", reference),
        "oras": ("manifest", "fetch", "--plain-http", reference),
        "regctl": ("manifest", "get", *plain_http(reference), reference),
        "skopeo": ("inspect", "--tls-verify=false", f"docker://{reference}"),
    }
    ended = run(client, *commands[client], may_fail=True)
    assert ended.code != 0
    said = ended.errors.lower()
    assert any(words in said for words in ("manifest unknown", "manifest_unknown", "not found", "name unknown")), said
    assert repository in said
