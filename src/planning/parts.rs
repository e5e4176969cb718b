//! What may be longer than a message, in parts.

use serde::{Deserialize, Serialize};

/// Something that can be sent in parts, in order.
pub trait Parts: Sized {
    /// One part at least, each short enough for a message.
    fn into_parts(self) -> Vec<Self>;

    /// The same for all parts of a whole, and higher for the next.
    fn number(&self) -> u64;

    /// Adds the part that follows.
    fn add(&mut self, part: Self);
}

/// A part on its way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Part<P> {
    part: P,
    /// Counts the parts of a whole from 0.
    index: u32,
    is_last: bool,
}

impl<P: Parts> Part<P> {
    /// All parts of a whole.
    pub fn all(whole: P) -> impl Iterator<Item = Self> {
        let parts = whole.into_parts();
        let last = parts.len() - 1;
        parts
            .into_iter()
            .enumerate()
            .map(move |(index, part)| Self {
                part,
                index: index as u32,
                is_last: index == last,
            })
    }
}

/// The parts of a whole that have come so far. What comes from a peer that leaves parts out, or sends
/// them in another order, becomes no whole.
#[derive(Debug)]
pub struct Assembly<P> {
    begun: Option<(P, u32)>,
}

impl<P> Default for Assembly<P> {
    fn default() -> Self {
        Self { begun: None }
    }
}

/// Parts of a whole, at most: 64 KiB each.
const PARTS_MAX: u32 = 256;

impl<P: Parts> Assembly<P> {
    /// Takes the next part; the whole, when that was the last.
    pub fn take(
        &mut self,
        Part {
            part,
            index,
            is_last,
        }: Part<P>,
    ) -> Option<P> {
        let whole = match self.begun.take() {
            _ if index == 0 => part,
            Some((mut whole, next))
                if index == next && index < PARTS_MAX && whole.number() == part.number() =>
            {
                whole.add(part);
                whole
            }
            _ => return None,
        };
        if is_last {
            return Some(whole);
        }
        self.begun = Some((whole, index + 1));
        None
    }
}
