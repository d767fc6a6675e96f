"""Reads the metrics of a server, as Prometheus does, and says what has changed between two readings."""

import http.client
import ssl
import time
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from urllib.parse import SplitResult, urlsplit

from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families

from drift_core.api import StartError

TIMEOUT_SECONDS = 10.0
MOST_BYTES = 64 << 20
"""Of a page of metrics: more is none of ours."""

PATH = "/metrics"


class Away(StartError):
    """The server does not answer now; it may do so later."""


class Sample(Struct, frozen=True):
    """A value under a name and its labels."""

    name: str
    labels: Mapping[str, str]
    value: float


class Reading:
    """What a server said at a moment, in seconds of a clock that only goes forward."""

    def __init__(self, text: str, at: float) -> None:
        """Raises ValueError for what is no page of metrics."""
        self.at = at
        self._samples: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                self._samples.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value

    def samples(self, name: str) -> Iterator[Sample]:
        """Yields the values of a name as they are."""
        for labels, value in self._samples.get(name, {}).items():
            yield Sample(name, dict(labels), value)

    def since(self, before: "Reading", name: str) -> Iterator[Sample]:
        """Yields by how much the counters of a name have grown; one that is less than before began at 0 again."""
        earlier = before._samples.get(name, {})  # noqa: SLF001 - of the same class
        for labels, value in self._samples.get(name, {}).items():
            known = earlier.get(labels, 0.0)
            yield Sample(name, dict(labels), value - known if value >= known else value)


class Server:
    """A server whose metrics are read; ``authorization`` is the header of that name, None for nobody."""

    def __init__(self, url: str, authorization: str | None, ca_file: str | None) -> None:
        """Raises `StartError` for what is no URL, and for certificates that cannot be read."""
        self.url = url
        self._parts = _parsed(url)
        self._path = self._parts.path if self._parts.path not in ("", "/") else PATH
        self._headers = {"accept": "text/plain", **({"authorization": authorization} if authorization else {})}
        self._tls: ssl.SSLContext | None = None
        if self._parts.scheme == "https":
            try:
                self._tls = ssl.create_default_context(cafile=ca_file)
            except OSError as error:
                message = f"{ca_file}: no certificates can be read: {error}"
                raise StartError(message) from error

    def read(self) -> Reading:
        """Returns what the server says now.

        Raises:
            Away: it does not answer, or not now.
            StartError: it refuses, has no such page, or the page is not that of a registry.
        """
        try:
            status, text = self._ask()
        except (OSError, http.client.HTTPException) as error:
            message = f"{self.url} does not answer: {error or type(error).__name__}"
            raise Away(message) from error
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS:
            message = f"{self.url} answers {status}"
            raise Away(message)
        if status != HTTPStatus.OK:
            raise StartError(self._refusal(status))
        try:
            reading = Reading(text, time.monotonic())
        except ValueError as error:
            message = f"{self.url}{self._path} is no page of metrics"
            raise StartError(message) from error
        if not [*reading.samples("drift_info")]:
            message = f"{self.url}{self._path} has metrics, but not those of Drift"
            raise StartError(message)
        return reading

    def _refusal(self, status: int) -> str:
        if status == HTTPStatus.UNAUTHORIZED:
            return f"{self.url} refuses: log in by --username, or by a token"
        if status == HTTPStatus.FORBIDDEN:
            return f"{self.url} refuses: reading the metrics takes the scope registry:*:*"
        if status == HTTPStatus.NOT_FOUND:
            return f"{self.url} has no {self._path}: is drift-metrics installed there, or metrics.endpoint another one?"
        return f"{self.url}{self._path} answers {status}"

    def _ask(self) -> tuple[int, str]:
        host, port = self._parts.hostname or "", self._parts.port
        connection: http.client.HTTPConnection
        if self._tls is None:
            connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)
        else:
            connection = http.client.HTTPSConnection(host, port, timeout=TIMEOUT_SECONDS, context=self._tls)
        try:
            # No redirect is followed: whoever it leads to must not be told the credentials.
            connection.request("GET", self._path, headers=self._headers)
            answer = connection.getresponse()
            content = answer.read(MOST_BYTES)
            if answer.read(1):
                message = f"the page has more than {MOST_BYTES} bytes"
                raise http.client.HTTPException(message)
            return answer.status, content.decode("utf-8", "replace")
        finally:
            connection.close()


def _parsed(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
        parts = SplitResult("", "", "", "", "")
    if not good:
        message = f"{url!r} is no URL of a server, such as https://registry.example.com"
        raise StartError(message)
    return parts
