"""The keys of ``[webhooks]``: what the pages show loads, and what would give events away does not."""

import re
from pathlib import Path

import pytest
from drift_webhooks.config import WebhooksConfig

from drift_core.config import ConfigError, load
from tests.tools import ROOT

from .conftest import SECRET

PAGES = (ROOT / "docs/how-to/webhooks.md", ROOT / "plugins/drift-webhooks/README.md")
EXAMPLES = [text for page in PAGES for text in re.findall(r"```toml\n(.*?)```", page.read_text(), re.DOTALL)]


def loaded(text: str, folder: Path) -> WebhooksConfig:
    file = folder / "drift.toml"
    file.write_text(text)
    environ = {"CI_WEBHOOK_SECRET": SECRET, "SCANNER_AUTHORIZATION": "Bearer of the scanner"}
    return load(file, environ, ()).section("webhooks", WebhooksConfig)


@pytest.mark.parametrize("text", EXAMPLES)
def test_the_examples_load(tmp_path: Path, text: str) -> None:
    config = loaded(text, tmp_path)
    assert config.enabled
    assert config.targets["ci"].secret == SECRET
    assert SECRET not in repr(config)


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ('url = "ftp://host/"', "url must begin with https://"),
        ('url = "http://host/"', "unless it stays on this machine"),
        ('url = "https://ann:pw@host/"', "must not hold a password"),
        ('url = "https://host/"\nactions = ["manifest.pull"]', "no pulls"),
        ('url = "https://host/"\nactions = []', "no pulls"),
        ('url = "https://host/"\nactions = ["push"]', "actions"),
        ('url = "https://host/"\nsecret = "whsec_c2hvcnQ="', "24 to 64 bytes"),
        (f'url = "https://host/"\nsecret = "{SECRET.removeprefix("whsec_")}"', "must be whsec_"),
        ('url = "https://host/"\nsecret = "whsec_!"', "24 to 64 bytes"),
        ('url = "https://host/"\nattempts = 0', "attempts"),
        ('url = "https://host/"\nrepositories = []', "nobody would be told"),
        ('url = "https://host/"\nheaders = {"Content-Type" = "text/plain"}', "cannot be set"),
        ('url = "https://host/"\nheaders = {"Webhook-Id" = "1"}', "cannot be set"),
        ('url = "https://host/"\nheaders = {"a b" = "1"}', "cannot be set"),
        ('url = "https://host/"\nheaders = {token = "c2hvcnQ\\n"}', "no header may have"),
        ('url = "https://host/"\nheaders = {token = "\u00e9"}', "no header may have"),
    ],
)
def test_what_would_not_work_is_refused_by_its_path(tmp_path: Path, keys: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        loaded(f"[webhooks.targets.ci]\n{keys}\n", tmp_path)
    assert "webhooks.targets" in str(caught.value)
    assert "c2hvcnQ" not in str(caught.value)


def test_a_name_is_one_word(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a name has lower-case letters"):
        loaded('[webhooks.targets."a b"]\nurl = "https://host/"\n', tmp_path)
