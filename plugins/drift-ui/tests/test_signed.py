"""What a signature is worth in the lists of the console: as long as it is there, by a real one over a real registry."""

from pathlib import Path

import httpx

from tests.signing.place import Place, push_image, sign

from .browsing import Visitor

ROOT = "root-password"


def test_the_mark_of_a_signature_goes_with_it(tmp_path: Path) -> None:
    with Place(tmp_path) as place, place.client("root") as root:
        push_image(root, "team/app", "v1")
        visitor = Visitor(place.server)
        assert visitor.log_in("root", ROOT).status_code == 303
        visitor.until("/search?q=signed:no", "team/app:v1")
        signatures = sign(root, "team/app", "v1")
        visitor.until("/search?q=signed:yes", "team/app:v1")
        for signature in signatures:
            gone = root.delete(f"/v2/team/app/manifests/{signature['digest']}")
            assert gone.status_code == httpx.codes.ACCEPTED, gone.text
        visitor.until("/search?q=signed:no", "team/app:v1")
        assert "team/app:v1" not in visitor.get("/search?q=signed:yes").text
        visitor.http.close()
