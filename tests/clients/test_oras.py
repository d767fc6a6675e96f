"""Checks that oras pushes, pulls, copies and reads artifacts and their parts."""

import json
from pathlib import Path

from tests.clients.couriers import push
from tests.clients.image_layout import OCI, ImageLayout, content, differences, digest_of, noise
from tests.clients.programs import Programs
from tests.clients.registry_api import RegistryApi
from tests.server import Server

MODEL = "application/vnd.example.model.v1"


def test_files_come_back_byte_for_byte(run: Programs, reference: str, tmp_path: Path, seed: int) -> None:
    """Files of several types and sizes, an empty one and a folder too, are pulled as they were pushed."""
    sent = tmp_path / "sent"
    (sent / "folder" / "deep").mkdir(parents=True)
    files = {
        "weights.bin": noise(3_000_000, seed),
        "card.md": b"# A model\n",
        "empty": b"",
        "folder/deep/one.txt": b"one",
        "folder/two.txt": b"two",
    }
    for name, data in files.items():
        (sent / name).write_bytes(data)
    run(
        "oras",
        *("push", "--plain-http", "--no-tty", "--artifact-type", MODEL, "--annotation", "org.example.epoch=3"),
        reference,
        *("weights.bin:application/octet-stream", "card.md:text/markdown", "empty:text/plain", "folder"),
        folder=sent,
    )
    received = tmp_path / "received"
    run("oras", "pull", "--plain-http", "--no-tty", "--output", received, reference)
    assert {name: (received / name).read_bytes() for name in files} == files
    pulled = {str(path.relative_to(received)) for path in received.rglob("*") if path.is_file()}
    assert pulled == files.keys()


def test_an_artifact_keeps_its_type_and_annotations(
    run: Programs, api: RegistryApi, repository: str, reference: str, tmp_path: Path
) -> None:
    """The manifest in the registry is the one that oras wrote, and its artifact type and annotations are kept."""
    file = tmp_path / "file.txt"
    file.write_text("text")
    exported = tmp_path / "manifest.json"
    options = ("--artifact-type", MODEL, "--annotation", "org.example.epoch=3", "--export-manifest", str(exported))
    run("oras", "push", "--plain-http", "--no-tty", *options, reference, "file.txt:text/plain", folder=tmp_path)
    served = api.manifest(repository, "v1")
    assert served.body == exported.read_bytes()
    assert served.json()["artifactType"] == MODEL
    assert served.json()["annotations"]["org.example.epoch"] == "3"


def test_several_tags_are_pushed_and_listed(
    run: Programs, api: RegistryApi, registry: Server, repository: str, reference: str, tmp_path: Path
) -> None:
    """One push with three tags, one more tag afterwards, and `oras repo tags` finds all four."""
    (tmp_path / "file.txt").write_text("text")
    command = ("push", "--plain-http", "--no-tty", "--artifact-type", MODEL)
    run("oras", *command, f"{reference},v1.0,latest", "file.txt", folder=tmp_path)
    run("oras", "tag", "--plain-http", reference, "stable")
    listed = run("oras", "repo", "tags", "--plain-http", f"{registry.host}/{repository}").lines()
    assert sorted(listed) == ["latest", "stable", "v1", "v1.0"]
    assert len({api.manifest(repository, tag).headers["docker-content-digest"] for tag in listed}) == 1


def test_repositories_are_listed(
    run: Programs, api: RegistryApi, registry: Server, repository: str, image: ImageLayout
) -> None:
    """`oras repo ls` finds the repositories below a name."""
    for name in ("one", "two"):
        api.put_content(f"{repository}/{name}", "v1", image)
    listed = run("oras", "repo", "ls", "--plain-http", f"{registry.host}/{repository}").lines()
    assert listed == ["one", "two"]


def test_a_blob_is_pushed_fetched_and_described(
    run: Programs, api: RegistryApi, registry: Server, repository: str, tmp_path: Path, seed: int
) -> None:
    """A single blob goes both ways, from a file and from standard input."""
    name = f"{registry.host}/{repository}"
    data = noise(2_000_000, seed)
    (tmp_path / "blob").write_bytes(data)
    run("oras", "blob", "push", "--plain-http", "--no-tty", name, "blob", folder=tmp_path)
    fetched = run("oras", "blob", "fetch", "--plain-http", "--output", "-", f"{name}@{digest_of(data)}")
    assert fetched.data == data
    described = run("oras", "blob", "fetch", "--plain-http", "--descriptor", f"{name}@{digest_of(data)}").json()
    assert described["size"] == len(data)
    small = b"from standard input"
    command = ("blob", "push", "--plain-http", "--no-tty", "--size", str(len(small)))
    run("oras", *command, f"{name}@{digest_of(small)}", "-", data=small)
    assert api.blob(repository, digest_of(small)) == small


def test_a_manifest_is_pushed_and_fetched(
    run: Programs, api: RegistryApi, repository: str, reference: str, image: ImageLayout, tmp_path: Path
) -> None:
    """`oras manifest push` and `fetch` move the manifest as it is, white space and all."""
    root = api.put_content(repository, "other", image)
    spaced = json.dumps(json.loads(image.read(root)), indent=7).encode() + b"\n\n"
    (tmp_path / "manifest.json").write_bytes(spaced)
    command = ("manifest", "push", "--plain-http", "--media-type", OCI.manifest)
    run("oras", *command, reference, "manifest.json", folder=tmp_path)
    assert run("oras", "manifest", "fetch", "--plain-http", reference).data == spaced
    assert run("oras", "resolve", "--plain-http", reference).text == digest_of(spaced)
    assert run("oras", "manifest", "fetch-config", "--plain-http", reference).data == image.read(
        json.loads(spaced)["config"]
    )


def test_a_manifest_whose_layers_are_missing_is_refused(
    run: Programs, api: RegistryApi, repository: str, reference: str, image: ImageLayout
) -> None:
    """A manifest pushed before its blobs is refused, the blobs are named, and no tag appears."""
    root = image.root()
    command = ("manifest", "push", "--plain-http", "--media-type", OCI.manifest)
    ended = run("oras", *command, reference, str(image.path(root["digest"])), may_fail=True)
    assert ended.code != 0
    assert "unknown" in ended.errors.lower()
    assert json.loads(image.read(root))["layers"][0]["digest"] in ended.errors
    assert api.manifest_status(repository, "v1") == 404


def test_a_copy_within_the_registry_mounts_the_layers(
    run: Programs, registry: Server, api: RegistryApi, repository: str, reference: str, multi_platform: ImageLayout
) -> None:
    """`oras cp` between two repositories of the registry mounts each layer."""
    root = api.put_content(repository, "v1", multi_platform)
    target = f"{repository}/copied"
    plain = ("--no-tty", "--from-plain-http", "--to-plain-http")
    copied = run("oras", "cp", *plain, reference, f"{registry.host}/{target}:v1")
    assert differences(content(root, multi_platform.read), content(root, api.reader(target))) == []
    assert "Mounted" in copied.text + copied.errors


def test_one_platform_is_copied(
    run: Programs, registry: Server, api: RegistryApi, repository: str, reference: str, multi_platform: ImageLayout
) -> None:
    """`oras cp --platform` takes only the image of that platform."""
    root = api.put_content(repository, "v1", multi_platform)
    _, arm64 = json.loads(multi_platform.read(root))["manifests"]
    target = f"{repository}/arm64"
    plain = ("--no-tty", "--from-plain-http", "--to-plain-http", "--platform", "linux/arm64")
    run("oras", "cp", *plain, reference, f"{registry.host}/{target}:v1")
    assert api.manifest(target, "v1").headers["docker-content-digest"] == arm64["digest"]
    assert api.manifest_status(target, root["digest"]) == 404


def test_a_push_goes_on_where_an_earlier_one_stopped(
    run: Programs, api: RegistryApi, repository: str, reference: str, image: ImageLayout
) -> None:
    """What is in the repository already is not uploaded again."""
    there, *rest = json.loads(image.read(image.root()))["layers"]
    api.put_blob(repository, image.read(there), there["digest"])
    said = push(run, "oras", image.folder, reference)
    lines = (said.text + said.errors).splitlines()
    assert any(line.split()[:1] == ["Exists"] and there["digest"][7:19] in line for line in lines), lines
    for layer in rest:
        assert any(line.split()[:1] == ["Copied"] and layer["digest"][7:19] in line for line in lines), lines
    root = image.root()
    assert differences(content(root, image.read), content(root, api.reader(repository))) == []


def test_a_backup_is_restored(
    run: Programs, api: RegistryApi, registry: Server, repository: str, reference: str, multi_platform: ImageLayout
) -> None:
    """`oras backup` and `oras restore` bring a repository with its tags and referrers back under another name."""
    root = api.put_content(repository, "v1", multi_platform)
    run("oras", "tag", "--plain-http", reference, "v2")
    (run.home / "note.txt").write_text("note")
    attach = ("attach", "--plain-http", "--no-tty", "--artifact-type", "application/vnd.example.note")
    run("oras", *attach, reference, "note.txt", folder=run.home)
    saved = run.home / "saved"
    command = ("--plain-http", "--no-tty", "--include-referrers")
    run("oras", "backup", *command, "--output", saved, f"{registry.host}/{repository}:v1,v2")
    target = f"{repository}/restored"
    restore = ("restore", "--plain-http", "--no-tty", "--input", str(saved))
    run("oras", *restore, f"{registry.host}/{target}:v1,v2")
    assert sorted(api.tags(target)) == ["v1", "v2"]
    assert differences(content(root, multi_platform.read), content(root, api.reader(target))) == []
    assert len(api.referrers(target, root["digest"])) == 1
