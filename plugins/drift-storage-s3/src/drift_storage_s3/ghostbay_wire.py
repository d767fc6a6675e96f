"""Sends single requests to a GhostBay server, and judges how they were answered."""

import random
import re
import time
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlencode, urlsplit, urlunsplit

import msgspec
import urllib3
from botocore.auth import S3SigV4Auth  # pyright: ignore[reportMissingTypeStubs]
from botocore.awsrequest import AWSRequest  # pyright: ignore[reportMissingTypeStubs]
from botocore.credentials import Credentials  # pyright: ignore[reportMissingTypeStubs]
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError

from drift_core.api import StorageFull, Struct, Unavailable
from drift_storage_s3.bucket import Body, UploadGone
from drift_storage_s3.config import GhostBayConfig

T = TypeVar("T")

REGION = "us-east-1"
"""The one in which GhostBay says that every bucket lies; only signatures name it."""

LONGEST_ANSWER = 64 << 10
"""Most bytes that are read of an answer that is no object."""

PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 2.0
"""What is waited at most before the second attempt, twice as much before each further one, and at most of all."""

DONE = range(200, 300)
FULL = 507
PASSING = frozenset({408, 429, 500, 502, 503, 504})


class Broken(Exception):
    """An attempt failed in a way that may pass.

    Unless ``sent`` is False the request may have been done, or be done later.
    """

    def __init__(self, reason: str, *, sent: bool = True) -> None:
        super().__init__(reason)
        self.sent = sent


class Answer(Struct, frozen=True, rename="pascal"):
    """What is looked at of an answer that is no object."""

    code: str = ""
    message: str = ""
    upload_id: str = ""


def read_answer(content: bytes) -> Answer:
    """Reads JSON, and XML for a GhostBay that has learned what S3 speaks; what is neither says nothing."""
    try:
        return msgspec.json.decode(content, type=Answer)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        found = (re.search(rf"<{name}>([^<]*)</".encode(), content) for name in ("Code", "Message", "UploadId"))
        return Answer(*(match[1].decode(errors="replace") if match else "" for match in found))


def failed(operation: str, reason: str) -> Unavailable:
    """Returns the error that says what a client may know."""
    return Unavailable(f"the object service failed: {operation}: {reason}")


def pause(attempt: int) -> float:
    """Returns the seconds to wait after an attempt, of which the first is 1."""
    return random.uniform(0.5, 1) * min(PAUSE_SECONDS * 2 ** (attempt - 1), LONGEST_PAUSE_SECONDS)  # noqa: S311 - no secret


class Wire:
    """The connections to one server; signs what it sends if there are credentials.

    ``retrying`` is told the operation that is begun again. Any number of threads may use it; each call blocks.
    """

    def __init__(self, config: GhostBayConfig, retrying: Callable[[str], None]) -> None:
        split = urlsplit(config.endpoint)
        self.endpoint = config.endpoint
        self.timeout_seconds = config.timeout_seconds
        self.retry_seconds = config.retry_seconds
        self._retrying = retrying
        self._origin = urlunsplit((split.scheme, split.netloc, "", "", ""))
        self._base = split.path.rstrip("/")
        self._signer: S3SigV4Auth | None = None
        if (given := config.credentials) is not None:
            credentials = Credentials(given.access_key, given.secret_key)
            self._signer = S3SigV4Auth(credentials, "s3", REGION)
        # A reader keeps its connection for as long as its client takes: then more are made than are kept.
        self._pool = urllib3.connection_from_url(self._origin, maxsize=config.connections, block=False, retries=False)

    def retried(
        self, operation: str, attempt: Callable[[], T], *, once_sent: bool = False, seconds: float | None = None
    ) -> T:
        """Returns what the first attempt returns that does not break.

        No attempt begins later than ``seconds``, or else the configured time, after the first. With ``once_sent`` it is
        tried again only where nothing was sent.

        Raises:
            Unavailable: the last attempt broke.
        """
        until = time.monotonic() + (self.retry_seconds if seconds is None else seconds)
        tried = 0
        while True:
            tried += 1
            try:
                return attempt()
            except Broken as broken:
                pausing = pause(tried)
                if time.monotonic() + pausing > until or (once_sent and broken.sent):
                    raise failed(operation, str(broken)) from broken
            time.sleep(pausing)
            self._retrying(operation)

    def send(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        body: Body | None = None,
        timeout_seconds: float | None = None,
    ) -> urllib3.BaseHTTPResponse:
        """Returns an answer of a status that does not pass by itself, and whose body has not been read yet.

        ``path`` begins with ``/`` and needs no encoding. ``timeout_seconds`` is for an answer that takes longer.

        Raises:
            Broken: there was no answer, or one that may pass.
            StorageFull: it was 507.
        """
        target = f"{self._base}{path}?{urlencode(query)}" if query else f"{self._base}{path}"
        timeout = urllib3.Timeout(connect=self.timeout_seconds, read=timeout_seconds or self.timeout_seconds)
        try:
            response = self._pool.urlopen(
                method,
                target,
                body,  # pyright: ignore[reportArgumentType] - any buffer will do
                self._headers(method, target, body),
                redirect=False,
                timeout=timeout,
                preload_content=False,
                decode_content=False,
            )
        except (NewConnectionError, ConnectTimeoutError) as error:
            raise Broken(type(error).__name__, sent=False) from error
        except HTTPError as error:
            raise Broken(type(error).__name__) from error
        if response.status in PASSING:
            raise Broken(f"{response.status} {self.answer(response).code}".rstrip())
        if response.status == FULL:
            self.answer(response)
            raise StorageFull
        return response

    def answer(self, response: urllib3.BaseHTTPResponse) -> Answer:
        """Reads what is no object, and lets the connection be used again.

        Raises:
            Broken: the answer does not end.
        """
        try:
            content = response.read(LONGEST_ANSWER)
            ended = not response.read(1)
        except HTTPError as error:
            response.close()
            raise Broken(type(error).__name__) from error
        if not ended:
            response.close()
        return read_answer(content)

    def told(self, operation: str, response: urllib3.BaseHTTPResponse) -> Answer:
        """Returns the answer to a request that was done.

        Raises:
            Broken: the answer does not end.
            UploadGone: there is no such multipart upload.
            Unavailable: the request was refused.
        """
        answer = self.answer(response)
        if response.status in DONE:
            return answer
        # GhostBay has no code for it; S3 has.
        if "Upload not found" in answer.message or answer.code == "NoSuchUpload":
            raise UploadGone
        raise failed(operation, f"{response.status} {answer.code}".rstrip())

    def close(self) -> None:
        """Closes the connections that nobody reads from."""
        self._pool.close()

    def _headers(self, method: str, target: str, body: Body | None) -> dict[str, str]:
        headers = {"Accept-Encoding": "identity"}
        if self._signer is None:
            return headers
        request = AWSRequest(method, f"{self._origin}{target}", headers, body)
        self._signer.add_auth(request)  # pyright: ignore[reportUnknownMemberType]
        return dict(request.headers.items())
