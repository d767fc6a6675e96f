"""HTTP/3 on the streams of any engine: aioquic's, with a bound on whatever a client may have kept.

What is private in aioquic and used here is in `PRIVATE`: of HTTP/3 it accepts heads and settings of any size, and sends
no GOAWAY.
"""

# pyright: reportPrivateUsage=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# See above; and its types do not say all.

from collections import deque
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any, Final, Generic, Protocol, TypeVar

import pylsqpack
from aioquic.buffer import encode_uint_var
from aioquic.h3 import connection as h3
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.events import StopSendingReceived, StreamDataReceived, StreamReset

from drift_quic_aioquic.config import HTTP3
from drift_quic_aioquic.engine import (
    Answered,
    Closed,
    Completed,
    Data,
    Event,
    HeaderList,
    Headers,
    Named,
    Opened,
    Reset,
    Stopped,
    TooLarge,
    Unnamed,
)

MAX_HEAD_BYTES: Final = 64 << 10
"""The largest head of a request, packed or unpacked (RFC 9114 section 4.2.2)."""

MAX_CONTROL_BYTES: Final = 4 << 10
"""The largest frame that is kept until it is whole of the stream with the settings (RFC 9114 section 10.5)."""

DATA: Final = int(h3.FrameType.DATA)
AFTER_HEADERS: Final = h3.HeadersState.AFTER_HEADERS

SKIPPED: Final = 0x21
"""A type of frame that means nothing (RFC 9114 section 7.2.8): its payload is passed over as it arrives."""

PRIVATE: Final = {
    "h3": [
        "_blocked_streams",
        "_check_content_length",
        "_check_control_frame_type",
        "_check_request_or_push_frame_type",
        "_decoder",
        "_get_local_settings",
        "_get_or_create_stream",
        "_init_connection",
        "_is_client",
        "_local_control_stream_id",
        "_max_table_capacity",
        "_peer_control_stream_id",
        "_quic",
        "_stream",
    ],
}
"""Attributes of aioquic's objects that its documentation does not promise."""


class Streams(Protocol):
    """A connection of an engine, as far as it is about streams.

    ``waiting`` are the bytes of each stream that the application has not taken, ``kept`` returns how many bytes of
    frames that are not whole HTTP/3 keeps.
    """

    waiting: dict[int, int]
    kept: Callable[[], int]

    @property
    def queue(self) -> deque[Any]:
        """The events that `next_event` will return."""
        ...

    def next_event(self) -> Any:
        """Returns what has happened next, None for nothing."""
        ...

    def get_next_available_stream_id(self, is_unidirectional: bool = False) -> int:
        """Returns the number of the next stream of this side."""
        ...

    def send_stream_data(self, stream_id: int, data: Any, end_stream: bool = False) -> None:
        """Sends a part of a stream."""
        ...

    def reset_stream(self, stream_id: int, error_code: int) -> None:
        """Breaks off what this side sends."""
        ...

    def abandon(self, stream_id: int) -> None:
        """Forgets what will never be sent of a stream that was broken off."""
        ...

    def is_over(self, stream_id: int) -> bool:
        """Says whether nothing can be sent on a stream any more, since either side has broken it off."""
        ...

    def send_ping(self, uid: int) -> None:
        """Asks the other side for a sign of life."""
        ...

    def close(self, error_code: int, frame_type: int | None = None, reason_phrase: str = "") -> None:
        """Ends the connection."""
        ...


class _ExcessiveLoadError(h3.ProtocolError):
    """The other side wants too much kept (RFC 9114 section 8.1)."""

    error_code = h3.ErrorCode.H3_EXCESSIVE_LOAD


class Http3(h3.H3Connection):
    """aioquic's HTTP/3, with a bound on heads and without a table that would let a small head unpack to a large one."""

    def __init__(self, connection: Streams) -> None:
        self.too_large: list[int] = []
        super().__init__(connection)  # type: ignore[arg-type]
        connection.kept = self._kept

    def _kept(self) -> int:
        return sum(len(stream.buffer) for stream in self._stream.values())

    def _init_connection(self) -> None:
        # A stream that waits for an entry of the table would hold its body in memory, past every window.
        self._max_table_capacity = self._blocked_streams = 0
        self._decoder = pylsqpack.Decoder(0, 0)
        super()._init_connection()

    def _get_local_settings(self) -> dict[int, int]:
        settings = super()._get_local_settings()
        del settings[h3.Setting.ENABLE_CONNECT_PROTOCOL]
        settings[h3.Setting.MAX_FIELD_SECTION_SIZE] = MAX_HEAD_BYTES
        return settings

    def _check_control_frame_type(self, frame_type: int) -> None:
        super()._check_control_frame_type(frame_type)
        size = self._stream[self._peer_control_stream_id or 0].frame_size or 0
        if size > MAX_CONTROL_BYTES and frame_type in {h3.FrameType.SETTINGS, h3.FrameType.MAX_PUSH_ID}:
            raise _ExcessiveLoadError("a frame on the control stream is too large")

    def _check_request_or_push_frame_type(self, frame_type: int, stream: h3.H3Stream) -> None:
        super()._check_request_or_push_frame_type(frame_type, stream)
        if frame_type == h3.FrameType.HEADERS and (stream.frame_size or 0) > MAX_HEAD_BYTES:
            stream.frame_type = SKIPPED
            if stream.headers_recv_state == h3.HeadersState.INITIAL:
                stream.headers_recv_state = AFTER_HEADERS
                self.too_large.append(stream.stream_id)

    def _check_content_length(self, stream: h3.H3Stream) -> None:
        # The answer to HEAD has the length of what it leaves out; a stream that breaks off is reset.
        if not self._is_client:
            super()._check_content_length(stream)

    def body(self, stream_id: int, data: bytes) -> bytes | None:
        """Returns what ``data`` has of a body where it has nothing else; else None, and nothing has changed.

        aioquic's way copies it twice, and looks at each frame for all that one may be.
        """
        stream = self._stream.get(stream_id)
        if stream is None or stream.buffer or stream.blocked or stream.headers_recv_state != AFTER_HEADERS:
            return None
        if stream.frame_type not in (None, DATA):
            return None
        left = 0 if stream.frame_size is None else stream.frame_size
        place, whole, parts, view = 0, len(data), list[memoryview](), memoryview(data)
        while place < whole:
            if not left:
                size = 1 << (data[place + 1] >> 6) if place + 1 < whole else whole
                if data[place] != DATA or place + 1 + size > whole:
                    return None
                left = int.from_bytes(data[place + 1 : place + 1 + size]) & ((1 << (8 * size - 2)) - 1)
                place += 1 + size
            part = min(left, whole - place)
            parts.append(view[place : place + part])
            place, left = place + part, left - part
        found = b"".join(parts)
        stream.content_length += len(found)
        stream.frame_size, stream.frame_type = (left, DATA) if left else (None, None)
        return found

    def end(self, stream_id: int) -> None:
        """Notes that this side of a stream is complete."""
        with self._get_or_create_stream(stream_id) as stream:
            stream.finish_sending()

    def broken_off(self, stream_id: int) -> None:
        """Notes that this side of a stream is reset."""
        stream = self._stream.get(stream_id)
        if stream is not None:
            stream.sending_ended = True
            if stream.is_ended():
                del self._stream[stream_id]

    @property
    def control(self) -> int:
        """The stream for what is about the connection."""
        assert self._local_control_stream_id is not None  # noqa: S101 - it is opened with the connection
        return self._local_control_stream_id

    def goaway(self, first: int) -> None:
        """Sends GOAWAY."""
        self._quic.send_stream_data(self.control, h3.encode_frame(h3.FrameType.GOAWAY, encode_uint_var(first)))


S = TypeVar("S", bound=Streams)

StreamEvent = StreamDataReceived | StreamReset | StopSendingReceived


class HttpSession(Generic[S]):
    """The part of a `Session` that is about streams, and HTTP/3 where that is spoken on them."""

    _quic: S
    _kinds: ModuleType
    """The engine's events; those of qh3 are named as aioquic's, from which it comes."""
    _http: Http3 | None = None

    def _opened(self, protocol: str | None) -> Opened:
        if protocol == HTTP3:
            self._http = Http3(self._quic)
        return Opened(protocol or "")

    def _happened(self) -> Iterable[Event]:
        """Yields what the engine has to tell."""
        kinds = self._kinds
        while (event := self._quic.next_event()) is not None:
            if isinstance(event, kinds.StreamDataReceived):
                yield from self._of_stream(self._joined(event))
            elif isinstance(event, kinds.StreamReset):
                yield from self._of_stream(StreamReset(event.error_code, event.stream_id))
            elif isinstance(event, kinds.StopSendingReceived):
                yield from self._of_stream(StopSendingReceived(event.error_code, event.stream_id))
            else:
                yield from self._of_connection(event)

    def _of_connection(self, event: Any) -> Iterable[Event]:
        kinds = self._kinds
        if isinstance(event, kinds.ProtocolNegotiated):
            yield self._opened(event.alpn_protocol)
        elif isinstance(event, kinds.HandshakeCompleted):
            yield Completed(event.session_resumed, event.early_data_accepted)
        elif isinstance(event, kinds.ConnectionIdIssued):
            yield Named(event.connection_id)
        elif isinstance(event, kinds.ConnectionIdRetired):
            yield Unnamed(event.connection_id)
        elif isinstance(event, kinds.PingAcknowledged):
            yield Answered(event.uid)
        elif isinstance(event, kinds.ConnectionTerminated):
            yield Closed(event.error_code, event.reason_phrase)

    def _joined(self, event: Any) -> StreamDataReceived:
        """Returns a part with those that go on where it ends, so that HTTP/3 looks at all of them once."""
        queue, parts, ended = self._quic.queue, [event.data], event.end_stream
        while queue and not ended:
            following = queue[0]
            if not isinstance(following, self._kinds.StreamDataReceived) or following.stream_id != event.stream_id:
                break
            queue.popleft()
            parts.append(following.data)
            ended = following.end_stream
        return StreamDataReceived(parts[0] if len(parts) == 1 else b"".join(parts), ended, event.stream_id)

    def _took(self, stream: int, size: int) -> None:
        """Notes that the application has taken so much of a stream."""
        waiting = self._quic.waiting
        left = waiting.get(stream, 0) - size
        if left > 0:
            waiting[stream] = left
        else:
            waiting.pop(stream, None)

    def _of_stream(self, event: StreamEvent) -> Iterable[Event]:
        if isinstance(event, StopSendingReceived):
            self._quic.abandon(event.stream_id)
        if self._http is not None:
            yield from self._of_http(self._http, event)
        if isinstance(event, StreamReset):
            yield Reset(event.stream_id)
        elif isinstance(event, StopSendingReceived):
            yield Stopped(event.stream_id)
        elif self._http is None:
            self._count(event.stream_id, event.data)
            yield Data(event.stream_id, event.data, event.end_stream)

    def _of_http(self, http: Http3, event: StreamEvent) -> Iterable[Event]:
        if isinstance(event, StreamDataReceived) and not event.end_stream:
            body = http.body(event.stream_id, event.data)
            if body is not None:
                self._count(event.stream_id, body)
                yield Data(event.stream_id, body, ended=False)
                return
        before = http._stream.get(event.stream_id)
        begun = before is not None and before.headers_recv_state != h3.HeadersState.INITIAL
        for found in http.handle_event(event):
            if isinstance(found, DataReceived):
                self._count(found.stream_id, found.data)
                yield Data(found.stream_id, found.data, found.stream_ended)
            elif isinstance(found, HeadersReceived) and begun:
                # Trailers, which nobody asks for.
                yield Data(found.stream_id, b"", found.stream_ended)
            elif isinstance(found, HeadersReceived):
                begun = not h3.is_interim_response(found.headers)
                yield Headers(found.stream_id, found.headers, found.stream_ended)
        while http.too_large:
            yield TooLarge(http.too_large.pop())

    def _count(self, stream: int, data: bytes) -> None:
        if data:
            self._quic.waiting[stream] = self._quic.waiting.get(stream, 0) + len(data)

    def head(self, stream: int, headers: HeaderList, *, ended: bool) -> None:
        """See `Session`."""
        assert self._http is not None  # noqa: S101 - `Opened` has said so
        if not self._quic.is_over(stream):
            self._http.send_headers(stream, headers, ended)

    def body(self, stream: int, data: bytes | memoryview, *, ended: bool) -> None:
        """See `Session`."""
        assert self._http is not None  # noqa: S101 - `Opened` has said so
        if self._quic.is_over(stream):
            return
        if ended:
            self._http.end(stream)
        if data:
            # As aioquic's own `send_data`, without its three copies.
            self._quic.send_stream_data(stream, b"\0" + encode_uint_var(len(data)))
        self._quic.send_stream_data(stream, data, ended)

    def write(self, stream: int, data: bytes, *, ended: bool) -> None:
        """See `Session`."""
        if not self._quic.is_over(stream):
            self._quic.send_stream_data(stream, data, ended)

    def reset(self, stream: int, code: int) -> None:
        """See `Session`."""
        self._quic.reset_stream(stream, code)
        self._quic.abandon(stream)
        if self._http is not None:
            self._http.broken_off(stream)

    def forget(self, stream: int) -> None:
        """See `Session`."""
        self._quic.waiting.pop(stream, None)

    def next_stream(self) -> int:
        """See `Session`."""
        return self._quic.get_next_available_stream_id()

    def goaway(self, first: int) -> None:
        """See `Session`."""
        if self._http is not None and not self._quic.is_over(self._http.control):
            self._http.goaway(first)

    def ping(self, number: int) -> None:
        """See `Session`."""
        self._quic.send_ping(number)

    def close(self, code: int, reason: str) -> None:
        """See `Session`."""
        self._quic.close(error_code=code, reason_phrase=reason)
