"""Whatever somebody without a key makes of a message, it never counts for anything else, and never is an error."""

from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drift_core.api import Judgement
from drift_core.conformance.suites.signing import IMAGE, OTHER

from . import conftest as made
from .conftest import Gnupg, judged

thorough = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def judge(gpg: Gnupg, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Judgement]:
    for name in made.ALGORITHMS:
        gpg.make(name)
    folder = tmp_path_factory.mktemp("trust")
    return partial(judged, made.trusting(folder, *(gpg.certificate(name) for name in made.ALGORITHMS)))


@pytest.fixture(scope="module")
def messages(gpg: Gnupg) -> list[bytes]:
    options = (("--compress-algo", "none"), ("--compress-algo", "zip"), ("--compress-algo", "zlib"))
    for name in made.ALGORITHMS:
        gpg.make(name)
    return [gpg.sign(name, made.payload(), *how) for name in ("rsa3072", "ed25519", "nistp256") for how in options]


@pytest.fixture(scope="module")
def other(gpg: Gnupg) -> bytes:
    return gpg.sign("ed25519", made.payload(digest=OTHER.digest), "--compress-algo", "none")


@thorough
@given(data=st.data())
def test_edited_messages(judge: Callable[..., Judgement], messages: list[bytes], data: st.DataObject) -> None:
    """Some bytes of a message nobody has signed, such as the date of the file: those change nothing."""
    message = data.draw(st.sampled_from(messages))
    edited = bytearray(message)
    for _ in range(data.draw(st.integers(1, 3))):
        begin = data.draw(st.integers(0, len(edited)))
        end = data.draw(st.integers(begin, min(len(edited), begin + 4)))
        edited[begin:end] = data.draw(st.binary(max_size=4))
    judgement = judge(bytes(edited))
    assert judgement == judge(message) or not judgement.good
    assert not judge(bytes(edited), OTHER).good


@thorough
@given(content=st.binary(max_size=512))
def test_any_bytes(judge: Callable[..., Judgement], content: bytes) -> None:
    assert not judge(content).good


@thorough
@given(data=st.data())
def test_packets_of_two_messages(
    judge: Callable[..., Judgement], messages: list[bytes], other: bytes, data: st.DataObject
) -> None:
    """A signature counts for what it is of, however packets are put together."""
    one, two = messages[3], other
    parts = [content[begin:end] for content in (one, two) for begin, end in _packets(content)]
    mixed = data.draw(st.lists(st.sampled_from(parts), min_size=1, max_size=6))
    for subject, whole in ((IMAGE, one), (OTHER, two)):
        judgement = judge(b"".join(mixed), subject)
        # All that is not signed is alike in both of them.
        assert not judgement.good or mixed[1:] == [whole[begin:end] for begin, end in _packets(whole)][1:]


def _packets(content: bytes) -> list[tuple[int, int]]:
    """Returns where the three packets of a message begin and end that GnuPG has not compressed."""
    found, position = [], 0
    while position < len(content):
        header = content[position]
        if header >> 6 == 3:
            first = content[position + 1]
            size = first + 2 if first < 192 else (first - 192 << 8) + content[position + 2] + 192 + 3
        else:
            octets = 1 << (header & 3)
            size = int.from_bytes(content[position + 1 : position + 1 + octets], "big") + 1 + octets
        found.append((position, position + size))
        position += size
    assert len(found) == 3
    return found


def test_the_fuzz_begins_with_good_messages(
    judge: Callable[..., Judgement], messages: list[bytes], other: bytes
) -> None:
    assert all(judge(message).good for message in messages)
    assert judge(other, OTHER).good
