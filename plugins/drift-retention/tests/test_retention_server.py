"""A real server: the rules of the page drop what it says and no more, pulls are known, and what went comes back."""

import json
import os
import re
import subprocess
import time
from pathlib import Path

import httpx
import pytest
from drift_retention.config import RetentionConfig

from drift_core.config import load
from tests.oci.content import EMPTY_CONFIG, image, unique_blob
from tests.server import DRIFT, Server
from tests.tools import ROOT

PATIENCE = 120.0
PAGE = ROOT / "docs/how-to/retention.md"
README = ROOT / "plugins/drift-retention/README.md"
EXAMPLES = [text for page in (PAGE, README) for text in re.findall(r"```toml\n(.*?)```", page.read_text(), re.DOTALL)]
COMMANDS = re.findall(r"^\$ drift (.*)$", PAGE.read_text(), re.MULTILINE)
NOW = "retention.min_age_days=0"


def push(server: Server, repository: str, *tags: str) -> str:
    """Pushes an image of its own with each tag, and returns the digest of the last."""
    digest = ""
    for tag in tags:
        layer, url = unique_blob(100), f"{server.url}/v2/{repository}"
        for blob in (EMPTY_CONFIG, layer):
            upload = f"{url}/blobs/uploads/?digest={blob.digest}"
            assert httpx.post(upload, content=blob.content).status_code == 201
        manifest = image(EMPTY_CONFIG, layer)
        headers = {"content-type": manifest.media_type}
        assert httpx.put(f"{url}/manifests/{tag}", content=manifest.content, headers=headers).status_code == 201
        digest = manifest.digest
    return digest


def tags(server: Server, repository: str = "team/app") -> set[str]:
    return set(httpx.get(f"{server.url}/v2/{repository}/tags/list").json()["tags"] or ())


def drift(server: Server, line: str, *settings: str) -> "subprocess.CompletedProcess[str]":
    words = [str(DRIFT), *line.split(" "), *server.arguments()]
    words += [part for setting in settings for part in ("--set", setting)]
    wide = os.environ | {"COLUMNS": "200"}
    return subprocess.run(words, cwd=ROOT, env=wide, capture_output=True, text=True, timeout=PATIENCE, check=False)


@pytest.mark.parametrize("text", EXAMPLES)
def test_the_examples_load(tmp_path: Path, text: str) -> None:
    file = tmp_path / "drift.toml"
    file.write_text(text)
    config = load(file, {}, ())
    retention = config.section("retention", RetentionConfig)
    assert retention.keep or retention.policies or config.registry.no_overwrite_tags


def test_the_table_of_the_page_has_the_defaults() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (?:`([^`]+)`|none) \|", PAGE.read_text(), re.MULTILINE))
    defaults = json.loads(json.dumps({key: getattr(RetentionConfig(), key) for key in rows}))
    assert defaults == {key: json.loads(text or "null") for key, text in rows.items()}
    assert rows.keys() == set(RetentionConfig.__struct_fields__)


def test_the_page(tmp_path: Path) -> None:
    config = tmp_path / "drift.toml"
    config.write_text(EXAMPLES[0])
    with Server(tmp_path / "server", "auth.mode=none", config=config) as server:
        subject = push(
            server, "team/app", "latest", "1.0.0", "1.1.0", "2.0.0-rc.1", "1.10.0", "pr-1", "branch", "release"
        )
        push(server, "team/app", f"{subject.replace(':', '-')}.sig")
        push(server, "other/app", "branch")
        all_tags = tags(server)
        explain_one, explain_all, dry_run, trash, restore = COMMANDS
        done = drift(server, explain_one, NOW)
        assert done.returncode == 0, done.stderr
        cells = " ".join(re.sub("[│┃]", " ", done.stdout).split())
        for rule, says in (
            ("policies[0].keep[0] semver=* highest=2", "3rd of 3"),
            ("policies[0].keep[1] tags=pr-* pushed_within=2w", "does not match"),
            ("min_age_days=0", "pushed 0h ago"),
        ):
            assert f"{rule} {says}" in cells
        assert "1.0.0 dropped" in cells
        assert drift(server, explain_all, NOW).stdout.count("protected") == 1

        lines = drift(server, f"{explain_all} --json", NOW).stdout.splitlines()
        kept = {one["tag"]: one["kept"] for one in map(json.loads, lines)}
        assert {tag for tag, stays in kept.items() if not stays} == {"1.0.0", "2.0.0-rc.1", "branch"}
        assert kept.keys() == all_tags
        (release,) = (one for one in map(json.loads, lines) if one["tag"] == "release")
        assert release["reason"] == "registry.immutable_tags: release"
        done = drift(server, dry_run, NOW)
        assert (done.returncode, tags(server)) == (0, all_tags)
        assert "9 tags in 2 repositories: 3 would be dropped, 0 may not be deleted, 0 failed" in done.stdout

        # By default everything is too young.
        assert "0 would be dropped" in drift(server, dry_run).stdout

        done = drift(server, "retention run", NOW)
        assert done.returncode == 0, done.stderr
        assert "3 dropped, 0 may not be deleted, 0 failed" in done.stdout
        assert all_tags - tags(server) == {"1.0.0", "2.0.0-rc.1", "branch"}
        assert tags(server, "other/app") == {"branch"}

        assert "branch" in drift(server, trash).stdout
        done = drift(server, restore)
        assert done.returncode == 0, done.stdout
        assert tags(server) == all_tags
        lines = drift(server, f"{explain_all} --json").stdout.splitlines()
        assert all(json.loads(line)["kept"] for line in lines)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("retention explain team/ap", "there is no repository team/ap"),
        ("retention explain team/app:v2", "team/app has no tag v2"),
        ("retention run --repository team/ap", "there is no repository team/ap"),
    ],
)
def test_a_mistyped_name_is_an_error(one_tag: Server, line: str, reason: str) -> None:
    done = drift(one_tag, line, "retention.enabled=true")
    assert done.returncode == 1
    assert reason in done.stderr


@pytest.fixture(scope="module")
def one_tag(tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A registry with one tag; nobody serves it any more."""
    with Server(tmp_path_factory.mktemp("server"), "auth.mode=none", workers=1) as server:
        push(server, "team/app", "v1")
    return server


def test_a_server_drops_by_itself(tmp_path: Path) -> None:
    with Server(tmp_path, "auth.mode=none", workers=1) as server:
        push(server, "app", "a", "b", "c")
    rules = ("retention.enabled=true", NOW, "retention.keep=[{newest=1}]")
    with Server(tmp_path, "auth.mode=none", *rules) as server:
        deadline = time.monotonic() + PATIENCE
        while tags(server, "app") != {"c"}:
            assert time.monotonic() < deadline, server.log.read_text()[-4000:]
            time.sleep(0.05)
    assert "dropped a tag that no rule keeps" in server.log.read_text()


def test_pulls_through_a_server_are_known(tmp_path: Path) -> None:
    rules = ("retention.enabled=true", "retention.keep=[{pulled_within='1h'}]")
    with Server(tmp_path, "auth.mode=none", *rules) as server:
        digest = push(server, "app", "by-tag", "never", "by-digest")
        for reference in ("by-tag", digest):
            assert httpx.get(f"{server.url}/v2/app/manifests/{reference}").status_code == 200
    lines = drift(server, "retention explain app --json").stdout.splitlines()
    says = {one["tag"]: one["findings"][0]["reason"] for one in map(json.loads, lines)}
    assert says["by-tag"] == says["by-digest"] == "pulled 0h ago"
    assert says["never"] == "not pulled since it was pushed 0h ago"
