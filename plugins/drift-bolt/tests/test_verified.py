"""What Bolt is told of signatures: that of a version is verified as long as those who signed it are trusted."""

from pathlib import Path
from typing import Any

from tests.faults.inspection import eventually
from tests.signing.place import USERS, Place, sign

from . import samples
from .client import DriftClient

AUTH: dict[str, Any] = {
    "chain": ["token", "basic"],
    "basic": {"users": [f"{name}:{name}-password" for name in USERS]},
}


def verified(ann: DriftClient) -> dict[str, bool]:
    """Returns what each call says of the same plugin, and of a profile."""
    (listed,) = ann.list_plugins().plugins
    (found,) = ann.search_plugins(query="signed").results
    return {
        "detail": ann.get_plugin("signed").metadata.verified,
        "list": listed.verified,
        "search": found.verified,
        "metrics": ann.get_metrics().popular_plugins[0].verified,
        "profile": ann.get_profile("signed").metadata.verified,
    }


def test_a_version_is_verified_while_its_signers_are_trusted(tmp_path: Path) -> None:
    place = Place(tmp_path, auth=AUTH, bolt={"enabled": True, "default_profiles": False})
    with place, DriftClient(place.server.url) as ann, place.client("root") as root:
        ann.authenticate("ann", "ann-password")
        ann.upload_plugin(samples.plugin("signed"), samples.about(), samples.library())
        ann.upload_profile(samples.profile("signed"), samples.metadata())
        assert set(verified(ann).values()) == {False}
        sign(root, "bolt/plugins/signed", "0.1.0")
        assert verified(ann) == {"detail": True, "list": True, "search": True, "metrics": True, "profile": False}
        sign(root, "bolt/profiles/signed", ann.get_profile("signed").metadata.version)
        assert set(verified(ann).values()) == {True}
        place.trust("default", "somebody else")
        eventually(lambda: set(verified(ann).values()) == {False}, "nothing verified any more")
