//! Large payloads, such as weights and frames: kept by the node that has them, named in a message,
//! and fetched by whoever gets that message, on a stream of its own.
//!
//! So a message stays small and in order, and a payload that nobody wants is never sent. A transfer
//! goes on where it was when the connection breaks. The bytes are copied once, on the side that
//! fetches; a checksum over all of them tells a fault on the way from the beginning to the end.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use quinn::{RecvStream, SendStream};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::time::timeout;

use crate::link::Link;

/// Bytes that a node keeps for others to fetch, at most.
const SHELF_MAX: usize = 1 << 30;

/// Payloads that a node keeps, at most.
const PAYLOADS_MAX: usize = 4096;

/// Bytes of a request: which payload, and from where on.
const REQUEST: usize = 24;

/// Bytes that are handed to the connection at a time.
const CHUNK: usize = 1 << 20;

/// Time for a request to arrive on a stream that was opened for it.
const REQUEST_WITHIN: Duration = Duration::from_secs(5);

/// What a payload is on the other side of a stream.
const HERE: u8 = 0;
const UNKNOWN: u8 = 1;

/// Names a payload of a node. It goes into messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    /// The node that keeps it.
    node: String,
    /// Not to be guessed.
    id: u128,
    length: u64,
    checksum: u32,
}

/// Why a payload is not kept, or did not come.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PayloadError {
    /// So much is kept already that it does not fit.
    #[error("{length} bytes do not fit beside the {kept} bytes that are kept to be fetched")]
    Full {
        /// Of the payload.
        length: usize,
        /// Of those that are kept.
        kept: usize,
    },
    /// It is longer than the one who fetches wants.
    #[error("the payload has {length} bytes, more than {at_most}")]
    TooLong {
        /// Of the payload.
        length: u64,
        /// The limit.
        at_most: usize,
    },
    /// There is no connection with the node, and has been none.
    #[error("no connection with {0}")]
    NotConnected(String),
    /// The node does not keep it any more.
    #[error("{0} does not keep the payload any more")]
    Gone(String),
    /// It was not complete in time.
    #[error("{received} of {length} bytes came within {within:?}")]
    Deadline {
        /// Bytes that came.
        received: usize,
        /// Bytes that there are.
        length: u64,
        /// The time that there was.
        within: Duration,
    },
    /// What came is not what was kept.
    #[error("the payload was damaged on its way")]
    Damaged,
}

impl Payload {
    /// Bytes that it has.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// The node that keeps it.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }
}

/// The payloads that a node keeps for others.
#[derive(Default)]
pub(crate) struct Shelf {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    payloads: HashMap<u128, (Bytes, Instant)>,
    bytes: usize,
}

impl Shelf {
    /// Keeps bytes until `until`.
    ///
    /// # Errors
    /// [`PayloadError::Full`].
    pub(crate) fn keep(
        &self,
        node: &str,
        bytes: Bytes,
        until: Instant,
    ) -> Result<Payload, PayloadError> {
        let id: u128 = rand::random();
        let payload = Payload {
            node: node.to_owned(),
            id,
            length: bytes.len() as u64,
            checksum: crc32fast::hash(&bytes),
        };
        let mut kept = self.kept.lock();
        kept.forget_expired(Instant::now());
        if kept.bytes + bytes.len() > SHELF_MAX || kept.payloads.len() >= PAYLOADS_MAX {
            let (length, kept) = (bytes.len(), kept.bytes);
            return Err(PayloadError::Full { length, kept });
        }
        kept.bytes += bytes.len();
        kept.payloads.insert(id, (bytes, until));
        Ok(payload)
    }

    /// Keeps it no longer. Transfers that have begun go on.
    pub(crate) fn drop_payload(&self, payload: &Payload) {
        let mut kept = self.kept.lock();
        if let Some((bytes, _)) = kept.payloads.remove(&payload.id) {
            kept.bytes -= bytes.len();
        }
    }

    /// A payload that this node itself keeps.
    ///
    /// # Errors
    /// [`PayloadError`].
    pub(crate) fn take(&self, payload: &Payload, at_most: usize) -> Result<Bytes, PayloadError> {
        if payload.length > at_most as u64 {
            let length = payload.length;
            return Err(PayloadError::TooLong { length, at_most });
        }
        let gone = || PayloadError::Gone(payload.node.clone());
        self.find(payload.id).ok_or_else(gone)
    }

    fn find(&self, id: u128) -> Option<Bytes> {
        let mut kept = self.kept.lock();
        kept.forget_expired(Instant::now());
        kept.payloads.get(&id).map(|(bytes, _)| bytes.clone())
    }

    /// Answers a request on a stream that the other side has opened.
    pub(crate) async fn serve(&self, mut send: SendStream, mut recv: RecvStream) {
        let mut request = [0; REQUEST];
        let read = timeout(REQUEST_WITHIN, recv.read_exact(&mut request)).await;
        if !matches!(read, Ok(Ok(()))) {
            return;
        }
        let mut request = &request[..];
        let (id, offset) = (request.get_u128_le(), request.get_u64_le());
        // Messages go first.
        let _ = send.set_priority(-1);
        let found = self.find(id).filter(|bytes| offset <= bytes.len() as u64);
        let state = if found.is_some() { HERE } else { UNKNOWN };
        if send.write_all(&[state]).await.is_err() {
            return;
        }
        let mut rest = found.map_or_else(Bytes::new, |bytes| bytes.slice(offset as usize..));
        while !rest.is_empty() {
            let chunk = rest.split_to(CHUNK.min(rest.len()));
            if send.write_chunk(chunk).await.is_err() {
                return;
            }
        }
        // An error says that the other side wants no more.
        let _ = send.finish();
    }
}

impl Kept {
    fn forget_expired(&mut self, now: Instant) {
        let Self { payloads, bytes } = self;
        payloads.retain(|_, (kept, until)| {
            let is_kept = now < *until;
            if !is_kept {
                *bytes -= kept.len();
            }
            is_kept
        });
    }
}

/// Fetches a payload from its node, over as many connections as it takes. Runs on the network's
/// thread.
///
/// # Errors
/// [`PayloadError`].
pub(crate) async fn fetch(
    link: Arc<Link>,
    payload: Payload,
    at_most: usize,
    within: Duration,
) -> Result<Bytes, PayloadError> {
    if payload.length > at_most as u64 {
        let length = payload.length;
        return Err(PayloadError::TooLong { length, at_most });
    }
    let mut received = BytesMut::with_capacity(payload.length as usize);
    let fetched = timeout(within, fetch_all(&link, &payload, &mut received)).await;
    match fetched {
        Ok(Ok(())) if crc32fast::hash(&received) == payload.checksum => Ok(received.freeze()),
        Ok(Ok(())) => Err(PayloadError::Damaged),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(PayloadError::Deadline {
            received: received.len(),
            length: payload.length,
            within,
        }),
    }
}

async fn fetch_all(
    link: &Link,
    payload: &Payload,
    received: &mut BytesMut,
) -> Result<(), PayloadError> {
    while (received.len() as u64) < payload.length || payload.length == 0 {
        let connection = link.connected().await;
        match fetch_on(&connection, payload, received).await {
            Some(UNKNOWN) => return Err(PayloadError::Gone(payload.node.clone())),
            Some(_) if payload.length == 0 => return Ok(()),
            // A connection that has just broken is known to be so in a moment.
            _ => tokio::task::yield_now().await,
        }
    }
    Ok(())
}

/// Fetches what is missing, as far as this connection goes. What the other side has said of the
/// payload, if it has.
async fn fetch_on(
    connection: &quinn::Connection,
    payload: &Payload,
    received: &mut BytesMut,
) -> Option<u8> {
    let (mut send, mut recv) = connection.open_bi().await.ok()?;
    let mut request = Vec::with_capacity(REQUEST);
    request.put_u128_le(payload.id);
    request.put_u64_le(received.len() as u64);
    send.write_all(&request).await.ok()?;
    let _ = send.finish();
    let mut state = [0];
    recv.read_exact(&mut state).await.ok()?;
    while let Ok(Some(chunk)) = recv.read_chunk(CHUNK, true).await {
        let wanted = payload.length as usize - received.len();
        // One that sends more than it said is damaged, which the checksum tells.
        received.extend_from_slice(&chunk.bytes[..chunk.bytes.len().min(wanted)]);
        if received.len() as u64 == payload.length {
            break;
        }
    }
    Some(state[0])
}
