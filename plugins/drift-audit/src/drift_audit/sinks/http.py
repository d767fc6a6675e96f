"""What both sinks that are HTTP servers share: the client, and what its failures are called."""

from collections.abc import Mapping
from urllib.parse import urlsplit

import httpx

from drift_audit.delivery import SinkError
from drift_core.api import stays_here


class Sender:
    """Sends POST requests to one server; follows no redirect, which could lead records anywhere."""

    def __init__(self, url: str, timeout_seconds: float, auth: tuple[str, str] | None = None) -> None:
        self._url = url
        # The path and the query of a webhook are often its secret.
        parts = urlsplit(url)
        self._server = f"{parts.scheme}://{parts.netloc}"
        self._timeout = timeout_seconds
        self._auth = auth
        self._client: httpx.AsyncClient | None = None

    async def post(self, content: bytes, headers: Mapping[str, str]) -> httpx.Response:
        """Returns an answer of success. Raises `SinkError` for every other one, and where none comes."""
        if self._client is None:
            self._client = httpx.AsyncClient(
                timeout=self._timeout,
                auth=self._auth,
                follow_redirects=False,
                # A proxy cannot reach this machine under the name that it has for itself.
                trust_env=not stays_here(self._url),
            )
        try:
            answer = await self._client.post(self._url, content=content, headers=dict(headers))
        except httpx.HTTPError as error:
            # A header that cannot be sent stands in the text.
            reason = "" if isinstance(error, httpx.LocalProtocolError) else f": {error}"
            message = f"{self._server}: {type(error).__name__}{reason}"
            raise SinkError(message) from error
        if not answer.is_success:
            message = f"{self._server} answers {answer.status_code}"
            raise SinkError(message)
        return answer

    async def close(self) -> None:
        """Ends the connections."""
        if self._client is not None:
            client, self._client = self._client, None
            await client.aclose()
