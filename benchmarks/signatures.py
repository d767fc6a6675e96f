"""What the gate for signatures costs a warm pull of a manifest, in turn; `python -m benchmarks.signatures`."""

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import httpx
import tomli_w

from benchmarks.warm_pull import Puller, chosen_scale, compare
from tests.server import Server
from tests.signing.place import key_pair

WAYS = {"no signatures": False, "signatures required, and there": True}


class Signed(Puller, frozen=True):
    """Pulls a manifest alone, by tag and digest: before a blob nobody is asked. ``signing`` is whether it is signed."""

    signing: bool = False

    def push(self) -> list[str]:
        """Pushes an image, and has it signed."""
        manifests = super().push()[:2]
        if self.signing:
            wanted = {"repository": "app", "reference": "v1", "key_id": "default"}
            httpx.post(f"{self.server.url}/admin/signing/sign", json=wanted).raise_for_status()
        return manifests


def configuration(folder: Path) -> Path:
    """Returns a file that requires a signature by a new key of every image, whoever pulls it."""
    for name, content in zip(("signing.key", "signing.pub"), key_pair("default"), strict=True):
        (folder / name).write_bytes(content)
    signing = {
        "enabled": True,
        "signing_keys": [{"key_id": "default", "key_path": str(folder / "signing.key")}],
        "verification_keys": [{"key_id": "default", "public_key_path": str(folder / "signing.pub")}],
        "verification_policy": {"require_signatures": True, "exempt_pushers": False},
    }
    (folder / "drift.toml").write_text(tomli_w.dumps({"signing": signing}))
    return folder / "drift.toml"


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table."""
    rounds, requests = chosen_scale(__doc__, arguments)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        pullers = {}
        for name, signing in WAYS.items():
            place = Path(folder) / name.replace(" ", "-")
            place.mkdir()
            config = configuration(place) if signing else None
            settings = ("logging.level=warning", "auth.mode=none")
            pullers[name] = Signed(
                stack.enter_context(Server(place, *settings, config=config, workers=1)), signing=signing
            )
        compare("Pulls of a manifest", pullers, rounds, requests)


if __name__ == "__main__":
    main()
