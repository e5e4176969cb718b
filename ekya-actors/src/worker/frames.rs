//! What goes over the socket: a length (`u32`, little-endian) and as many bytes.
//!
//! The other side may have gone mad: no length makes this side allocate, bytes do once they came.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

/// The longest frame, in bytes. Below the length that any four printable characters are read as, so
/// that text printed to the socket by mistake is recognised at once.
pub(super) const MOST: usize = 256 << 20;

/// The version of the protocol: of frames and of what begins a [`Hello`].
pub(super) const PROTOCOL: u32 = 1;

const MAGIC: [u8; 8] = *b"ekyawork";
const LENGTH: usize = size_of::<u32>();
const CHUNK: usize = 64 << 10;

/// The first frame, from the worker. Its layout is the same in every version of the protocol.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) protocol: u32,
    pub(super) pid: u32,
    /// Of the program's build.
    pub(super) version: String,
}

impl Hello {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(self.protocol.to_le_bytes());
        bytes.extend(self.pid.to_le_bytes());
        bytes.extend(self.version.as_bytes());
        bytes
    }

    /// None when the bytes are no hello.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (protocol, rest) = bytes.strip_prefix(&MAGIC)?.split_first_chunk()?;
        let (pid, version) = rest.split_first_chunk()?;
        Some(Self {
            protocol: u32::from_le_bytes(*protocol),
            pid: u32::from_le_bytes(*pid),
            version: String::from_utf8(version.to_vec()).ok()?,
        })
    }
}

/// A frame around some bytes; none when they are too many.
pub(super) fn frame(bytes: &[u8]) -> Option<Vec<u8>> {
    let length = u32::try_from(bytes.len()).ok()?;
    if bytes.len() > MOST {
        return None;
    }
    let mut frame = Vec::with_capacity(LENGTH + bytes.len());
    frame.extend(length.to_le_bytes());
    frame.extend(bytes);
    Some(frame)
}

/// Waits for a whole frame; none at the end of the stream.
pub(super) fn read(from: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; LENGTH];
    match from.read_exact(&mut length) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let length = u32::from_le_bytes(length);
    let mut bytes = Vec::new();
    from.take(u64::from(length)).read_to_end(&mut bytes)?;
    let whole = bytes.len() == length as usize;
    Ok(whole.then_some(bytes))
}

/// Bytes that came in, until they are a frame.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    bytes: Vec<u8>,
    /// Nothing more will come.
    pub(super) ended: bool,
}

/// What came is no frame.
#[derive(Debug)]
pub(super) enum Unread {
    Garbage(String),
    Failed(io::Error),
}

impl Incoming {
    /// Takes in what is there, without waiting, up to the end of one frame.
    pub(super) fn fill(&mut self, mut socket: &UnixStream) -> Result<(), Unread> {
        let mut chunk = [0; CHUNK];
        while !self.whole()? {
            match socket.read(&mut chunk) {
                Ok(0) => {
                    self.ended = true;
                    return Ok(());
                }
                Ok(count) => self.bytes.extend(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                // It died with a request unread.
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                    self.ended = true;
                    return Ok(());
                }
                Err(error) => return Err(Unread::Failed(error)),
            }
        }
        Ok(())
    }

    /// The frame, when it is whole. Exactly one is expected at any time: more is no answer.
    pub(super) fn take(&mut self) -> Result<Option<Vec<u8>>, Unread> {
        if !self.whole()? {
            return Ok(None);
        }
        let frame = self.bytes.split_off(LENGTH);
        self.bytes.clear();
        Ok(Some(frame))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn whole(&self) -> Result<bool, Unread> {
        let Some((length, bytes)) = self.bytes.split_first_chunk() else {
            return Ok(false);
        };
        let length = u32::from_le_bytes(*length) as usize;
        if length > MOST {
            let text = format!("a frame of {length} bytes where {MOST} are the most");
            return Err(Unread::Garbage(text));
        }
        if bytes.len() > length {
            return Err(Unread::Garbage("bytes after the end of an answer".into()));
        }
        Ok(bytes.len() == length)
    }
}

/// Sends what can be sent without waiting, and takes it off `rest`. False when nobody reads any more.
pub(super) fn send_some(mut socket: &UnixStream, rest: &mut &[u8]) -> io::Result<bool> {
    while !rest.is_empty() {
        match socket.write(rest) {
            Ok(count) => *rest = &rest[count..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
                ) =>
            {
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (UnixStream, UnixStream) {
        let (near, far) = UnixStream::pair().expect("a pair of sockets");
        near.set_nonblocking(true).expect("it can be");
        (near, far)
    }

    #[test]
    fn a_hello_comes_back() {
        let hello = Hello {
            protocol: 7,
            pid: 123,
            version: "1.2.3".to_owned(),
        };
        let bytes = hello.to_bytes();
        for end in 0..16 {
            assert_eq!(Hello::from_bytes(&bytes[..end]), None);
        }
        assert_eq!(Hello::from_bytes(&bytes), Some(hello));
        assert_eq!(Hello::from_bytes(b"good morning, node"), None);
    }

    #[test]
    fn frames_come_in_pieces() {
        let (near, mut far) = pair();
        let mut incoming = Incoming::default();
        for text in [&b"text"[..], b"", b"more"] {
            let frame = frame(text).unwrap();
            let (last, first) = frame.split_last().unwrap();
            for byte in first {
                far.write_all(&[*byte]).unwrap();
                incoming.fill(&near).unwrap();
                assert_eq!(incoming.take().unwrap(), None);
            }
            far.write_all(&[*last]).unwrap();
            incoming.fill(&near).unwrap();
            assert_eq!(incoming.take().unwrap().as_deref(), Some(text));
            assert!(incoming.is_empty() && !incoming.ended);
        }
        drop(far);
        incoming.fill(&near).unwrap();
        assert!(incoming.ended);
    }

    #[test]
    fn no_length_is_believed() {
        let (near, mut far) = pair();
        far.write_all(&(MOST as u32).to_le_bytes()).unwrap();
        let mut incoming = Incoming::default();
        incoming.fill(&near).unwrap();
        assert!(incoming.bytes.capacity() <= CHUNK);
        let mut cut = &[255, 255, 255, 255, 1, 2][..];
        assert_eq!(read(&mut cut).unwrap(), None);
        assert_eq!(frame(&vec![0; MOST + 1]), None);
    }

    #[test]
    fn text_is_garbage_at_once() {
        for text in ["    ", "oops", "~~~~"] {
            let (near, mut far) = pair();
            far.write_all(text.as_bytes()).unwrap();
            let filled = Incoming::default().fill(&near);
            assert!(matches!(filled, Err(Unread::Garbage(_))));
        }
    }
}
