//! The configuration of a server, of which each connection has a copy.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use quinn_proto::congestion::CubicConfig;
use quinn_proto::crypto::rustls::QuicServerConfig;
use quinn_proto::{Endpoint, EndpointConfig, ServerConfig, TransportConfig};
use ring::hmac;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ServerSessionMemoryCache;

use crate::congestion::WatchedConfig;
use crate::connection::Connection;
use crate::keys::{Ids, Proof, ResetKey};

/// QUIC version 1 (RFC 9000).
const VERSION: u32 = 1;

/// Makes the connections of one server.
#[pyclass(frozen, module = "drift_quinn")]
pub struct Engine {
    worker: u8,
    secret: Vec<u8>,
    crypto: Arc<QuicServerConfig>,
    transport: Arc<TransportConfig>,
}

#[pymethods]
impl Engine {
    /// `sessions` is how many are kept to be resumed, which `early` lets carry requests in their first flight.
    ///
    /// Raises ValueError where the key does not belong to the certificate, or is of no kind that serves TLS 1.3.
    #[new]
    #[pyo3(signature = (*, chain, key, protocols, sessions, early, worker, secret, idle_seconds, stream_window,
                        connection_window, streams, one_way_streams, datagram_bytes))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        chain: Vec<Vec<u8>>,
        key: Vec<u8>,
        protocols: Vec<Vec<u8>>,
        sessions: usize,
        early: bool,
        worker: u8,
        secret: Vec<u8>,
        idle_seconds: f64,
        stream_window: u32,
        connection_window: u32,
        streams: u32,
        one_way_streams: u32,
        datagram_bytes: u16,
    ) -> PyResult<Self> {
        let refuse = |error: &dyn std::fmt::Display| PyValueError::new_err(error.to_string());
        let key = PrivateKeyDer::try_from(key).map_err(|error| refuse(&error))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| refuse(&error))?
            .with_no_client_auth()
            .with_single_cert(chain.into_iter().map(CertificateDer::from).collect(), key)
            .map_err(|error| refuse(&error))?;
        tls.alpn_protocols = protocols;
        // Each is for one use, so that early data cannot be played again.
        tls.session_storage = ServerSessionMemoryCache::new(sessions);
        tls.send_tls13_tickets = usize::from(sessions > 0);
        tls.max_early_data_size = if early { u32::MAX } else { 0 };
        let mut transport = TransportConfig::default();
        transport
            .max_idle_timeout(Some(Duration::from_secs_f64(idle_seconds).try_into().map_err(|error| refuse(&error))?))
            .stream_receive_window(stream_window.into())
            .receive_window(connection_window.into())
            .max_concurrent_bidi_streams(streams.into())
            .max_concurrent_uni_streams(one_way_streams.into())
            .datagram_receive_buffer_size(None)
            .initial_mtu(datagram_bytes)
            .mtu_discovery_config(None)
            .congestion_controller_factory(Arc::new(WatchedConfig(Arc::new(CubicConfig::default()))));
        Ok(Self {
            worker,
            secret,
            crypto: Arc::new(QuicServerConfig::try_from(tls).map_err(|error| refuse(&error))?),
            transport: Arc::new(transport),
        })
    }

    /// Returns a connection for a client whose first datagram was for `original`.
    ///
    /// `retried` says that it was asked to come again from its address, and has.
    fn connection(&self, original: Vec<u8>, retried: bool) -> Connection {
        let made = Arc::new(Mutex::new(Vec::new()));
        let (worker, noted) = (self.worker, made.clone());
        let mut config = EndpointConfig::new(Arc::new(ResetKey(hmac::Key::new(hmac::HMAC_SHA256, &self.secret))));
        config.supported_versions(vec![VERSION]);
        // Whoever looks for the connection of a datagram goes by that bit.
        config.grease_quic_bit(false);
        config.cid_generator(move || Box::new(Ids { worker, made: noted.clone() }));
        let endpoint = Endpoint::new(Arc::new(config), None, true, None);
        Connection::new(endpoint, made, self.server_config(), retried.then_some(original))
    }
}

impl Engine {
    fn server_config(&self) -> ServerConfig {
        let mut config = ServerConfig::new(self.crypto.clone(), Arc::new(Proof(None)));
        config.transport_config(self.transport.clone());
        // No tokens for later: the server asks for proof only under load.
        config.validation_token.sent(0);
        config
    }
}
