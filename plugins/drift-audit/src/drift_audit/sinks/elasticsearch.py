"""The sink ``elasticsearch``: the bulk API of Elasticsearch or OpenSearch, one index for each day."""

from collections.abc import Sequence
from typing import Any

import msgspec

from drift_audit.config import ElasticsearchExport
from drift_audit.delivery import Item, SinkError
from drift_audit.record import decoded
from drift_audit.sinks.http import Sender

CONFLICT = 409
"""The status of a record that is there already, from a delivery whose answer was lost."""

LATER = frozenset({408, 429})


class _Outcome(msgspec.Struct):
    """What became of one record."""

    status: int
    error: Any = None


class _Answer(msgspec.Struct):
    """The answer of the bulk API."""

    errors: bool
    items: list[dict[str, _Outcome]]


class ElasticsearchSink:
    """Each record is created under its own id, so that one which is sent twice is there once."""

    name = "elasticsearch"
    attempts = 2

    def __init__(self, config: ElasticsearchExport) -> None:
        self._prefix = config.index_prefix
        self.batch_size = config.batch_size
        self.deadline_seconds = config.timeout_seconds
        auth = None if config.username is None or config.password is None else (config.username, config.password)
        self._sender = Sender(f"{config.url.rstrip('/')}/_bulk", config.timeout_seconds, auth)

    async def send(self, items: Sequence[Item]) -> Sequence[int]:
        """See `Sink`; a record that the cluster cannot index, for instance by its mapping, is refused."""
        content = b"".join(self._action(item) + item.content + b"\n" for item in items)
        answer = await self._sender.post(content, {"Content-Type": "application/x-ndjson"})
        try:
            said = msgspec.json.decode(answer.content, type=_Answer)
        except msgspec.MsgspecError as error:
            raise SinkError("the answer is none of the bulk API") from error
        outcomes = [outcome for item in said.items for outcome in item.values()]
        if len(outcomes) != len(items):
            message = f"the answer tells of {len(outcomes)} records, not of {len(items)}"
            raise SinkError(message)
        later = [outcome.status for outcome in outcomes if outcome.status in LATER or outcome.status >= 500]  # noqa: PLR2004
        if later:
            message = f"{len(later)} of {len(items)} records were not taken now, the first with {later[0]}"
            raise SinkError(message)
        return [
            item.sequence
            for item, outcome in zip(items, outcomes, strict=True)
            if outcome.status >= 300 and outcome.status != CONFLICT  # noqa: PLR2004 - not a success
        ]

    async def close(self) -> None:
        """See `Sink`."""
        await self._sender.close()

    def _action(self, item: Item) -> bytes:
        record = decoded(item.content)
        index = f"{self._prefix}-{record.timestamp:%Y.%m.%d}"
        return msgspec.json.encode({"create": {"_index": index, "_id": record.id}}) + b"\n"
