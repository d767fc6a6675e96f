"""The sink ``syslog``: RFC 5424 messages over UDP (RFC 5426), TCP (RFC 6587, octet counting) or TLS (RFC 5425)."""

import asyncio
import os
import re
import socket
import ssl
from collections.abc import Sequence

from drift_audit.config import SyslogExport
from drift_audit.delivery import Item, SinkError
from drift_audit.record import StoredRecord, decoded

SEVERITIES = {"Debug": 7, "Info": 6, "Warning": 4, "Error": 3, "Critical": 2}
"""RFC 5424 section 6.2.1."""

ELEMENT = "drift@32473"
"""The name of our structured data; 32473 is the enterprise number for examples (RFC 5612), as we have none."""

DATAGRAM_BYTES = 65507 - 1024
"""The most that a UDP datagram carries, less room for IP options."""

_UNPRINTABLE = re.compile(r"[^!-~]")
_ESCAPED = re.compile(r'(["\\\]])')


class SyslogSink:
    """Syslog has no acknowledgements: a record counts as taken once the system has it to send."""

    name = "syslog"
    attempts = 2

    def __init__(self, config: SyslogExport) -> None:
        self._config = config
        self.batch_size = config.batch_size
        self.deadline_seconds = config.timeout_seconds
        host, _, port = config.address.rpartition(":")
        self._host, self._port = host.strip("[]"), int(port)
        self._tls = None if config.protocol != "tls" else ssl.create_default_context(cafile=config.ca_file)
        self._stream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, items: Sequence[Item]) -> Sequence[int]:
        """See `Sink`."""
        messages = [message(decoded(item.content), item.content, self._config) for item in items]
        try:
            if self._config.protocol == "udp":
                return await self._send_datagrams(items, messages)
            await self._send_stream(b"".join(b"%d %b" % (len(text), text) for text in messages))
        except OSError as error:
            await self.close()
            message_ = f"{self._config.address}: {error}"
            raise SinkError(message_) from error
        return ()

    async def close(self) -> None:
        """See `Sink`."""
        if self._stream is not None:
            (_, writer), self._stream = self._stream, None
            writer.close()
            try:
                await writer.wait_closed()
            except OSError:
                # It was broken already, which whoever sent over it was told.
                return

    async def _send_datagrams(self, items: Sequence[Item], messages: Sequence[bytes]) -> Sequence[int]:
        loop = asyncio.get_running_loop()
        (family, *_, address), *_ = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM)
        too_long: list[int] = []
        with socket.socket(family, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            for item, text in zip(items, messages, strict=True):
                if len(text) > DATAGRAM_BYTES:
                    too_long.append(item.sequence)
                else:
                    await loop.sock_sendto(sender, text, address)
        return too_long

    async def _send_stream(self, content: bytes) -> None:
        if self._stream is not None and self._stream[0].at_eof():
            # The server has closed it: what is written now would go nowhere.
            await self.close()
        if self._stream is None:
            name = self._host if self._tls else None
            self._stream = await asyncio.open_connection(self._host, self._port, ssl=self._tls, server_hostname=name)
        _, writer = self._stream
        writer.write(content)
        await writer.drain()


def message(record: StoredRecord, content: bytes, config: SyslogExport) -> bytes:
    """Returns the message of a record; its text is the record as JSON in UTF-8."""
    priority = config.facility * 8 + SEVERITIES[record.severity]
    timestamp = record.timestamp.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    host = _printable(socket.gethostname(), 255)
    header = f"<{priority}>1 {timestamp} {host} {config.app_name} {os.getpid()} {_printable(record.event_type, 32)}"
    fields = {
        "sequence": str(record.sequence),
        "id": record.id,
        "user": record.user.username,
        "resource": record.resource.id,
        "client": record.network.client_ip,
        "success": "true" if record.result.success else "false",
    }
    parameters = "".join(f' {name}="{_escaped(value)}"' for name, value in fields.items() if value)
    return f"{header} [{ELEMENT}{parameters}] ".encode() + b"\xef\xbb\xbf" + content


def _printable(text: str, length: int) -> str:
    return _UNPRINTABLE.sub("_", text)[:length] or "-"


def _escaped(value: str) -> str:
    return _ESCAPED.sub(r"\\\1", value)
