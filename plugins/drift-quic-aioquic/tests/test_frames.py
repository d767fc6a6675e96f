"""Frames of HTTP/3, cut anywhere: what they have of a body is what the application gets."""

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pylsqpack
from aioquic.buffer import encode_uint_var
from aioquic.h3.connection import encode_frame
from aioquic.quic.events import StreamDataReceived
from drift_quic_aioquic.config import HTTP3
from drift_quic_aioquic.engine import Data, Event, Headers
from drift_quic_aioquic.http3 import SKIPPED, HttpSession
from hypothesis import given
from hypothesis import strategies as st

DATA, HEADERS = 0, 1
HEAD = [(b":method", b"PUT"), (b":scheme", b"https"), (b":authority", b"x"), (b":path", b"/")]


class Nowhere:
    """A connection that goes nowhere."""

    def __init__(self) -> None:
        self.configuration = SimpleNamespace(is_client=False)
        self._quic_logger = None
        self._remote_max_datagram_frame_size = None
        self.waiting: dict[int, int] = {}
        self.kept: Any = int
        self.closed: list[int] = []
        self._next = 3

    def get_next_available_stream_id(self, is_unidirectional: bool = False) -> int:
        assert is_unidirectional
        self._next += 4
        return self._next

    def send_stream_data(self, stream_id: int, data: Any, end_stream: bool = False) -> None:
        """Drops it."""

    def close(self, error_code: int, frame_type: int | None = None, reason_phrase: str = "") -> None:
        del frame_type, reason_phrase
        self.closed.append(error_code)


class Session(HttpSession[Any]):
    def __init__(self) -> None:
        self._quic = Nowhere()
        self._opened(HTTP3)

    def take(self, data: bytes, *, ended: bool = False) -> list[Event]:
        return list(self._of_stream(StreamDataReceived(data, ended, 0)))


def head() -> bytes:
    _, packed = pylsqpack.Encoder().encode(0, HEAD)
    return encode_frame(HEADERS, packed)


def long_frame(kind: int, content: bytes, width: int) -> bytes:
    """Returns a frame whose length takes ``width`` bytes, which may be more than it needs."""
    prefix = {1: 0, 2: 1, 4: 2, 8: 3}[width] << (8 * width - 2)
    return encode_uint_var(kind) + (prefix | len(content)).to_bytes(width) + content


frames = st.lists(
    st.tuples(st.sampled_from([DATA, DATA, DATA, SKIPPED]), st.binary(max_size=63), st.sampled_from([1, 2, 4, 8])),
    max_size=12,
)


@given(frames, st.lists(st.integers(0, 1000), max_size=20), st.booleans())
def test_whatever_is_cut_comes_out_whole(
    wanted: list[tuple[int, bytes, int]], cuts: list[int], ended_with_the_last: bool
) -> None:
    stream = head() + b"".join(long_frame(*one) for one in wanted)
    places = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    session, found = Session(), list[Event]()
    for start, stop in pairwise(places):
        found += session.take(stream[start:stop], ended=ended_with_the_last and stop == len(stream))
    if not ended_with_the_last:
        found += session.take(b"", ended=True)
    assert [one for one in found if isinstance(one, Headers)] == [Headers(0, HEAD, found[0].ended)]
    body = b"".join(one.data for one in found if isinstance(one, Data))
    assert body == b"".join(content for kind, content, _ in wanted if kind == DATA)
    assert found[-1].ended
    assert sum(one.ended for one in found) == 1
    assert session._quic.waiting.get(0, 0) == len(body)
    assert session._quic.closed == []


def test_a_head_behind_the_trailers_ends_the_connection() -> None:
    session = Session()
    session.take(head() + long_frame(DATA, b"body", 1))
    _, trailers = pylsqpack.Encoder().encode(0, [(b"x", b"y")])
    session.take(encode_frame(HEADERS, trailers))
    session.take(long_frame(DATA, b"more", 1))
    assert session._quic.closed == [0x105]
