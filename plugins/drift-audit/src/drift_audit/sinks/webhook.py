"""The sink ``webhook``: a JSON array of records by POST, signed."""

import hashlib
import hmac
import time
from collections.abc import Sequence

from drift_audit.config import WebhookExport
from drift_audit.delivery import Item
from drift_audit.sinks.http import Sender

SIGNATURE = "X-Drift-Signature"


class WebhookSink:
    """Any 2xx answer takes all records of the array; every other is followed by the same records again."""

    name = "webhook"

    def __init__(self, config: WebhookExport) -> None:
        self._config = config
        self.batch_size = config.batch_size
        self.attempts = 1 + config.retry_attempts
        self.deadline_seconds = config.timeout_seconds
        self._sender = Sender(config.url, config.timeout_seconds)

    async def send(self, items: Sequence[Item]) -> Sequence[int]:
        """See `Sink`."""
        content = b"[" + b",".join(item.content for item in items) + b"]"
        headers: dict[str, str] = {**self._config.headers, "Content-Type": "application/json"}
        if self._config.secret is not None:
            headers[SIGNATURE] = signature(self._config.secret, content, int(time.time()))
        await self._sender.post(content, headers)
        return ()

    async def close(self) -> None:
        """See `Sink`."""
        await self._sender.close()


def signature(secret: str, content: bytes, now: int) -> str:
    """Returns ``t=NOW,v1=HEX``: HMAC-SHA256 of ``NOW.CONTENT``; ``now`` in seconds since the epoch."""
    mac = hmac.digest(secret.encode(), b"%d." % now + content, hashlib.sha256)
    return f"t={now},v1={mac.hex()}"
