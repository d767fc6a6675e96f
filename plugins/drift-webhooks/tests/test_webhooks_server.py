"""A server that tells a program of a push, behind a kill, with the routes and commands of the page."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from tests.oci.client import Registry
from tests.server import DRIFT, Server
from tests.signing.place import push_image
from tests.tools import ROOT

from .conftest import SECRET, Receiver

PAGE = (ROOT / "docs/how-to/webhooks.md").read_text()


@pytest.fixture
def server(tmp_path: Path, receiver: Receiver) -> Server:
    targets = f'webhooks.targets={{ci = {{url = "{receiver.url}", secret = "{SECRET}"}}}}'
    return Server(tmp_path, "auth.mode=none", "webhooks.enabled=true", targets, workers=2)


def said(server: Server, *words: str) -> str:
    command = [str(DRIFT), *words, *server.arguments()]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_push_is_told_also_behind_a_kill(server: Server, receiver: Receiver) -> None:
    receiver.answers = [500]
    with server, Registry(server.url) as client:
        pushed = push_image(client, "team/app", "v1")
        receiver.wait_for(1)
        server.kill()
        receiver.answers = [200]
        server.start()
        receiver.wait_for(2)
        (state,) = client.get("/admin/webhooks").json()
        assert (state["name"], state["url"], state["signed"]) == ("ci", receiver.url, True)
        assert client.get("/admin/webhooks/aside", {"limit": 5}).json() == []
        assert client.post("/admin/webhooks/retry").json() == {"events": 0}
    assert len(set(receiver.ids)) == 1
    event = Webhook(SECRET).verify(receiver.received[-1].body, receiver.received[-1].headers)
    assert event["data"]["digest"] == pushed.digest
    assert event["data"]["tags"] == ["v1"]


def test_the_commands_of_the_page(server: Server, receiver: Receiver) -> None:
    commands = re.findall(r"^\$ (drift webhooks .*)$", PAGE, re.MULTILINE)
    out = {command: said(server, *shlex.split(command)[1:]) for command in commands}
    assert "ci" in out["drift webhooks list"]
    assert out["drift webhooks test ci"] == "ci has taken it\n"
    assert out["drift webhooks aside"] == "everybody was told\n"
    assert out["drift webhooks retry ci"] == "0 events are sent again\n"
    (trial,) = receiver.received
    assert Webhook(SECRET).verify(trial.body, trial.headers)["type"] == "drift.test"
    (example,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    assert json.loads(example).keys() - {"subject"} == trial.event.keys()
    receiver.answers = [404]
    command = [str(DRIFT), "webhooks", "test", "ci", *server.arguments()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "Error: ci did not take it: the answer is 404\n")
