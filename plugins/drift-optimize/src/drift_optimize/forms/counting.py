"""Counts the entries of a tar that is packed as it is."""

from drift_optimize.forms.refusal import Refused
from drift_optimize.forms.tape import Entry, Tape


class _Deaf:
    def raw(self, data: bytes) -> None: ...

    def begin(self, entry: Entry) -> None: ...

    def content(self, data: bytes) -> None: ...

    def end(self) -> None: ...


class Counting:
    """``entries`` is None once the tar cannot be followed; it is packed all the same."""

    def __init__(self) -> None:
        self._tape: Tape | None = Tape(_Deaf())

    def add(self, block: bytes) -> None:
        """Takes the next block."""
        if self._tape is not None:
            try:
                self._tape.feed(block)
            except Refused:
                self._tape = None

    @property
    def entries(self) -> int | None:
        """How many there are."""
        return None if self._tape is None else self._tape.entries
