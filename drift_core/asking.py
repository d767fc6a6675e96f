"""Which request the running task answers: for those deep below who have to know from where it came."""

from contextvars import ContextVar

from drift_core.protocols.access import Credentials

_CURRENT: ContextVar[Credentials | None] = ContextVar("drift-asking", default=None)


def asking() -> Credentials | None:
    """Returns what the request says about its sender; None outside a request, or where nobody has to log in.

    Also within what `Records.write` runs for the request in another thread.
    """
    return _CURRENT.get()


def answer(credentials: Credentials) -> None:
    """Makes the running task, and those that it starts, answer this request."""
    _CURRENT.set(credentials)
