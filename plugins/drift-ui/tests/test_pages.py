"""Every page of the console over a real registry, and what is hostile in one."""

import json
import re
import time
from collections.abc import Iterator
from html.parser import HTMLParser

import pytest

from tests.oci.content import Blob, Document, document
from tests.server import Server

from .browsing import PATIENCE, Pusher, Visitor, layer_of, said

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
SPDX = {
    "spdxVersion": "SPDX-2.3",
    "packages": [
        {
            "name": "busybox",
            "versionInfo": "1.36",
            "licenseConcluded": "NOASSERTION",
            "licenseDeclared": "GPL-2.0",
            "externalRefs": [{"referenceType": "purl", "referenceLocator": "pkg:apk/busybox@1.36"}],
        },
        {"name": "<script>alert(1)</script>", "versionInfo": 7},
        "no package",
    ],
}
CYCLONEDX = {
    "bomFormat": "CycloneDX",
    "specVersion": "1.5",
    "components": [{"name": "musl", "version": "1.2", "licenses": [{"license": {"id": "MIT"}}], "purl": "pkg:x/musl"}],
}

HOSTILE = (
    "<script>alert(document.domain)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "javascript:alert(1)",
    "</title></style></textarea><svg/onload=alert(1)>",
    "{{ 7 * 7 }}{% raw %}",
    "https://evil.example/?a=b&c=d",
    "\u202eevil\u0000\ud7ff",
)


class Strict(HTMLParser):
    """Collects what a page would run or load."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.handlers: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self._inline = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name.startswith("on") or name == "style":
                self.handlers.append(f"{tag} {name}")
            if name in ("src", "href", "action", "formaction", "data"):
                self.links.append(value or "")
        self._inline = tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        if self._inline and data.strip():
            self.scripts.append(data)

    def handle_endtag(self, tag: str) -> None:
        del tag
        self._inline = False


def check(text: str) -> None:
    """Asserts that a page runs nothing of its own, and leads nowhere else."""
    page = Strict()
    page.feed(text)
    assert page.scripts == []
    assert page.handlers == []
    assert [link for link in page.links if not re.match(r"/(?!/)", link) and link != "#content"] == []
    assert not page.tags & {"iframe", "object", "embed", "base"}
    assert page.tags.isdisjoint({"img"}) or "onerror" not in text.split("<img")[1][:200].partition(">")[0]


class Made:
    """The images that these tests look at."""

    def __init__(self, pusher: Pusher) -> None:
        self.base = layer_of(hosts=b"127.0.0.1\n")
        config = {
            "created": "2026-01-02T03:04:05Z",
            "config": {"Env": ["A=b"], "Labels": {"team": "web"}},
            "history": [{"created_by": "RUN make hosts"}, {"created_by": "CMD sh", "empty_layer": True}],
        }
        self.image = pusher.image("team/app", "v1", self.base, config, annotations={"note": "hello"})
        self.other = pusher.image("team/app", "v2", layer_of(hosts=b"::1\n", motd=b"hi"), config)
        self.bill = pusher.artifact(
            "team/app", self.image, "application/spdx+json", _json(SPDX), "application/spdx+json"
        )
        kind = "application/vnd.cyclonedx+json"
        self.second = pusher.artifact("team/app", self.bill, kind, _json(CYCLONEDX), kind)
        fields = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [self.image.descriptor(platform={"os": "linux", "architecture": "amd64"})],
        }
        self.index = pusher.manifest("team/app", "all", document(fields, fields["mediaType"]))
        self.hostile = self._hostile(pusher)

    def _hostile(self, pusher: Pusher) -> list[Document]:
        made = []
        for number, text in enumerate(HOSTILE):
            clean = text.replace("\0", "")
            config = {
                "created": clean,
                "author": text,
                "config": {"Labels": {text: text, "url": text}, "Env": [text], "Cmd": {text: text}},
                "history": [{"created_by": text}],
            }
            annotations = {clean: clean, "org.opencontainers.image.url": clean}
            layer = layer_of(**{clean.replace("/", "_").replace("\ud7ff", ""): b"x"})
            image = pusher.image("evil/app", f"v{number}", layer, config, annotations=annotations)
            pusher.artifact("evil/app", image, "application/x.evil", _json({"a": text}), "text/html")
            made.append(image)
        large = {"config": {"Labels": {"large": "<b>" * 350_000}}}
        made.append(pusher.image("evil/app", "large", None, large))
        return made


def _json(value: object) -> Blob:
    return Blob(json.dumps(value).encode())


@pytest.fixture(scope="module")
def made(free: Server) -> Made:
    with Pusher(free) as pusher:
        return Made(pusher)


@pytest.fixture(scope="module")
def visitor(free: Server) -> Iterator[Visitor]:
    visitor = Visitor(free)
    yield visitor
    visitor.http.close()


def test_pushed_images_are_listed(made: Made, visitor: Visitor) -> None:
    del made
    page = said(visitor.until("/repositories/team/app", "all"))
    assert "docker pull registry.test:5000/team/app:v1" not in page
    assert 'data-copy="docker pull registry.test:5000/team/app:v1"' in visitor.get("/repositories/team/app").text
    assert "linux/amd64" in page
    visitor.until("/repositories", "evil/app")
    assert "team/app" in said(visitor.get("/repositories?sort=updated").text)
    assert "team/app" not in said(visitor.get("/repositories?begins=evil").text)
    assert "Recent activity" in said(visitor.get("/").text)


def test_a_manifest_says_what_it_is_made_of(made: Made, visitor: Visitor) -> None:
    page = said(visitor.get("/repositories/team/app/-/manifests/v1").text)
    for text in (
        made.image.digest,
        "RUN make hosts",
        "linux/amd64",
        "team",
        "note",
        "application/spdx+json",
        "schemaVersion",
    ):
        assert text in page
    assert "↳ application/vnd.cyclonedx+json" in page
    index = said(visitor.get("/repositories/team/app/-/manifests/all").text)
    assert "Manifests of this index" in index
    assert made.image.digest[:19] in index


def test_a_layer_is_browsed_folder_by_folder(made: Made, visitor: Visitor) -> None:
    path = f"/repositories/team/app/-/layers/{made.base.digest}"
    assert "etc/" in said(visitor.get(path).text)
    assert "hosts" in said(visitor.get(f"{path}?under=etc").text)
    assert "hosts" not in said(visitor.get(f"{path}?under=nowhere").text)
    elsewhere = visitor.get(f"/repositories/evil/app/-/layers/{made.base.digest}")
    assert elsewhere.status_code == 404
    assert visitor.get("/repositories/team/app/-/layers/sha256:short").status_code == 400


def test_bills_of_materials_are_read(made: Made, visitor: Visitor) -> None:
    page = said(visitor.get(f"/repositories/team/app/-/sbom/{made.bill.digest}").text)
    for text in ("SPDX-2.3", "busybox", "1.36", "GPL-2.0", "pkg:apk/busybox@1.36", "<script>alert(1)</script>"):
        assert text in page
    page = said(visitor.get(f"/repositories/team/app/-/sbom/{made.second.digest}").text)
    assert "CycloneDX 1.5" in page
    assert "MIT" in page
    assert "musl" not in said(visitor.get(f"/repositories/team/app/-/sbom/{made.second.digest}?name=glibc").text)
    assert visitor.get(f"/repositories/team/app/-/sbom/{made.image.digest}").status_code == 400


def test_two_images_are_compared(made: Made, visitor: Visitor) -> None:
    del made
    page = said(visitor.get("/compare?left=team/app:v1&right=team/app:v2&files=1").text)
    assert "only this one" in page
    assert re.search(r"etc/hosts\s+differs", page)
    assert re.search(r"etc/motd\s+only the other", page)
    same = said(visitor.get("/compare?left=team/app:all&right=team/app:v1").text)
    assert "Both are configured alike" in same
    assert visitor.get("/compare?left=team/app:nope&right=team/app:v1").status_code == 404
    assert visitor.get("/compare?left=nonsense&right=team/app:v1").status_code == 400


def test_the_search_finds_what_was_pushed(made: Made, visitor: Visitor) -> None:
    visitor.until("/search?q=team", "team/app")
    assert "team/app" in said(visitor.get("/search?q=teaam").text)
    assert "team/app:v1" in said(visitor.get("/search?q=label:team%3Dweb").text)
    assert "team/app:v1" in said(visitor.get(f"/search?q=digest:{made.image.digest[:20]}").text)
    assert "is no size" in said(visitor.get("/search?q=size%3Ebig").text)


OWN = ("/", "/repositories", "/repositories/team/app", "/search?q=a", "/compare", "/preferences")
CORE = ("/cluster", "/collection", "/signing", "/plugins", "/configuration")


@pytest.mark.parametrize("path", [*OWN, *CORE])
def test_every_page_is_shown_and_says_what_it_may_do(made: Made, visitor: Visitor, path: str) -> None:
    del made
    answer = visitor.get(path)
    assert answer.status_code == 200, said(answer.text)
    assert answer.headers["content-security-policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    )
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-request-id"]
    check(answer.text)
    head = visitor.http.head(path)
    assert (head.status_code, head.content) == (200, b"")


def test_the_configuration_shows_no_secret_and_plugins_their_state(visitor: Visitor) -> None:
    assert "ui_addr" in said(visitor.get("/configuration").text)
    page = said(visitor.get("/plugins").text)
    assert "features:ui" in page
    assert "loaded" in page


def test_text_of_others_is_text(made: Made, visitor: Visitor) -> None:
    visitor.until("/repositories/evil/app", ">large</a>")
    paths = ["/", "/repositories/evil/app", "/compare?left=evil/app:v0&right=evil/app:v1&files=1"]
    for number, image in enumerate(made.hostile):
        paths.append(f"/repositories/evil/app/-/manifests/{image.digest}")
        layer = json.loads(image.content)["layers"][0]["digest"]
        paths.append(f"/repositories/evil/app/-/layers/{layer}?under=etc")
        del number
    for text in HOSTILE:
        quoted = "".join(f"%{byte:02x}" for byte in text.encode())
        paths += [
            f"/search?q={quoted}",
            f"/repositories?begins={quoted}&after={quoted}&sort={quoted}",
            f"/compare?left={quoted}&right={quoted}",
            f"/login?next={quoted}&notice={quoted}&mark=0",
        ]
        paths += [
            f"/repositories/evil/app/-/layers/{made.base.digest}?under={quoted}",
            f"/repositories/{quoted}",
            f"/{quoted}",
        ]
    for path in paths:
        answer = visitor.http.get(path, follow_redirects=True)
        assert answer.status_code < 500, path
        check(answer.text)
        assert len(answer.text) < 1 << 20, path


def test_a_page_of_one_megabyte_of_label_is_bounded(made: Made, visitor: Visitor) -> None:
    page = visitor.get(f"/repositories/evil/app/-/manifests/{made.hostile[-1].digest}").text
    assert "more characters" in page
    assert len(page) < 100_000


def test_pulls_are_counted_and_flushed(made: Made, visitor: Visitor, free: Server) -> None:
    with Pusher(free) as pusher:
        for _ in range(3):
            pusher.http.get("/v2/team/app/manifests/v2").raise_for_status()
    deadline = time.monotonic() + PATIENCE
    while not re.search(r"Pulls\s+3\b", said(visitor.get("/repositories/team/app").text)):
        assert time.monotonic() < deadline
        time.sleep(0.3)
    assert made.other.digest


def test_what_is_no_page_says_so(visitor: Visitor) -> None:
    assert visitor.get("/nope").status_code == 404
    assert visitor.get("/repositories/team/app/-/manifests/none").status_code == 404
    assert visitor.http.delete("/").status_code == 405
    assert visitor.get("/static/console.js").headers["content-type"] == "text/javascript"
    assert visitor.get("/static/../site.py").status_code == 404
    assert visitor.get("/?a=%ff").status_code == 400


def test_the_theme_is_kept(visitor: Visitor) -> None:
    answer = visitor.post("/theme", {"theme": "toggle", "next": "/repositories"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/repositories")
    assert 'data-theme="dark"' in visitor.get("/").text
    visitor.post("/theme", {"theme": "toggle", "next": "//evil"})
    assert 'data-theme="light"' in visitor.get("/").text


def test_what_costs_is_done_by_a_form_alone(visitor: Visitor) -> None:
    """A link of anybody else would have whoever follows it run a collection, and note it."""

    def runs() -> int:
        return len(re.findall(r"\byes\b", said(visitor.get("/collection").text)))

    before = runs()
    assert "Would be removed now" not in visitor.get("/collection?dry_run=1").text
    assert visitor.http.post("/collection", data={"act": "dry-run"}).status_code == 403
    assert runs() == before
    page = visitor.post("/collection", {"act": "dry-run"})
    assert (page.status_code, "Would be removed now" in page.text) == (200, True)
    assert "nothing was removed" in said(page.text)
    assert "Would be removed now" not in visitor.get("/collection").text
    assert runs() == before + 1


def test_garbage_is_asked_about_twice(visitor: Visitor) -> None:
    asked = visitor.post("/collection", {"act": "collect"})
    assert "Do you really want it?" in asked.text
    done = visitor.post("/collection", {"act": "collect", "confirmed": "1"})
    assert done.status_code == 303
    assert "The collection is done" in visitor.get(done.headers["location"]).text
    forged = done.headers["location"].replace("collection+is+done", "password+is+gone")
    assert "password is gone" not in visitor.get(forged).text
    assert visitor.post("/collection", {"act": "nope"}).status_code == 404
