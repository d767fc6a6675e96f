"""The page about signing does what it says."""

import re
import shlex
import subprocess
from pathlib import Path

import httpx

from tests.faults.inspection import PATIENCE
from tests.oci.client import Registry
from tests.server import DRIFT, Server
from tests.signing.place import pulled, push_image
from tests.tools import ROOT, tool

PAGE = (ROOT / "docs/how-to/sign.md").read_text()


def test_the_page(tmp_path: Path) -> None:
    tool("openssl")
    blocks = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    commands = [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]
    for command in (line for line in commands if line.startswith("openssl ")):
        subprocess.run(shlex.split(command), cwd=tmp_path, capture_output=True, check=True)
    config = tmp_path / "drift.toml"
    config.write_text(
        "".join(re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)).replace('"release.', f'"{tmp_path}/release.')
    )
    # Nobody logs in here, so that everybody could push.
    settings = (
        "signing.verification_policy.exempt_pushers=false",
        "signing.verification_policy.max_signature_age_hours=0",
    )
    with Server(tmp_path / "server", *settings, config=config) as server, Registry(server.url, fresh=True) as registry:
        for repository, status in (("team/app", 403), ("prod/app", 403), ("scratch/app", 200)):
            push_image(registry, repository, "1.0")
            assert pulled(registry, repository, "1.0") == status
        said = []
        for command in commands:
            if command.startswith("drift "):
                words = [*shlex.split(command.removeprefix("drift ")), *server.arguments()]
                done = subprocess.run([DRIFT, *words], cwd=tmp_path, capture_output=True, timeout=PATIENCE, check=False)
                assert done.returncode == 0, (command, done.stdout, done.stderr)
            if command.startswith("curl "):
                local = command.replace("http://127.0.0.1:5000", server.url)
                found = subprocess.run(shlex.split(local), capture_output=True, timeout=PATIENCE, check=True)
                said.append(found.stdout)
        assert [b'"cosign"' in one for one in said] == [True, True, True]
        assert b'"verified":true' in said[1]
        assert pulled(registry, "team/app", "1.0") == 200
        body = {"repository": "prod/app", "reference": "1.0"}
        assert httpx.post(f"{server.url}/admin/signing/sign", json=body).status_code == 201
        assert pulled(registry, "prod/app", "1.0") == 403
