"""A client that pushes in every way there is, until it is told to stop, and writes down what it was told."""

import random
import threading
import time
from collections.abc import Callable
from http.client import HTTPException
from itertools import count

from tests.faults.ledger import Ledger, Upload
from tests.oci.content import Blob, Document, image, index
from tests.oci.wire import Answer, Wire
from tests.server import Server

REPOSITORIES = ("crash/a", "crash/deep/er/b", "c")

SIZES = (0, 1, 100, 5_000, 200_000, 1_500_000, 5_000_000)
WEIGHTS = (1, 1, 8, 8, 8, 4, 1)

CUT = (OSError, HTTPException)
"""How a connection ends whose server was killed."""


class Pusher:
    """One client. The same seed makes it do the same things; ``name`` tells its own tag from those of others."""

    def __init__(self, server: Server, ledger: Ledger, seed: str, name: str) -> None:
        self._server = server
        self._ledger = ledger
        self._chance = random.Random(seed)
        self._seed = seed
        self._name = name
        self._serial = count()
        self._wire: Wire | None = None
        self.acknowledged = 0
        self.cut: list[str] = []
        """How each connection that broke did."""

    def push_until(self, stop: threading.Event) -> None:
        """Pushes and pulls until told to stop; a connection that breaks is opened again."""
        operations: tuple[tuple[int, Callable[[str], object]], ...] = (
            (4, self._push_in_one_request),
            (3, self._push_in_two_requests),
            (4, self._push_in_chunks),
            (2, self._leave_upload),
            (4, self._push_image),
            (2, self._push_index),
            (3, self._move_tag),
            (3, self._mount),
            (2, self._pull),
        )
        weights = [weight for weight, _ in operations]
        try:
            while not stop.is_set():
                _, operation = self._chance.choices(operations, weights)[0]
                try:
                    self._connect()
                    operation(self._chance.choice(REPOSITORIES))
                except ConnectionRefusedError:
                    time.sleep(0.01)
                except CUT as error:
                    self.cut.append(repr(error))
                    self._disconnect()
        finally:
            self._disconnect()

    def _connect(self) -> Wire:
        if self._wire is None:
            self._wire = Wire(self._server)
        return self._wire

    def _ask(self, method: str, target: str, body: bytes = b"", /, **headers: str | int) -> Answer:
        answer = self._connect().exchange(method, target, body, **headers)
        assert answer.status < 500, f"{method} {target}: {answer}"
        return answer

    def _disconnect(self) -> None:
        if self._wire is not None:
            self._wire.__exit__()
            self._wire = None

    def _blob(self) -> Blob:
        """Returns a blob that nobody else pushes."""
        head = f"{self._seed} {next(self._serial)} ".encode()
        size = self._chance.choices(SIZES, WEIGHTS)[0]
        return Blob(head + self._chance.randbytes(size))

    def _expect(self, answer: Answer, status: int, what: str) -> None:
        assert answer.status == status, f"{self._seed}: {what}: {answer}"
        self.acknowledged += 1

    def _push_in_one_request(self, repository: str) -> Blob:
        blob = self._blob()
        self._ledger.send_blob(repository, blob.digest)
        target = f"/v2/{repository}/blobs/uploads/?digest={blob.digest}"
        self._expect(self._ask("POST", target, blob.content), 201, target)
        self._ledger.acknowledge_blob(repository, blob.digest, blob.size)
        return blob

    def _begin(self, repository: str, blob: Blob) -> Upload:
        answer = self._ask("POST", f"/v2/{repository}/blobs/uploads/")
        self._expect(answer, 202, "begin")
        return Upload(repository, answer.headers["location"], blob)

    def _append(self, upload: Upload, stop: int) -> None:
        piece = upload.blob.content[upload.acknowledged : stop]
        answer = self._ask("PATCH", upload.location, piece, content_range=f"{upload.acknowledged}-{stop - 1}")
        self._expect(answer, 202, "append")
        upload.acknowledged = stop
        upload.location = answer.headers["location"]

    def _commit(self, upload: Upload, body: bytes = b"") -> None:
        upload.committing = True
        self._ledger.send_blob(upload.repository, upload.blob.digest)
        self._expect(self._ask("PUT", f"{upload.location}?digest={upload.blob.digest}", body), 201, "commit")
        self._ledger.acknowledge_blob(upload.repository, upload.blob.digest, upload.blob.size)

    def _push_in_two_requests(self, repository: str) -> None:
        upload = self._begin(repository, self._blob())
        try:
            self._commit(upload, upload.blob.content)
        except CUT:
            self._ledger.leave_upload(upload)
            raise

    def _push_in_chunks(self, repository: str) -> None:
        upload = self._begin(repository, self._blob())
        size = upload.blob.size
        try:
            for stop in sorted({*(self._chance.randint(1, size) for _ in range(self._chance.randint(0, 4))), size}):
                self._append(upload, stop)
            self._commit(upload)
        except CUT:
            self._ledger.leave_upload(upload)
            raise

    def _leave_upload(self, repository: str) -> None:
        """Goes away in the middle; a later round goes on."""
        upload = self._begin(repository, self._blob())
        try:
            self._append(upload, self._chance.randint(2, upload.blob.size))
        finally:
            self._ledger.leave_upload(upload)

    def _tag(self) -> str | None:
        """Returns a tag of its own, one that all clients move, or none."""
        return self._chance.choice((f"tag-{self._name}", "latest", None))

    def _push_manifest(self, repository: str, manifest: Document, tag: str | None) -> None:
        write = self._ledger.send_manifest(repository, manifest, tag)
        target = f"/v2/{repository}/manifests/{tag or manifest.digest}"
        answer = self._ask("PUT", target, manifest.content, content_type=manifest.media_type)
        self._expect(answer, 201, target)
        self._ledger.acknowledge_manifest(repository, manifest, write)

    def _push_image(self, repository: str) -> None:
        config = self._push_in_one_request(repository)
        layers = [self._push_in_one_request(repository) for _ in range(self._chance.randint(0, 2))]
        self._push_manifest(repository, image(config, *layers), self._tag())

    def _push_index(self, repository: str) -> None:
        children = self._ledger.choose_manifests(self._chance, repository, 3)
        annotations = {"serial": f"{self._seed} {next(self._serial)}"}
        self._push_manifest(repository, index(*children, annotations=annotations), self._tag())

    def _move_tag(self, repository: str) -> None:
        for manifest in self._ledger.choose_manifests(self._chance, repository, 1):
            self._push_manifest(repository, manifest, self._tag() or "latest")

    def _mount(self, repository: str) -> None:
        chosen = self._ledger.choose_blob(self._chance)
        if chosen is None:
            return
        (source, digest), size = chosen
        self._ledger.send_blob(repository, digest)
        target = f"/v2/{repository}/blobs/uploads/?mount={digest}&from={source}"
        self._expect(self._ask("POST", target), 201, target)
        self._ledger.acknowledge_blob(repository, digest, size)

    def _pull(self, _: str) -> None:
        chosen = self._ledger.choose_blob(self._chance)
        if chosen is None:
            return
        (repository, digest), size = chosen
        answer = self._ask("GET", f"/v2/{repository}/blobs/{digest}")
        self._expect(answer, 200, f"{repository}@{digest} was acknowledged and is gone")
        assert len(answer.body) == size
        assert Blob(answer.body).digest == digest
