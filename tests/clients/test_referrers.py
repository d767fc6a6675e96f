"""Checks that what one client attaches to an image is found by others and by the API, and moves with the image."""

import json
from pathlib import Path

import pytest

from tests.clients.couriers import plain_http
from tests.clients.image_layout import OCI, Descriptor, ImageLayout, digest_of
from tests.clients.programs import Programs
from tests.clients.registry_api import RegistryApi
from tests.server import Server

SBOM = "application/spdx+json"
SIGNATURE = "application/vnd.example.signature.v1"
PLAIN = ("--plain-http", "--no-tty")


def attach_with_oras(run: Programs, reference: str, artifact_type: str, text: str, *options: str) -> str:
    """Attaches a file with oras and returns the digest of the artifact's manifest."""
    file = run.home / "attached.json"
    file.write_text(text)
    command = ("attach", *PLAIN, *options, "--artifact-type", artifact_type, "--format", "json")
    attached = run("oras", *command, reference, f"{file.name}:{artifact_type}", folder=run.home).json()
    assert attached["artifactType"] == artifact_type
    return str(attached["digest"])


def attach_with_regctl(run: Programs, reference: str, artifact_type: str, text: str) -> str:
    """Attaches its standard input with regctl and returns the digest of the artifact's manifest."""
    options = ("--artifact-type", artifact_type, "--subject", reference)
    command = ("artifact", "put", *plain_http(reference), "--format", "{{.Manifest.GetDescriptor.Digest}}")
    return run("regctl", *command, *options, data=text.encode()).text


def digests(descriptors: list[Descriptor]) -> set[str]:
    """Returns the digests that descriptors name."""
    return {descriptor["digest"] for descriptor in descriptors}


def discovered_by_oras(run: Programs, reference: str, *options: str) -> set[str]:
    """Returns the digests of the direct referrers that oras sees."""
    found = run("oras", "discover", *PLAIN, *options, "--format", "json", "--depth", "1", reference).json()
    return digests(found.get("referrers") or [])


def listed_by_regctl(run: Programs, reference: str, *options: str) -> set[str]:
    """Returns the digests of the direct referrers that regctl sees."""
    command = ("artifact", "list", *plain_http(reference), "--format", "{{json .}}", *options)
    found = run("regctl", *command, reference).json()
    return digests(found.get("descriptors") or [])


def test_every_client_finds_what_each_attached(
    run: Programs, api: RegistryApi, repository: str, reference: str, subject: Descriptor
) -> None:
    """Artifacts attached by oras and by regctl are listed by both and by the API, with type and size."""
    first = attach_with_oras(run, reference, SBOM, '{"made-by":"oras"}')
    second = attach_with_regctl(run, reference, SIGNATURE, "made by regctl")
    assert discovered_by_oras(run, reference) == {first, second}
    assert listed_by_regctl(run, reference) == {first, second}
    listed = {found["digest"]: found for found in api.referrers(repository, subject["digest"])}
    assert {digest: found["artifactType"] for digest, found in listed.items()} == {first: SBOM, second: SIGNATURE}
    for digest, found in listed.items():
        manifest = api.manifest(repository, digest).body
        assert found["size"] == len(manifest)
        assert found["mediaType"] == OCI.manifest
        assert json.loads(manifest)["subject"]["digest"] == subject["digest"]


def test_artifacts_are_filtered_by_type(
    run: Programs, api: RegistryApi, repository: str, reference: str, subject: Descriptor
) -> None:
    """The clients and the API list only the artifacts of the type that was asked for."""
    sbom = attach_with_oras(run, reference, SBOM, "{}")
    attach_with_oras(run, reference, SIGNATURE, "signature")
    assert discovered_by_oras(run, reference, "--artifact-type", SBOM) == {sbom}
    assert listed_by_regctl(run, reference, "--filter-artifact-type", SBOM) == {sbom}
    assert digests(api.referrers(repository, subject["digest"], SBOM)) == {sbom}
    assert api.referrers(repository, subject["digest"], "application/vnd.example.other") == []


def test_annotations_are_listed(
    run: Programs, api: RegistryApi, repository: str, reference: str, subject: Descriptor
) -> None:
    """The annotations of an artifact's manifest are in its descriptor, so that regctl can filter by them."""
    attach_with_oras(run, reference, SBOM, "first", "--annotation", "org.example.stage=test")
    second = attach_with_oras(run, reference, SBOM, "second", "--annotation", "org.example.stage=release")
    assert listed_by_regctl(run, reference, "--filter-annotation", "org.example.stage=release") == {second}
    stages = {found["annotations"]["org.example.stage"] for found in api.referrers(repository, subject["digest"])}
    assert stages == {"test", "release"}


def test_a_file_comes_back_from_an_artifact(run: Programs, reference: str, subject: Descriptor) -> None:
    """Regctl gets through the referrers what oras attached, byte for byte."""
    assert subject["digest"]
    attach_with_oras(run, reference, SBOM, '{"packages":[]}')
    found = run("regctl", "artifact", "get", *plain_http(reference), "--subject", reference)
    assert found.data == b'{"packages":[]}'


def test_a_signature_of_an_sbom_is_found_as_a_tree(run: Programs, reference: str, subject: Descriptor) -> None:
    """An artifact can itself be a subject, and both clients walk down to it."""
    sbom = attach_with_oras(run, reference, SBOM, "{}")
    repository = reference.rpartition(":")[0]
    signature = attach_with_oras(run, f"{repository}@{sbom}", SIGNATURE, "signature of the list")
    found = run("oras", "discover", *PLAIN, "--format", "json", reference).json()
    (child,) = found["referrers"]
    assert child["digest"] == sbom
    assert digests(child["referrers"]) == {signature}
    tree = run("regctl", "artifact", "tree", *plain_http(reference), reference).text
    assert all(digest in tree for digest in (subject["digest"], sbom, signature))


def test_an_artifact_on_an_index_and_on_one_platform(
    run: Programs, api: RegistryApi, repository: str, reference: str, multi_platform: ImageLayout
) -> None:
    """The referrers of an index and of an image in it are kept apart."""
    root = api.put_content(repository, "v1", multi_platform)
    amd64 = json.loads(multi_platform.read(root))["manifests"][0]
    on_index = attach_with_oras(run, reference, SBOM, "index")
    on_image = attach_with_oras(run, reference, SBOM, "image", "--platform", "linux/amd64")
    assert digests(api.referrers(repository, root["digest"])) == {on_index}
    assert digests(api.referrers(repository, amd64["digest"])) == {on_image}
    assert listed_by_regctl(run, reference, "--platform", "linux/amd64") == {on_image}


def test_an_artifact_without_its_subject_is_listed(
    run: Programs, api: RegistryApi, repository: str, reference: str, image: ImageLayout
) -> None:
    """An artifact may arrive before the image to which it refers."""
    root = image.root()
    config = b"{}"
    api.put_blob(repository, config, digest_of(config))
    empty = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": digest_of(config), "size": len(config)}
    artifact = {
        "schemaVersion": 2,
        "mediaType": OCI.manifest,
        "artifactType": SBOM,
        "config": empty,
        "layers": [empty],
        "subject": {key: root[key] for key in ("mediaType", "digest", "size")},
    }
    data = json.dumps(artifact).encode()
    pushed = api.put_manifest(repository, digest_of(data), data, OCI.manifest)
    assert pushed.headers["oci-subject"] == root["digest"]
    assert digests(api.referrers(repository, root["digest"])) == {digest_of(data)}
    api.put_content(repository, "v1", image)
    assert discovered_by_oras(run, reference) == {digest_of(data)}


def test_a_deleted_artifact_is_not_listed(
    run: Programs, api: RegistryApi, repository: str, reference: str, subject: Descriptor
) -> None:
    """Deleting one artifact with oras takes it, and nothing else, out of the list."""
    gone = attach_with_oras(run, reference, SBOM, "first")
    kept = attach_with_oras(run, reference, SBOM, "second")
    run("oras", "manifest", "delete", "--plain-http", "--force", f"{reference.rpartition(':')[0]}@{gone}")
    assert digests(api.referrers(repository, subject["digest"])) == {kept}
    assert discovered_by_oras(run, reference) == {kept}
    assert api.manifest_status(repository, "v1") == 200


def test_oras_copies_an_image_with_its_referrers(
    run: Programs, api: RegistryApi, repository: str, reference: str, registry: Server, subject: Descriptor
) -> None:
    """`oras cp -r` takes the artifacts, and the artifacts of artifacts, to another repository."""
    sbom = attach_with_oras(run, reference, SBOM, "{}")
    signature = attach_with_oras(run, f"{reference.rpartition(':')[0]}@{sbom}", SIGNATURE, "signature")
    target = f"{repository}/copied"
    plain = ("--no-tty", "--from-plain-http", "--to-plain-http")
    run("oras", "cp", "-r", *plain, reference, f"{registry.host}/{target}:v2")
    assert digests(api.referrers(target, subject["digest"])) == {sbom}
    assert digests(api.referrers(target, sbom)) == {signature}
    assert api.manifest(target, signature).body == api.manifest(repository, signature).body


def test_oras_takes_referrers_through_a_layout(
    run: Programs, api: RegistryApi, repository: str, reference: str, registry: Server, tmp_path: Path, seed: int
) -> None:
    """Image and artifacts survive the way into an OCI image layout and back."""
    layout = ImageLayout(tmp_path / "several")
    root = layout.tag(layout.add_image(seed))
    api.put_content(repository, "v1", layout)
    sbom = attach_with_oras(run, reference, SBOM, "{}")
    saved = tmp_path / "saved"
    run("oras", "cp", "-r", "--no-tty", "--from-plain-http", "--to-oci-layout", reference, f"{saved}:v1")
    target = f"{repository}/restored"
    command = ("cp", "-r", "--no-tty", "--from-oci-layout", "--to-plain-http")
    run("oras", *command, f"{saved}:v1", f"{registry.host}/{target}:v1")
    assert digests(api.referrers(target, root["digest"])) == {sbom}


def test_regctl_copies_an_image_with_its_referrers(
    run: Programs, api: RegistryApi, repository: str, reference: str, registry: Server, subject: Descriptor
) -> None:
    """`regctl image copy --referrers` takes the artifacts to another repository."""
    sbom = attach_with_regctl(run, reference, SBOM, "{}")
    target = f"{repository}/copied"
    command = ("image", "copy", *plain_http(reference), "--referrers")
    run("regctl", *command, reference, f"{registry.host}/{target}:v1")
    assert digests(api.referrers(target, subject["digest"])) == {sbom}


def test_the_fallback_tag_of_oras(
    run: Programs, api: RegistryApi, repository: str, reference: str, subject: Descriptor
) -> None:
    """A client that knows only the fallback tag keeps its index there; the API lists the artifact all the same."""
    scheme = ("--distribution-spec", "v1.1-referrers-tag")
    first = attach_with_oras(run, reference, SBOM, "first", *scheme)
    second = attach_with_oras(run, reference, SIGNATURE, "second", *scheme)
    tag = subject["digest"].replace(":", "-")
    assert tag in api.tags(repository)
    fallback = api.manifest(repository, tag)
    assert fallback.headers["content-type"] == OCI.index
    assert digests(fallback.json()["manifests"]) == {first, second}
    assert discovered_by_oras(run, reference, *scheme) == {first, second}
    assert digests(api.referrers(repository, subject["digest"])) == {first, second}
    assert discovered_by_oras(run, reference, "--distribution-spec", "v1.1-referrers-api") == {first, second}


@pytest.mark.parametrize("suffix", ["", ".sig"])
def test_an_index_under_a_digest_tag_moves_with_its_image(
    run: Programs,
    api: RegistryApi,
    repository: str,
    reference: str,
    registry: Server,
    subject: Descriptor,
    suffix: str,
) -> None:
    """What older clients kept under a tag made from the digest is copied with `--digest-tags`."""
    tag = subject["digest"].replace(":", "-") + suffix
    listed = [{key: subject[key] for key in ("mediaType", "digest", "size")}]
    data = json.dumps({"schemaVersion": 2, "mediaType": OCI.index, "manifests": listed}).encode()
    api.put_manifest(repository, tag, data, OCI.index)
    target = f"{repository}/copied"
    command = ("image", "copy", *plain_http(reference), "--digest-tags")
    run("regctl", *command, reference, f"{registry.host}/{target}:v1")
    assert api.manifest(target, tag).body == data
    assert "sha256-" not in run("crane", "ls", "--insecure", "-O", f"{registry.host}/{target}").text
