"""Keeps objects in a GhostBay server, away from what that does wrong.

GhostBay, as its source was in September 2025, answers in JSON where S3 has XML, checks no signature, and

- refuses a second PUT of a key, or of a part's number, with 500 *after* it replaced the bytes: so a key is sent again
  only where a HEAD says that it is not there, and the number of a part never;
- counts chunks of its stream where a range counts bytes: so objects are read from their beginning, and cut here;
- gives as ETag what is no digest of the content: so none is looked at, and the store reads back what was joined;
- lists at most 1,000 keys and never says that there are more: so nothing is listed;
- keeps objects in files named by their keys, so that ``a`` and ``a/b`` exclude each other: so keys are made flat;
- compresses where it may, and decodes no framing of bodies: so both are plain.
"""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial

import msgspec
import urllib3
from urllib3.exceptions import HTTPError

from drift_core.api import StartError, Unavailable
from drift_storage_s3.bucket import BLOCK, Body, Missing, Part, UploadGone
from drift_storage_s3.config import GhostBayConfig
from drift_storage_s3.ghostbay_wire import Answer, Broken, Wire, failed, pause

REST = 256 << 10
"""Most bytes that are read behind the end of a range so that the connection can be used again."""

CHECK_SECONDS = 5.0
"""How long a check that fails is begun again: somebody waits for it."""

RESTARTS = 4
"""How often a stream that breaks is begun again without a byte of progress."""

JOINED_PER_SECOND = 16 << 20
"""Bytes a second that GhostBay is given to join parts, for which it answers only at the end."""

PLAIN = re.compile(r"[A-Za-z0-9._-]")
OK, BAD_REQUEST, NOT_FOUND, CONFLICT = 200, 400, 404, 409


def flat(key: str) -> str:
    """Returns the name of a key in GhostBay: one for each, without ``/``, and nothing in it that URLs have to encode.

    It is the name of a file there, which has at most 255 bytes: a prefix of 100 characters leaves room for the key.
    """
    return "".join(
        letter if PLAIN.fullmatch(letter) else "".join(f"~{byte:02X}" for byte in letter.encode()) for letter in key
    )


class GhostBayBucket:
    """A `Bucket` of a GhostBay server, which is made where it is missing."""

    verifies = False
    reuses_numbers = False

    def __init__(self, config: GhostBayConfig, retrying: Callable[[str], None]) -> None:
        self.name = f"ghostbay:{config.bucket}/{config.prefix}"
        self._bucket = f"/{config.bucket}"
        self._prefix = config.prefix
        self._wire = Wire(config, retrying)

    def check(self) -> None:
        """See `Bucket`."""
        seconds = min(self._wire.retry_seconds, CHECK_SECONDS)
        try:
            if not self._wire.retried("HeadBucket", self._has_bucket, seconds=seconds):
                self._wire.retried("CreateBucket", self._create_bucket, seconds=seconds)
        except Unavailable as error:
            message = f"storage.ghostbay.endpoint: {self._wire.endpoint}: {error.message}"
            raise StartError(message) from error

    def put(self, key: str, body: Body) -> None:
        """See `Bucket`. After a failure a HEAD decides whether it is sent again."""
        sent = False

        def attempt() -> None:
            nonlocal sent
            if sent and self._holds("PutObject", key, len(body)):
                return
            sent = True
            self._ask("PutObject", "PUT", key, body=body)

        self._wire.retried("PutObject", attempt)

    def get(self, key: str, start: int, stop: int) -> "Reading":
        """See `Bucket`. What lies before ``start`` is read too, and dropped."""
        return Reading(self._wire, partial(self._open, key, stop), start, stop)

    def size(self, key: str) -> int:
        """See `Bucket`."""
        return self._wire.retried("HeadObject", lambda: self._size(key))

    def delete(self, keys: Sequence[str]) -> None:
        """See `Bucket`. One by one, since GhostBay has no DeleteObjects."""
        for key in keys:
            self._wire.retried("DeleteObject", partial(self._ask, "DeleteObject", "DELETE", key))

    def create_multipart(self, key: str) -> str:
        """See `Bucket`. An attempt whose answer is lost leaves an empty upload, which GhostBay cannot be asked for."""
        operation = "CreateMultipartUpload"
        answer = self._wire.retried(operation, lambda: self._ask(operation, "POST", key, {"uploads": ""}))
        if not answer.upload_id:
            raise failed(operation, "the answer names no upload")
        return answer.upload_id

    def put_part(self, key: str, multipart: str, number: int, body: Body) -> Part:
        """See `Bucket`. Sent once, since an attempt that failed may have taken the number."""
        query = {"uploadId": multipart, "partNumber": str(number)}
        self._wire.retried("UploadPart", lambda: self._ask("UploadPart", "PUT", key, query, body), once_sent=True)
        return Part(number, len(body), "")

    def complete(self, key: str, multipart: str, parts: Sequence[Part]) -> None:
        """See `Bucket`. Sent once: two at a time write into one file, which the second may leave cut.

        After a failure HEADs find out whether it was done, in the short while in which it may still be going on.
        """
        operation = "CompleteMultipartUpload"
        size = sum(part.size for part in parts)
        listed = [{"ETag": part.etag, "PartNumber": part.number} for part in parts]
        body = msgspec.json.encode({operation: {"Part": listed}})
        seconds = self._wire.timeout_seconds + size / JOINED_PER_SECOND
        query = {"uploadId": multipart}
        try:
            self._wire.retried(
                operation, lambda: self._ask(operation, "POST", key, query, body, seconds), once_sent=True
            )
        except Unavailable:
            if not self._appears(operation, key, size):
                raise

    def abort(self, key: str, multipart: str) -> None:
        """See `Bucket`."""
        operation = "AbortMultipartUpload"
        with suppress(UploadGone):
            self._wire.retried(operation, lambda: self._ask(operation, "DELETE", key, {"uploadId": multipart}))

    def presign(self, key: str) -> str | None:  # noqa: ARG002
        """Returns None: a GhostBay that checks no signature must not be reached by clients."""
        return None

    def close(self) -> None:
        """See `Bucket`."""
        self._wire.close()

    # Single attempts

    def _path(self, key: str) -> str:
        return f"{self._bucket}/{flat(self._prefix + key)}"

    def _ask(
        self,
        operation: str,
        method: str,
        key: str,
        query: dict[str, str] | None = None,
        body: Body | None = None,
        seconds: float | None = None,
    ) -> Answer:
        return self._wire.told(operation, self._wire.send(method, self._path(key), query, body, seconds))

    def _has_bucket(self) -> bool:
        # GhostBay answers HEAD by making the list.
        response = self._wire.send("HEAD", self._bucket, {"list-type": "2", "max-keys": "1"})
        if response.status == NOT_FOUND:
            self._wire.answer(response)
            return False
        self._wire.told("HeadBucket", response)
        return True

    def _create_bucket(self) -> None:
        response = self._wire.send("PUT", self._bucket)
        if response.status == BAD_REQUEST:
            code = self._wire.answer(response).code
            message = f"storage.ghostbay.bucket: {self._wire.endpoint} refuses this name: {code}"
            raise StartError(message)
        if response.status == CONFLICT:  # another node was faster
            self._wire.answer(response)
            return
        self._wire.told("CreateBucket", response)

    def _size(self, key: str) -> int:
        response = self._wire.send("HEAD", self._path(key))
        if response.status != NOT_FOUND:
            self._wire.told("HeadObject", response)
            return _length(response)
        self._wire.answer(response)
        # The answer to HEAD has no code that tells a missing object from a missing bucket.
        response = self._open(key, 0)
        response.close()
        return _length(response)

    def _appears(self, operation: str, key: str, size: int) -> bool:
        def attempt() -> None:
            if not self._holds(operation, key, size):
                message = "it does not appear"
                raise Broken(message)

        try:
            self._wire.retried("HeadObject", attempt)
        except Unavailable:
            return False
        return True

    def _holds(self, operation: str, key: str, size: int) -> bool:
        """Says whether an object is there, whose bytes are those of the attempt before if they are as many.

        Raises:
            Unavailable: there is another.
        """
        try:
            found = self._size(key)
        except Missing:
            return False
        if found != size:
            raise failed(operation, f"the object has {found} bytes, not {size}")
        return True

    def _open(self, key: str, stop: int) -> urllib3.BaseHTTPResponse:
        response = self._wire.send("GET", self._path(key))
        if response.status != OK:
            if response.status == NOT_FOUND:
                answer = self._wire.answer(response)
                if answer.code == "NoSuchKey":
                    raise Missing
                raise failed("GetObject", f"404 {answer.code}".rstrip())
            self._wire.told("GetObject", response)
        if "content-encoding" in response.headers or _length(response) < stop:
            response.close()
            raise failed("GetObject", "not the bytes of the object, or not all of them")
        return response


def _length(response: urllib3.BaseHTTPResponse) -> int:
    try:
        return int(response.headers["content-length"])
    except (KeyError, ValueError) as error:
        raise failed("GetObject", "an answer has no length") from error


class Reading:
    """A `Reader` of the bytes ``[start, stop)`` of a stream that always begins at 0.

    ``opens`` begins the stream, and raises what `Bucket.get` raises, or `Broken`.
    """

    def __init__(self, wire: Wire, opens: Callable[[], urllib3.BaseHTTPResponse], start: int, stop: int) -> None:
        self._opens = opens
        self._next = start
        self._stop = stop
        self._passed = 0
        self._stream: urllib3.BaseHTTPResponse | None = wire.retried("GetObject", opens)

    def __iter__(self) -> Iterator[bytes]:
        """See `Reader`."""
        try:
            while self._next < self._stop:
                block = self._block()
                self._next += len(block)
                yield block
            self._read_rest()
        finally:
            self.close()

    def close(self) -> None:
        """See `Reader`."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def _block(self) -> bytes:
        broken = 0
        while True:
            try:
                return self._advance()
            except Missing as error:
                raise failed("GetObject", "the object was deleted while it was read") from error
            except (Broken, HTTPError) as error:
                self.close()
                broken += 1
                if broken > RESTARTS:
                    raise failed(
                        "GetObject", str(error) if isinstance(error, Broken) else type(error).__name__
                    ) from error
            time.sleep(pause(broken))

    def _advance(self) -> bytes:
        """Reads the next block; from the beginning again where the stream broke."""
        if self._stream is None:
            self._stream, self._passed = self._opens(), 0
        while self._passed < self._next:
            self._read(self._stream, self._next - self._passed)
        return self._read(self._stream, self._stop - self._next)

    def _read(self, stream: urllib3.BaseHTTPResponse, most: int) -> bytes:
        block = stream.read(min(most, BLOCK))
        if not block:
            message = "the object ended early"
            raise Broken(message)
        self._passed += len(block)
        return block

    def _read_rest(self) -> None:
        """Lets the connection be used again where little is left of the object."""
        if self._stream is not None and _length(self._stream) - self._passed <= REST:
            with suppress(HTTPError):
                self._stream.read(REST + 1)
