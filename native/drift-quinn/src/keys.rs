//! What of a connection is decided outside: its ids, its reset tokens, and whether its client has proved its address.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use quinn_proto::crypto::{AeadKey, CryptoError, HandshakeTokenKey, HmacKey};
use quinn_proto::{ConnectionId, ConnectionIdGenerator};
use ring::{hmac, rand::SecureRandom, rand::SystemRandom};

pub const CID_BYTES: usize = 8;

/// Makes ids whose first byte is the process that serves them, and notes them.
pub struct Ids {
    pub worker: u8,
    pub made: Arc<Mutex<Vec<ConnectionId>>>,
}

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; CID_BYTES];
        SystemRandom::new().fill(&mut id).expect("the system has no random numbers");
        id[0] = self.worker;
        let made = ConnectionId::new(&id);
        self.made.lock().expect("nobody panics with it").push(made);
        made
    }

    fn cid_len(&self) -> usize {
        CID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// Makes the tokens of stateless resets (RFC 9000 section 10.3.2).
pub struct ResetKey(pub hmac::Key);

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        signature_out.copy_from_slice(hmac::sign(&self.0, data).as_ref());
    }

    fn signature_len(&self) -> usize {
        32
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        hmac::verify(&self.0, data, signature).map_err(|_| CryptoError)
    }
}

/// "Opens" the token of a client: Python has made it, and has looked at it before.
///
/// Without an address it opens none, so that quinn takes the client for one that has none.
#[derive(Clone)]
pub struct Proof(pub Option<(SocketAddr, Vec<u8>)>);

impl HandshakeTokenKey for Proof {
    fn aead_from_hkdf(&self, _random_bytes: &[u8]) -> Box<dyn AeadKey> {
        Box::new(self.clone())
    }
}

impl AeadKey for Proof {
    fn seal(&self, _data: &mut Vec<u8>, _additional_data: &[u8]) -> Result<(), CryptoError> {
        Err(CryptoError)
    }

    fn open<'a>(&self, data: &'a mut [u8], _additional_data: &[u8]) -> Result<&'a mut [u8], CryptoError> {
        let (address, original) = self.0.as_ref().ok_or(CryptoError)?;
        // As quinn writes a token of a Retry: kind, address, port, the first id, and when it was made.
        let mut token = vec![0];
        match address.ip() {
            IpAddr::V4(ip) => {
                token.push(0);
                token.extend(ip.octets());
            }
            IpAddr::V6(ip) => {
                token.push(1);
                token.extend(ip.octets());
            }
        }
        token.extend(address.port().to_be_bytes());
        token.push(u8::try_from(original.len()).map_err(|_| CryptoError)?);
        token.extend(original);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        token.extend(now.as_secs().to_be_bytes());
        let place = data.get_mut(..token.len()).ok_or(CryptoError)?;
        place.copy_from_slice(&token);
        Ok(place)
    }
}
