"""A browser without a screen: loads pages, fills in their forms, and pushes images for them to show."""

import gzip
import io
import json
import re
import tarfile
import time
from collections.abc import Mapping
from html import unescape
from typing import Any, Self

import httpx

from tests.oci.content import OCI_CONFIG, Blob, Document, document
from tests.server import Server

PASSWORDS = {"root": "the password of root", "ann": "the password of ann"}
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
PATIENCE = 20.0

TOKEN = re.compile(r'name="csrf" value="([0-9a-f]+)"')
TAG = re.compile(r"<[^>]*>")


class Visitor:
    """Somebody at the console."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.origin = f"http://127.0.0.1:{server.ui_port}"
        self.http = httpx.Client(base_url=self.origin, trust_env=False, timeout=30)

    def get(self, path: str) -> httpx.Response:
        return self.http.get(path)

    def token(self, path: str = "/login") -> str:
        found = TOKEN.search(self.http.get(path, follow_redirects=True).text)
        assert found is not None
        return found[1]

    def post(self, path: str, form: Mapping[str, str], **headers: str) -> httpx.Response:
        """Sends a form as a page of the console would."""
        sent = {"csrf": self.token(), **form}
        return self.http.post(path, data=sent, headers={"origin": self.origin, **headers})

    def log_in(self, name: str, password: str | None = None) -> httpx.Response:
        return self.post("/login", {"username": name, "password": PASSWORDS[name] if password is None else password})

    def until(self, path: str, text: str) -> str:
        """Returns a page as soon as it has a text: lists follow what was pushed."""
        deadline = time.monotonic() + PATIENCE
        while text not in (page := self.get(path).text):
            assert time.monotonic() < deadline, page
            time.sleep(0.1)
        return page


def said(page: str) -> str:
    """Returns the text of a page."""
    return unescape(TAG.sub(" ", page))


def layer_of(**files: bytes) -> Blob:
    """Returns a layer, of gzip, with some files in a folder."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        for name, content in {"etc/": None, **{f"etc/{name}": content for name, content in files.items()}}.items():
            member = tarfile.TarInfo(name.rstrip("/"))
            if content is None:
                member.type = tarfile.DIRTYPE
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return Blob(gzip.compress(raw.getvalue(), mtime=0))


class Pusher:
    """Pushes to a registry."""

    def __init__(self, server: Server, name: str | None = None) -> None:
        self.http = httpx.Client(
            base_url=server.url, trust_env=False, timeout=30, auth=None if name is None else (name, PASSWORDS[name])
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def blob(self, repository: str, blob: Blob) -> None:
        begun = self.http.post(f"/v2/{repository}/blobs/uploads/")
        begun.raise_for_status()
        done = self.http.put(begun.headers["location"], params={"digest": blob.digest}, content=blob.content)
        assert done.status_code == 201, done.text

    def manifest(self, repository: str, reference: str, made: Document) -> Document:
        done = self.http.put(
            f"/v2/{repository}/manifests/{reference}", content=made.content, headers={"content-type": made.media_type}
        )
        assert done.status_code == 201, done.text
        return made

    def image(
        self,
        repository: str,
        tag: str,
        layer: Blob | None = None,
        config: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> Document:
        """Pushes an image of one layer."""
        layer = layer or layer_of(hosts=b"127.0.0.1 localhost\n")
        settings = Blob(json.dumps({"os": "linux", "architecture": "amd64", **(config or {})}).encode())
        for blob in (layer, settings):
            self.blob(repository, blob)
        made = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": settings.descriptor(OCI_CONFIG),
            "layers": [layer.descriptor(LAYER)],
            **fields,
        }
        return self.manifest(repository, tag, document(made, made["mediaType"]))

    def artifact(self, repository: str, subject: Document, kind: str, content: Blob, media_type: str) -> Document:
        """Pushes what says something of an image."""
        empty = Blob(b"{}")
        for blob in (content, empty):
            self.blob(repository, blob)
        fields = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "artifactType": kind,
            "config": empty.descriptor("application/vnd.oci.empty.v1+json"),
            "layers": [content.descriptor(media_type)],
            "subject": subject.descriptor(),
        }
        made = document(fields, fields["mediaType"])
        return self.manifest(repository, made.digest, made)
