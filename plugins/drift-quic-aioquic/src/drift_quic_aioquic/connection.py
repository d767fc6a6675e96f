"""One QUIC connection: gives its events to requests, and what they answer to the network."""

import asyncio
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from drift_quic_aioquic.config import HTTP3, MESSAGES
from drift_quic_aioquic.engine import (
    Address,
    Answered,
    Closed,
    Completed,
    Data,
    Datagrams,
    Event,
    HeaderList,
    Headers,
    Named,
    Opened,
    Reset,
    Session,
    Stopped,
    TicketWanted,
    TooLarge,
    Unnamed,
)
from drift_quic_aioquic.exchange import MESSAGE_ERROR, NO_ERROR, PIECE_BYTES, REQUEST_REJECTED, Exchange
from drift_quic_aioquic.messages import MessageStreams
from drift_quic_aioquic.site import Site

if TYPE_CHECKING:
    from drift_quic_aioquic.endpoint import Endpoint

UNSENT_BYTES: Final = 512 << 10
"""How much of one answer waits for its client before the application is held back."""

UNSENT_OF_ALL: Final = 4 << 20
"""The same of all answers of a connection, where each is left `UNSENT_LEAST`."""

UNSENT_LEAST: Final = 32 << 10

HEAD_BYTES: Final = 64 << 10
"""The largest head of a request, unpacked."""

FIRST_BYTES: Final = 48 << 10
"""Bytes of datagrams that wait while a ticket is looked for; a client sends what is lost again."""

MOST_EXCHANGES: Final = 256
"""Requests that run, also those whose streams the client has broken off, which makes room for new streams at once."""

ROUNDING_SECONDS: Final = 0.0005
"""uvloop rounds to a millisecond, up or down; a timer that comes too early would come again at once, and again."""

INTERNAL_ERROR: Final = 1
HARMLESS: Final = frozenset({0, NO_ERROR})
"""Codes with which a connection ends in peace."""

EVERYTHING: Final = (1 << 62) - 4
"""The number behind all streams of requests, for the first of two GOAWAY (RFC 9114 section 5.2)."""


class Connection:
    """Everything of one client; ``exchanges`` are its requests by stream."""

    def __init__(self, site: Site, endpoint: "Endpoint", session: Session, address: Address) -> None:
        self.site = site
        self.session = session
        self.began_at = self.heard_at = site.now()
        self.exchanges: dict[int, Exchange] = {}
        self.protocol = ""
        self._endpoint = endpoint
        self._address = address
        self._names: set[bytes] = set()
        self._held: list[Exchange] = []
        """Requests that must not run before the client has proved that they are no replay."""
        self._rooms: dict[Exchange, asyncio.Future[None]] = {}
        self._messages: MessageStreams | None = None
        self._first: list[Datagrams] | None = [] if site.tickets is not None else None
        """What has arrived while a ticket may be asked for, or is looked for."""
        self._first_bytes = 0
        self._looking: asyncio.Task[None] | None = None
        self._saving: set[asyncio.Task[None]] = set()
        self._next = 0
        """The number behind the last stream on which a request has arrived."""
        self._refused_from: int | None = None
        self._gone = False
        self._loop = asyncio.get_running_loop()
        self._soon: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        site.connections.add(self)
        site.half_open.add(self)
        site.measures.connections.inc()
        site.measures.active.inc()

    # What the network says.

    def name(self, *cids: bytes) -> None:
        """Lets datagrams with these connection ids come here."""
        for cid in cids:
            self._names.add(cid)
            self._endpoint.table[cid] = self

    def receive(self, datagrams: list[Datagrams]) -> None:
        """Takes what has arrived together, and answers once."""
        if self._gone:
            return
        if self._first is not None:
            self._keep(datagrams)
        if self._looking is not None:
            return
        self._take(datagrams)
        if not self._gone and self._looking is None:
            self.transmit()

    def _keep(self, datagrams: list[Datagrams]) -> None:
        assert self._first is not None  # noqa: S101 - `receive` has seen it
        for one in datagrams:
            self._first_bytes += len(one[0])
            if self._first_bytes > FIRST_BYTES:
                break
            self._first.append(one)

    def _take(self, datagrams: list[Datagrams]) -> None:
        now = self.site.now()
        try:
            self.session.receive(datagrams, now)
            self.heard_at = now
            # What comes from another address may come from anybody; the application decides by it who may do what.
            self._address = self.session.address or self._address
            self._handle()
        except TicketWanted as wanted:
            self._looking = self._loop.create_task(self._look(wanted.identity))
        except Exception as error:  # noqa: BLE001 - it is logged
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """Gives a connection up on which the engine has failed: whatever a client sends, others are served on."""
        self.site.log.error("a connection failed", error=repr(error), exc_info=error)
        self.site.measures.connection_errors.inc()
        self.drop()

    async def _look(self, identity: bytes) -> None:
        """Looks for a ticket, and begins again with it; without one the client gets a full handshake."""
        tickets, first = self.site.tickets, self._first
        assert tickets is not None  # noqa: S101 - else nobody would have asked for one
        assert first is not None  # noqa: S101
        try:
            ticket = await tickets.take(identity)
        except Exception as error:  # noqa: BLE001 - it is logged
            self._fail(error)
            return
        self._looking = self._first = None
        if self._gone:
            return
        self.session = self.session.again(ticket)
        self._take(first)
        if not self._gone:
            self.transmit()

    def _handle(self) -> bool:
        """Takes what has happened; says whether there was something, to which there may be an answer."""
        happened = False
        for event in self.session.events():
            if self._gone:
                return happened
            self._handle_one(event)
            happened = True
        if self.session.tickets:
            self._save()
        return happened

    def _save(self) -> None:
        tickets = self.site.tickets
        while self.session.tickets:
            ticket = self.session.tickets.pop()
            if tickets is not None:
                task = self._loop.create_task(tickets.keep(ticket))
                self._saving.add(task)
                task.add_done_callback(self._saving.discard)

    def _handle_one(self, event: Event) -> None:  # noqa: C901, PLR0912 - one case for each event
        if isinstance(event, Data):
            self._data(event)
        elif isinstance(event, Headers):
            self._head(event)
        elif isinstance(event, Opened):
            self.protocol = event.protocol
            if event.protocol == MESSAGES:
                self._messages = MessageStreams(self)
        elif isinstance(event, Completed):
            self._completed(event)
        elif isinstance(event, TooLarge):
            self.refuse(event.stream, 431)
        elif isinstance(event, Reset):
            self.site.measures.stream_errors.inc()
            self._reset(event.stream)
        elif isinstance(event, Stopped):
            self.site.measures.stream_errors.inc()
            exchange = self.exchanges.get(event.stream)
            if exchange is not None:
                exchange.disconnect(answer=True)
            if self._messages is not None:
                self._messages.drop(event.stream)
        elif isinstance(event, Named):
            self.name(event.cid)
        elif isinstance(event, Unnamed):
            self._names.discard(event.cid)
            self._endpoint.table.pop(event.cid, None)
        elif isinstance(event, Closed):
            if event.code not in HARMLESS and event.reason != "Idle timeout":
                self.site.measures.connection_errors.inc()
            self.drop()
        else:
            assert isinstance(event, Answered)  # noqa: S101 - that was a sign of life, which the engine has seen

    def _completed(self, event: Completed) -> None:
        measures = self.site.measures
        self._first = None
        self.site.half_open.discard(self)
        measures.handshake.observe(self.site.now() - self.began_at)
        measures.resumed.inc(event.resumed)
        measures.early.inc(event.early)
        held, self._held = self._held, []
        for exchange in held:
            self.site.begin(exchange)
        if self._messages is not None:
            self._messages.begin()

    def _data(self, event: Data) -> None:
        if self._messages is not None:
            self._messages.feed(event.stream, event.data, ended=event.ended)
            return
        exchange = self.exchanges.get(event.stream)
        if exchange is not None:
            exchange.feed(event.data, ended=event.ended)
        elif event.data:
            self.session.consumed(event.stream, len(event.data))

    def _reset(self, stream: int) -> None:
        if self._messages is not None:
            self._messages.drop(stream)
        exchange = self.exchanges.get(stream)
        if exchange is not None:
            exchange.disconnect(answer=False)
            if exchange in self._held:
                self._held.remove(exchange)
                self._end(exchange)

    def _head(self, event: Headers) -> None:
        """Begins a request."""
        stream = event.stream
        self._next = max(self._next, stream + 4)
        late = self._refused_from is not None and stream >= self._refused_from
        if late or len(self.exchanges) >= MOST_EXCHANGES:
            self.session.reset(stream, REQUEST_REJECTED)
            self.session.stop(stream, REQUEST_REJECTED)
            return
        scope = self._scope(event.headers)
        if isinstance(scope, int):
            self.refuse(stream, scope)
            return
        exchange = Exchange(self, stream, scope)
        self.exchanges[stream] = exchange
        if event.ended:
            exchange.feed(b"", ended=True)
        # RFC 8470 section 3: what changes something waits for the end of the handshake, which a replay never reaches.
        if self.session.completed or (exchange.safe and self.site.config.enable_early_data):
            self.site.begin(exchange)
        else:
            self._held.append(exchange)

    def _scope(self, headers: HeaderList) -> dict[str, Any] | int:
        """Returns what ASGI says of a request, or the status with which it is refused (RFC 9114 section 4.3.1)."""
        if sum(len(name) + len(value) + 32 for name, value in headers) > HEAD_BYTES:
            return 431
        pseudo = {name: value for name, value in headers if name[:1] == b":"}
        method, target, authority = (pseudo.get(name, b"") for name in (b":method", b":path", b":authority"))
        plain = method.isascii() and target.isascii() and target[:1] == b"/" and b" " not in target
        if not plain or b":protocol" in pseudo or pseudo.get(b":scheme") != b"https":
            return 501 if method == b"CONNECT" else 400
        others = [header for header in headers if header[0][:1] != b":" and header[0] not in {b"host", b"cookie"}]
        # Clients may cut cookies into several headers to pack them better (RFC 9114 section 4.2.1).
        cookies = [value for name, value in headers if name == b"cookie"]
        raw_path, _, query = target.partition(b"?")
        path = raw_path.decode("ascii")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "3",
            "method": method.decode("ascii"),
            "scheme": "https",
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "root_path": "",
            "query_string": query,
            "headers": [(b"host", authority), *others, *([(b"cookie", b"; ".join(cookies))] if cookies else [])],
            "client": self.client,
            "server": self.site.server,
            "extensions": {"http.response.pathsend": {}, "tls": {"client_cert_chain": []}},
        }

    @property
    def client(self) -> tuple[str, int]:
        """The address of the client; of IPv4 without the form that it has on a socket for both."""
        host, port = self._address[0], self._address[1]
        return host.removeprefix("::ffff:") if "." in host else host, port

    # What a request asks for.

    def refuse(self, stream: int, status: int) -> None:
        """Answers a request that the application never sees."""
        self.session.head(stream, [(b":status", b"%d" % status), (b"content-length", b"0")], ended=True)
        self.session.stop(stream, NO_ERROR if status != 400 else MESSAGE_ERROR)  # noqa: PLR2004
        self.session.forget(stream)

    async def room(self, exchange: Exchange) -> None:
        """Returns when the client has taken enough of what an exchange has sent, or has left."""
        while not self._gone and not self._has_room(exchange.stream, self._unsent()):
            future = self._rooms[exchange] = self._loop.create_future()
            await future

    def share(self) -> int:
        """Returns how much of one answer may wait for its client now, in bytes."""
        return max(UNSENT_LEAST, min(UNSENT_BYTES, UNSENT_OF_ALL // max(1, len(self.exchanges))))

    def piece(self) -> int:
        """Returns how much of one answer is handed to the engine at once, for which `room` is then kept."""
        return min(PIECE_BYTES, self._share(self._unsent()) // 2)

    def _share(self, of_all: int) -> int:
        # Those that came first may have filled shares that were larger then.
        return self.share() if of_all < UNSENT_OF_ALL else UNSENT_LEAST

    def _unsent(self) -> int:
        return sum(map(self.session.unsent, self.exchanges))

    def _has_room(self, stream: int, of_all: int) -> bool:
        share = self._share(of_all)
        return self.session.unsent(stream) <= share - min(PIECE_BYTES, share // 2)

    def release(self, exchange: Exchange) -> None:
        """Lets an exchange find out that its client has left."""
        future = self._rooms.pop(exchange, None)
        if future is not None and not future.done():
            future.set_result(None)

    def consumed(self, exchange: Exchange, size: int) -> None:
        """Lets the client send as much more as the application has taken."""
        if self.session.consumed(exchange.stream, size):
            self.transmit_soon()

    def finished(self, exchange: Exchange, *, whole: bool) -> None:
        """Ends a request; what its client still sends is not wanted (RFC 9114 section 4.1)."""
        self._end(exchange)
        if self._gone:
            return
        if not whole:
            self.session.stop(exchange.stream, NO_ERROR)
        self.transmit_soon()

    def _end(self, exchange: Exchange) -> None:
        self.exchanges.pop(exchange.stream, None)
        self._rooms.pop(exchange, None)
        self.session.forget(exchange.stream)

    # What goes out.

    def transmit_soon(self) -> None:
        """Sends what there is when everybody who has something to say had a turn."""
        if self._soon is None and not self._gone:
            self._soon = self._loop.call_soon(self.transmit)

    def transmit(self) -> None:
        """Sends what may be sent, lets those write on who waited for room, and sets the clock."""
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        if self._gone or self._looking is not None:
            return
        if self._endpoint.udp.full:
            self._endpoint.waiting.add(self)
            return
        try:
            self._endpoint.udp.send(self.session.transmit(self.site.now()))
            # An id may have been announced with these, or something be taken from the engine that was held.
            if self._handle():
                self.transmit_soon()
        except Exception as error:  # noqa: BLE001 - it is logged
            self._fail(error)
            return
        if self._rooms:
            of_all = self._unsent()
            for exchange in [one for one in self._rooms if self._has_room(one.stream, of_all)]:
                self.release(exchange)
        self._set_timer()

    def _set_timer(self) -> None:
        # While the kernel takes nothing, what is due has to wait, and is looked at again when it does.
        due = None if self._gone or self._endpoint.udp.full else self.session.timer()
        if due is None:
            return
        if self._timer is None or due < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = due
            self._timer = self._loop.call_at(due + ROUNDING_SECONDS, self._expire)

    def _expire(self) -> None:
        self._timer = None
        due, now = self.session.timer(), self.site.now()
        if self._gone or due is None:
            return
        # It was set before others had put it off.
        if due <= max(now, self._timer_at):
            try:
                self.session.expire(max(now, due))
                self._handle()
            except Exception as error:  # noqa: BLE001 - it is logged
                self._fail(error)
            self.transmit()
        self._set_timer()

    def ping(self) -> None:
        """Asks whether the client is still there."""
        self.session.ping(0)
        self.transmit_soon()

    # How it ends.

    def goaway(self, *, last: bool) -> None:
        """Tells the client that the server stops; the ``last`` word says which requests are answered no more."""
        if self.protocol == HTTP3 and self.session.completed:
            first = self._next if last else EVERYTHING
            self._refused_from = self._next if last else None
            self.session.goaway(first)
            self.transmit()

    def close(self, code: int, reason: str) -> None:
        """Says goodbye."""
        self.session.close(code, reason)
        self.transmit()

    def drop(self) -> None:
        """Forgets the client without a word, and tells whoever works for it."""
        if self._gone:
            return
        self._gone = True
        site = self.site
        path = self.session.path()
        if path.rtt:
            site.measures.rtt.observe(path.rtt)
        site.measures.active.dec()
        site.connections.discard(self)
        site.half_open.discard(self)
        self._endpoint.waiting.discard(self)
        for cid in self._names:
            self._endpoint.table.pop(cid, None)
        for handle in (self._soon, self._timer, self._looking):
            if handle is not None:
                handle.cancel()
        self._held.clear()
        for exchange in tuple(self.exchanges.values()):
            exchange.disconnect(answer=True)
        if self._messages is not None:
            self._messages.close()
