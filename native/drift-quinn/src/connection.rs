//! One connection, with the endpoint of quinn that finds the way to it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};
use quinn_proto::crypto::rustls::HandshakeData;
use quinn_proto::{
    ConnectionError, ConnectionHandle, ConnectionId, DatagramEvent, Dir, Endpoint, Event, ReadError, ServerConfig,
    Side, StreamEvent, StreamId, Transmit, VarInt, WriteError,
};

use crate::congestion::Watched;
use crate::keys::Proof;

/// Datagrams of one buffer, which the kernel cuts (UDP_SEGMENT).
const MOST_JOINED: usize = 44;

/// What is given to quinn beyond what may be on its way, so that it never waits for Python.
const AHEAD_BYTES: u64 = 256 << 10;

/// The most that is kept until a client has acknowledged it, whose window it could raise without end.
const MOST_KEPT: u64 = 16 << 20;

/// Ids that a client may use; quinn announces at most eight at a time.
const MOST_NAMES: usize = 24;

/// Datagrams of one size in a row, the address at the other end, and that size.
type Datagrams<'py> = (Bound<'py, PyBytes>, Bound<'py, PyTuple>, usize);

/// Up to as many bytes of a stream as were asked for, whether it is at its end, and the code with which it was reset.
type Part<'py> = (Bound<'py, PyBytes>, bool, Option<u64>);

/// Both clocks at the same time.
static EPOCH: LazyLock<(Instant, f64)> = LazyLock::new(|| {
    let seconds = Python::attach(|py| py.import("time")?.call_method0("monotonic")?.extract::<f64>());
    (Instant::now(), seconds.expect("Python has a clock"))
});

fn instant(seconds: f64) -> Instant {
    let (instant, epoch) = *EPOCH;
    if seconds >= epoch {
        instant + Duration::from_secs_f64(seconds - epoch)
    } else {
        instant.checked_sub(Duration::from_secs_f64(epoch - seconds)).unwrap_or(instant)
    }
}

fn seconds(at: Instant) -> f64 {
    let (instant, epoch) = *EPOCH;
    epoch + at.saturating_duration_since(instant).as_secs_f64()
}

/// What was written to a stream and quinn has not taken.
#[derive(Default)]
struct Unsent {
    parts: VecDeque<Bytes>,
    bytes: usize,
    ended: bool,
}

enum Happened {
    Negotiated(Vec<u8>),
    Completed(bool),
    Readable(StreamId),
    Stopped(u64, u64),
    Named(ConnectionId),
    Unnamed(ConnectionId),
}

/// One connection. Not for two threads.
#[pyclass(module = "drift_quinn")]
pub struct Connection {
    endpoint: Endpoint,
    made: Arc<Mutex<Vec<ConnectionId>>>,
    /// Until the first datagram, with the id for which that was before the client was asked to come again.
    config: Option<(ServerConfig, Option<Vec<u8>>)>,
    inner: Option<(ConnectionHandle, quinn_proto::Connection)>,
    events: VecDeque<Happened>,
    /// Streams that are in the events as readable.
    readable: HashSet<StreamId>,
    names: VecDeque<ConnectionId>,
    unsent: HashMap<StreamId, Unsent>,
    /// The streams of `unsent`, in the order in which quinn gets more of them.
    turns: VecDeque<StreamId>,
    /// Streams that this side has reset, until that is acknowledged.
    broken: HashSet<StreamId>,
    /// What is to be sent for a connection that never came to be.
    ready: Vec<(Transmit, Vec<u8>)>,
    /// Why it is over, which is told when nothing is to be sent any more.
    end: Option<(u64, String)>,
    ended: bool,
    buffer: Vec<u8>,
}

impl Connection {
    pub fn new(
        endpoint: Endpoint,
        made: Arc<Mutex<Vec<ConnectionId>>>,
        config: ServerConfig,
        original: Option<Vec<u8>>,
    ) -> Self {
        Self {
            endpoint,
            made,
            config: Some((config, original)),
            inner: None,
            events: VecDeque::new(),
            readable: HashSet::new(),
            names: VecDeque::new(),
            unsent: HashMap::new(),
            turns: VecDeque::new(),
            broken: HashSet::new(),
            ready: Vec::new(),
            end: None,
            ended: false,
            buffer: Vec::new(),
        }
    }

    fn take(&mut self, now: Instant, remote: SocketAddr, data: &[u8]) {
        if let (None, Some((mut config, original))) = (&self.inner, self.config.take()) {
            config.token_key(Arc::new(Proof(original.map(|original| (remote, original)))));
            self.endpoint.set_server_config(Some(Arc::new(config)));
        }
        let mut answer = Vec::new();
        match self.endpoint.handle(now, remote, None, None, BytesMut::from(data), &mut answer) {
            Some(DatagramEvent::ConnectionEvent(_, event)) => {
                if let Some((_, connection)) = &mut self.inner {
                    connection.handle_event(event);
                }
            }
            Some(DatagramEvent::NewConnection(incoming)) if self.inner.is_none() => {
                match self.endpoint.accept(incoming, now, &mut answer, None) {
                    Ok(made) => self.inner = Some(made),
                    Err(error) => {
                        if let Some(transmit) = error.response {
                            self.ready.push((transmit, answer));
                        }
                        self.end.get_or_insert(told(error.cause));
                    }
                }
            }
            Some(DatagramEvent::NewConnection(incoming)) => self.endpoint.ignore(incoming),
            Some(DatagramEvent::Response(transmit)) if self.inner.is_none() => self.ready.push((transmit, answer)),
            Some(DatagramEvent::Response(_)) | None => {}
        }
        if self.inner.is_none() {
            self.end.get_or_insert((0, "no connection".to_owned()));
        }
    }

    /// Lets endpoint and connection talk, and notes what has happened.
    fn settle(&mut self) {
        let Some((handle, connection)) = &mut self.inner else { return };
        while let Some(event) = connection.poll_endpoint_events() {
            if let Some(answer) = self.endpoint.handle_event(*handle, event) {
                connection.handle_event(answer);
            }
        }
        for id in self.made.lock().expect("nobody panics with it").drain(..) {
            self.events.push_back(Happened::Named(id));
            self.names.push_back(id);
        }
        while self.names.len() > MOST_NAMES {
            self.events.extend(self.names.pop_front().map(Happened::Unnamed));
        }
        while let Some(event) = connection.poll() {
            match event {
                Event::HandshakeDataReady => {
                    let data = connection.crypto_session().handshake_data();
                    let data = data.and_then(|data| data.downcast::<HandshakeData>().ok());
                    let protocol = data.and_then(|data| data.protocol).unwrap_or_default();
                    self.events.push_back(Happened::Negotiated(protocol));
                }
                Event::Connected => self.events.push_back(Happened::Completed(connection.has_0rtt())),
                Event::ConnectionLost { reason } => {
                    self.end.get_or_insert(told(reason));
                }
                Event::Stream(StreamEvent::Opened { dir }) => {
                    while let Some(id) = connection.streams().accept(dir) {
                        self.readable.insert(id);
                        self.events.push_back(Happened::Readable(id));
                    }
                }
                Event::Stream(StreamEvent::Readable { id }) => {
                    if self.readable.insert(id) {
                        self.events.push_back(Happened::Readable(id));
                    }
                }
                Event::Stream(StreamEvent::Stopped { id, error_code }) => {
                    self.unsent.remove(&id);
                    break_off(connection, &mut self.broken, id, error_code);
                    self.events.push_back(Happened::Stopped(id.into(), error_code.into()));
                }
                Event::Stream(_) | Event::DatagramReceived | Event::DatagramsUnblocked => {}
            }
        }
        if connection.is_drained() {
            self.end.get_or_insert((0, String::new()));
        }
    }

    /// Gives quinn what it takes now, a part of each stream in turn.
    fn flush(&mut self) {
        let Some((_, connection)) = &mut self.inner else { return };
        connection.set_send_window((connection.congestion_state().window() + AHEAD_BYTES).min(MOST_KEPT));
        let mut blocked = 0;
        while blocked < self.turns.len() {
            let Some(id) = self.turns.pop_front() else { break };
            let Some(unsent) = self.unsent.get_mut(&id) else { continue };
            let mut stream = connection.send_stream(id);
            if let Some(part) = unsent.parts.front_mut() {
                match stream.write_chunks(std::slice::from_mut(part)) {
                    Ok(written) => {
                        blocked = 0;
                        unsent.bytes -= written.bytes;
                        if written.chunks == 1 {
                            unsent.parts.pop_front();
                        }
                    }
                    Err(WriteError::Blocked) => blocked += 1,
                    Err(WriteError::Stopped(_) | WriteError::ClosedStream) => unsent.parts.clear(),
                }
            }
            if !unsent.parts.is_empty() {
                self.turns.push_back(id);
                continue;
            }
            if unsent.ended {
                // It fails only where the other side wants no more.
                let _ = stream.finish();
            }
            self.unsent.remove(&id);
        }
    }
}

#[pymethods]
impl Connection {
    /// Takes in what has arrived together.
    fn receive(&mut self, datagrams: Vec<Datagrams<'_>>, now: f64) -> PyResult<()> {
        guarded(|| {
            let now = instant(now);
            for (data, address, size) in &datagrams {
                let remote = socket_address(address)?;
                for datagram in data.as_bytes().chunks((*size).max(1)) {
                    self.take(now, remote, datagram);
                }
            }
            self.settle();
            Ok(())
        })
    }

    /// Returns what has happened next, as a tuple whose first item says what, None for nothing.
    fn next_event<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let Some(event) = self.events.pop_front() else {
            let drained = self.inner.as_ref().is_none_or(|(_, connection)| connection.is_drained());
            if self.ended || !drained || !self.ready.is_empty() {
                return Ok(None);
            }
            let Some((number, reason)) = self.end.take() else { return Ok(None) };
            self.ended = true;
            return ("closed", number, reason).into_pyobject(py).map(Some);
        };
        match event {
            Happened::Negotiated(protocol) => ("negotiated", PyBytes::new(py, &protocol)).into_pyobject(py),
            Happened::Completed(early) => ("completed", early).into_pyobject(py),
            Happened::Readable(id) => {
                self.readable.remove(&id);
                ("readable", u64::from(id)).into_pyobject(py)
            }
            Happened::Stopped(stream, number) => ("stopped", stream, number).into_pyobject(py),
            Happened::Named(id) => ("named", PyBytes::new(py, &id)).into_pyobject(py),
            Happened::Unnamed(id) => ("unnamed", PyBytes::new(py, &id)).into_pyobject(py),
        }
        .map(Some)
    }

    /// Returns up to `most` bytes of a stream, None where there is nothing now.
    ///
    /// Where there are as many there may be more, of which no event tells.
    fn read<'py>(&mut self, py: Python<'py>, stream: u64, most: usize) -> PyResult<Option<Part<'py>>> {
        let Some((_, connection)) = &mut self.inner else { return Ok(None) };
        let id = stream_id(stream)?;
        if is_sent_only(id) {
            return Ok(None);
        }
        let mut receiving = connection.recv_stream(id);
        let Ok(mut chunks) = receiving.read(true) else { return Ok(None) };
        let (mut parts, mut size, mut ended, mut reset) = (Vec::<Bytes>::new(), 0, false, None);
        while size < most {
            match chunks.next(most - size) {
                Ok(Some(chunk)) => {
                    size += chunk.bytes.len();
                    parts.push(chunk.bytes);
                }
                Ok(None) => {
                    ended = true;
                    break;
                }
                Err(ReadError::Blocked) => break,
                Err(ReadError::Reset(number)) => {
                    reset = Some(number.into_inner());
                    break;
                }
            }
        }
        // Whether the window is to be told is seen when datagrams are made.
        let _ = chunks.finalize();
        if size == 0 && !ended && reset.is_none() {
            return Ok(None);
        }
        let data = PyBytes::new_with(py, size, |mut place| {
            for part in &parts {
                let (here, rest) = place.split_at_mut(part.len());
                here.copy_from_slice(part);
                place = rest;
            }
            Ok(())
        })?;
        Ok(Some((data, ended, reset)))
    }

    /// Returns what may be sent now.
    fn transmit<'py>(&mut self, py: Python<'py>, now: f64) -> PyResult<Vec<Datagrams<'py>>> {
        guarded(|| {
            let now = instant(now);
            let mut made = Vec::new();
            for (transmit, data) in self.ready.drain(..) {
                made.push((PyBytes::new(py, &data), python_address(py, transmit.destination)?, data.len()));
            }
            loop {
                self.flush();
                let Some((_, connection)) = &mut self.inner else { break };
                self.buffer.clear();
                let Some(transmit) = connection.poll_transmit(now, MOST_JOINED, &mut self.buffer) else { break };
                let size = transmit.segment_size.unwrap_or(transmit.size);
                made.push((PyBytes::new(py, &self.buffer), python_address(py, transmit.destination)?, size));
            }
            self.settle();
            Ok(made)
        })
    }

    /// Returns when `expire` has to be called, None for never.
    fn timer(&mut self) -> Option<f64> {
        let (_, connection) = self.inner.as_mut()?;
        connection.poll_timeout().map(seconds)
    }

    /// Does what was due.
    fn expire(&mut self, now: f64) -> PyResult<()> {
        guarded(|| {
            if let Some((_, connection)) = &mut self.inner {
                connection.handle_timeout(instant(now));
            }
            self.settle();
            Ok(())
        })
    }

    /// Writes to a stream; does nothing where nobody gets it any more.
    fn send(&mut self, stream: u64, data: PyBuffer<u8>, end: bool, py: Python<'_>) -> PyResult<()> {
        if self.is_over(stream)? {
            return Ok(());
        }
        let id = stream_id(stream)?;
        if !self.unsent.contains_key(&id) && !self.turns.contains(&id) {
            self.turns.push_back(id);
        }
        let unsent = self.unsent.entry(id).or_default();
        let data = Bytes::from(data.to_vec(py)?);
        unsent.bytes += data.len();
        unsent.ended = end;
        if !data.is_empty() {
            unsent.parts.push_back(data);
        }
        Ok(())
    }

    /// Returns how much of a stream quinn has not taken yet.
    fn unsent(&self, stream: u64) -> PyResult<usize> {
        Ok(self.unsent.get(&stream_id(stream)?).map_or(0, |unsent| unsent.bytes))
    }

    /// Says whether nothing can be sent on a stream any more.
    fn is_over(&mut self, stream: u64) -> PyResult<bool> {
        let id = stream_id(stream)?;
        let Some((_, connection)) = &mut self.inner else { return Ok(true) };
        if is_received_only(id) || connection.is_closed() || self.broken.contains(&id) {
            return Ok(true);
        }
        Ok(!matches!(connection.send_stream(id).stopped(), Ok(None)))
    }

    /// Breaks off what this side sends.
    fn reset(&mut self, stream: u64, number: u64) -> PyResult<()> {
        if self.is_over(stream)? {
            return Ok(());
        }
        let id = stream_id(stream)?;
        self.unsent.remove(&id);
        if let Some((_, connection)) = &mut self.inner {
            break_off(connection, &mut self.broken, id, code(number));
        }
        Ok(())
    }

    /// Asks for no more of a stream; does nothing where that is complete.
    fn stop(&mut self, stream: u64, number: u64) -> PyResult<()> {
        let id = stream_id(stream)?;
        if let (Some((_, connection)), false) = (&mut self.inner, is_sent_only(id)) {
            let _ = connection.recv_stream(id).stop(code(number));
        }
        Ok(())
    }

    /// Opens a stream of this side, and returns its number, None where the client allows no more.
    fn open(&mut self, one_way: bool) -> Option<u64> {
        let (_, connection) = self.inner.as_mut()?;
        connection.streams().open(if one_way { Dir::Uni } else { Dir::Bi }).map(u64::from)
    }

    /// Asks for a sign of life.
    fn ping(&mut self) {
        if let Some((_, connection)) = &mut self.inner {
            connection.ping();
        }
    }

    /// Ends the connection.
    fn close(&mut self, number: u64, reason: &str) {
        if let Some((_, connection)) = &mut self.inner {
            connection.close(Instant::now(), code(number), Bytes::copy_from_slice(reason.as_bytes()));
            self.end.get_or_insert((number, reason.to_owned()));
        }
    }

    /// Returns the round trip in seconds, the window and what is on its way, in bytes.
    fn path(&self) -> (f64, u64, u64) {
        let Some((_, connection)) = &self.inner else { return (0.0, 0, 0) };
        let controller = connection.congestion_state();
        (connection.rtt().as_secs_f64(), controller.window(), Watched::in_flight(controller))
    }
}

/// Makes an exception that Python's code expects of a panic, so that one connection fails and not all.
fn guarded<T>(work: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(PyRuntimeError::new_err("quinn has failed")))
}

/// Sends RESET_STREAM, also in answer to STOP_SENDING (RFC 9000 section 3.5).
fn break_off(connection: &mut quinn_proto::Connection, broken: &mut HashSet<StreamId>, id: StreamId, code: VarInt) {
    // It fails only where there is nothing to break off.
    let _ = connection.send_stream(id).reset(code);
    broken.retain(|&one| connection.send_stream(one).stopped().is_ok());
    broken.insert(id);
}

fn is_sent_only(id: StreamId) -> bool {
    id.dir() == Dir::Uni && id.initiator() == Side::Server
}

fn is_received_only(id: StreamId) -> bool {
    id.dir() == Dir::Uni && id.initiator() == Side::Client
}

fn stream_id(number: u64) -> PyResult<StreamId> {
    let number = VarInt::from_u64(number).map_err(|_| PyValueError::new_err("no number of a stream"))?;
    Ok(StreamId::from(number))
}

fn socket_address(address: &Bound<'_, PyTuple>) -> PyResult<SocketAddr> {
    let host = address.get_item(0)?;
    let ip: IpAddr = host.extract::<&str>()?.parse()?;
    let port = address.get_item(1)?.extract()?;
    Ok(match ip {
        IpAddr::V6(ip) if address.len() == 4 => SocketAddrV6::new(ip, port, 0, address.get_item(3)?.extract()?).into(),
        _ => SocketAddr::new(ip, port),
    })
}

fn python_address(py: Python<'_>, address: SocketAddr) -> PyResult<Bound<'_, PyTuple>> {
    match address {
        SocketAddr::V4(address) => (address.ip().to_string(), address.port()).into_pyobject(py),
        SocketAddr::V6(address) => {
            (address.ip().to_string(), address.port(), address.flowinfo(), address.scope_id()).into_pyobject(py)
        }
    }
}

fn code(number: u64) -> VarInt {
    VarInt::from_u64(number).unwrap_or(VarInt::MAX)
}

fn told(reason: ConnectionError) -> (u64, String) {
    match reason {
        ConnectionError::ApplicationClosed(close) => {
            (close.error_code.into(), String::from_utf8_lossy(&close.reason).into_owned())
        }
        ConnectionError::ConnectionClosed(close) => {
            (close.error_code.into(), String::from_utf8_lossy(&close.reason).into_owned())
        }
        ConnectionError::TransportError(error) => (error.code.into(), error.reason),
        ConnectionError::TimedOut => (0, "Idle timeout".to_owned()),
        other => (0, other.to_string()),
    }
}
