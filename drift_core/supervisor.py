"""Runs the worker processes: starts them, replaces one that dies, passes stop signals on, and waits for the drain."""

import asyncio
import gc
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any

import structlog
import uvloop

from drift_core.choosing import Slot
from drift_core.config import Config, parse_address
from drift_core.counting import forget_state, shared_values
from drift_core.errors import StartError
from drift_core.logs import configure_logs

Serve = Callable[[Config, Slot, Callable[[], None]], Awaitable[None]]
"""What a worker runs: configuration, which one it is, and what to call when it is ready. Importable by name."""

FIRST_DELAY, LONGEST_DELAY = 0.1, 10.0
"""Seconds before a worker that died young is replaced: the first time, and at most."""

YOUNG = 5.0
"""Seconds of life after which the death of a worker counts as a first one."""

GIVES_WAY = 10
"""How much later than others the processes of one transport get their turn (nice), so that bulk there delays nobody."""

KILL_GRACE = 5.0
"""Seconds that a worker gets beyond its drain before it is killed."""


def supervise(config: Config, slots: Sequence[Slot], serve: Serve, *, site: bool = False) -> int:
    """Runs a worker for each slot until SIGTERM or SIGINT, and returns the exit code: 0, or 1 for a failed start.

    With ``site`` they listen on ``server.ui_addr``, too. Raises `StartError` for an address that cannot be listened on.
    """
    with ExitStack() as stack:
        names = [stack.enter_context(claim(config.server.bind_addr))]
        if site:
            names.append(stack.enter_context(_claimed_for_browsers(config.server.ui_addr)))
        stack.enter_context(shared_values())
        return _Supervisor(config, slots, serve, names).run()


@contextmanager
def _claimed_for_browsers(address: str) -> Iterator[socket.socket]:
    with ExitStack() as stack:
        try:
            name = stack.enter_context(claim(address))
        except StartError as error:
            advice = "choose another server.ui_addr, or do without the console by ui.enabled = false"
            message = f"{error}, where the console would be; {advice}"
            raise StartError(message) from error
        yield name


@contextmanager
def claim(address: str) -> Iterator[socket.socket]:
    """Keeps an address for this server alone, and yields what holds it. Raises `StartError` where somebody else has it.

    Workers share the port with SO_REUSEPORT, and so would, unnoticed, another server of the same user: nobody may
    listen now, and on Linux a name in the network namespace, which ends with the process, holds off who comes later.
    """
    with socket.socket(socket.AF_UNIX) as name:
        if sys.platform == "linux":
            try:
                name.bind(f"\0drift-{address}")
            except OSError as error:
                message = f"cannot listen on {address}: {error.strerror or error}"
                raise StartError(message) from error
        probe(address)
        yield name


def probe(address: str) -> None:
    """Proves that nobody listens on an address at this moment. Raises `StartError`."""
    host, port = parse_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            # Who connected to it would be cut off when it closes: it does not listen itself.
            listener.bind((host, port))
        except OSError as error:
            message = f"cannot listen on {address}: {error.strerror or error}"
            raise StartError(message) from error


class _Worker:
    """One slot: the process in it now, and when the next one may start."""

    def __init__(self, slot: Slot) -> None:
        self.slot = slot
        self.process: BaseProcess | None = None
        self.status: Connection | None = None
        self.started = 0.0
        self.start_at = 0.0
        self.delay = FIRST_DELAY
        self.failure: str | None = None


class _Supervisor:
    def __init__(self, config: Config, slots: Sequence[Slot], serve: Serve, names: Sequence[socket.socket]) -> None:
        self._config = config
        self._serve = serve
        self._names = tuple(names)
        # A fork shares what was imported, instead of importing it again; elsewhere than on Linux it is not safe.
        self._context: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
        self._log = structlog.get_logger("drift.supervisor")
        self._workers = [_Worker(slot) for slot in slots]
        self._awaited = {slot.transport for slot in slots}
        """What nobody serves yet: until then a failure is that of the start."""
        self._stopping = False
        self._wake, self._woken = socket.socketpair()
        self._wake.setblocking(False)

    def run(self) -> int:
        # A collector of cycles that looks at what the workers share would make copies of it.
        gc.collect()
        gc.freeze()
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        # Reserved for a reload of the configuration; its default would end the server.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        failure = None
        while not self._stopping and failure is None:
            failure = self._round()
        self._shut_down()
        if failure is not None:
            raise StartError(failure)
        return 0

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def _round(self) -> str | None:
        """Starts who is due, waits for something to happen, and returns why the start failed, or None."""
        now = time.monotonic()
        for worker in self._workers:
            if worker.process is None and worker.start_at <= now:
                self._start(worker)
        due = [worker.start_at - now for worker in self._workers if worker.process is None]
        running = {worker.process.sentinel: worker for worker in self._workers if worker.process is not None}
        reports = {worker.status: worker for worker in self._workers if worker.status is not None}
        for event in wait([self._woken, *running, *reports], min(due, default=None)):
            if event is self._woken:
                self._woken.recv(64)
            elif isinstance(event, Connection):
                self._hear(reports[event])
        for sentinel, worker in running.items():
            if wait([sentinel], 0):
                self._bury(worker)
        failed = next((worker.failure for worker in self._workers if worker.failure), None)
        return failed if self._awaited else None

    def _start(self, worker: _Worker) -> None:
        worker.failure = None
        worker.status, theirs = self._context.Pipe(duplex=False)
        ours = self._inherited() if self._context.get_start_method() == "fork" else ()
        arguments = (self._serve, self._config, worker.slot, theirs, ours)
        worker.process = self._context.Process(target=run_worker, args=arguments, name=f"drift-{worker.slot}")
        worker.started = time.monotonic()
        # A terminal sends SIGINT to the whole group, and the supervisor alone acts on it; a SIGTERM to a worker that
        # still has the supervisor's handlers would be lost. It inherits the block before its first line of Python.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            worker.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
        theirs.close()

    def _inherited(self) -> tuple[socket.socket | Connection, ...]:
        """Returns what a forked worker has of the supervisor's, and what would outlive the supervisor in it."""
        reports = (worker.status for worker in self._workers if worker.status is not None)
        return (*self._names, self._wake, self._woken, *reports)

    def _hear(self, worker: _Worker) -> None:
        assert worker.status is not None  # noqa: S101 - only workers with a pipe are waited for
        try:
            report = worker.status.recv()
        except EOFError:
            worker.status.close()
            worker.status = None
            return
        if report is not None:
            worker.failure = report
            return
        if self._awaited:
            self._awaited.discard(worker.slot.transport)
            if not self._awaited:
                server = self._config.server
                console = server.ui_addr if len(self._names) > 1 else "none is installed and enabled: drift-ui is one"
                self._log.info("listening", address=server.bind_addr, console=console, workers=len(self._workers))

    def _bury(self, worker: _Worker) -> None:
        assert worker.process is not None  # noqa: S101 - only running workers are waited for
        assert worker.process.pid is not None  # noqa: S101 - it was started
        while worker.status is not None:
            self._hear(worker)
        worker.process.join()
        forget_state(worker.process.pid)
        if time.monotonic() - worker.started > YOUNG:
            worker.delay = FIRST_DELAY
        worker.start_at = time.monotonic() + worker.delay
        self._log.error(
            "a worker died and is replaced",
            worker=str(worker.slot),
            pid=worker.process.pid,
            exit_code=worker.process.exitcode,
            reason=worker.failure,
            seconds_until=worker.delay,
        )
        worker.delay = min(worker.delay * 2, LONGEST_DELAY)
        if worker.failure is None and self._awaited and worker.delay == LONGEST_DELAY:
            worker.failure = "workers die before they are ready; the log says why"
        worker.process = None

    def _shut_down(self) -> None:
        processes = [worker.process for worker in self._workers if worker.process is not None]
        for process in processes:
            process.terminate()
        deadline = time.monotonic() + self._config.server.drain_seconds + KILL_GRACE
        for process in processes:
            process.join(max(deadline - time.monotonic(), 0))
            if process.is_alive():
                self._log.error("a worker did not end in time and is killed", pid=process.pid)
                process.kill()
                process.join()


def run_worker(
    serve: Serve,
    config: Config,
    slot: Slot,
    status: Connection,
    inherited: Sequence[socket.socket | Connection],
) -> None:
    """Is the whole life of a worker process: reports None when ready, or the message of a `StartError`."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    for one in inherited:
        one.close()
    if slot.transport is not None:
        os.nice(GIVES_WAY)
    configure_logs(config.logging)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve_until_stopped(serve, config, slot, status))
    except (StartError, BaseExceptionGroup) as error:
        reasons = _start_errors(error)
        if not reasons:
            raise
        status.send("; ".join(str(reason) for reason in reasons))
        raise SystemExit(1) from None


async def _serve_until_stopped(serve: Serve, config: Config, slot: Slot, status: Connection) -> None:
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(serve(config, slot, lambda: status.send(None)))

    def stop() -> None:
        # Once: systemd asks every process of the group and the supervisor asks again, which would end the drain.
        loop.add_signal_handler(signal.SIGTERM, lambda: None)
        task.cancel()

    loop.add_signal_handler(signal.SIGTERM, stop)
    parent = multiprocessing.parent_process()
    if parent is not None:
        # Without its supervisor a worker would be stopped and replaced by nobody.
        loop.add_reader(parent.sentinel, os._exit, 1)
    try:
        await task
    except asyncio.CancelledError:
        structlog.get_logger("drift.worker").info("drained", worker=str(slot))


def _start_errors(error: BaseException) -> list[StartError]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for member in error.exceptions for leaf in _start_errors(member)]
    return [error] if isinstance(error, StartError) else []
