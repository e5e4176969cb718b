//! Values in slots that are used again, so that nothing is allocated once there are as many slots as
//! there have ever been values at a time. Finding one takes one step.

/// Names a value: the slot says where it is, and the number, which the caller uses once only, tells it
/// from those that were there before and will be there after it. Ordered by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) number: u64,
    pub(crate) slot: usize,
}

#[derive(Debug)]
pub(crate) struct Slots<T> {
    slots: Vec<Option<(u64, T)>>,
    /// Those that hold nothing; the one emptied last is filled first, while it is in the cache.
    free: Vec<usize>,
}

impl<T> Slots<T> {
    pub(crate) const fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
        }
    }

    pub(crate) fn insert(&mut self, number: u64, value: T) -> Key {
        let value = Some((number, value));
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot] = value;
                slot
            }
            None => {
                self.slots.push(value);
                self.slots.len() - 1
            }
        };
        Key { number, slot }
    }

    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        let (number, value) = self.slots.get(key.slot)?.as_ref()?;
        (*number == key.number).then_some(value)
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let (number, value) = self.slots.get_mut(key.slot)?.as_mut()?;
        (*number == key.number).then_some(value)
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        self.get(key)?;
        let (_, value) = self.slots.get_mut(key.slot)?.take()?;
        self.free.push(key.slot);
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_used_again_and_its_old_key_finds_nothing() {
        let mut slots = Slots::new();
        let old = slots.insert(1, "old");
        let other = slots.insert(2, "other");
        assert_eq!(slots.remove(old), Some("old"));
        let new = slots.insert(3, "new");
        assert_eq!(new.slot, old.slot);
        assert_eq!(slots.get(old), None);
        assert_eq!(slots.remove(old), None);
        assert_eq!(slots.get_mut(new), Some(&mut "new"));
        assert_eq!(slots.get(other), Some(&"other"));
    }
}
