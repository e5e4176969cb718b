//! The ids of pictures in memory.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use ekya_models::{FrameId, Image};

/// Ids of the pictures in memory, each computed once.
#[derive(Debug, Default)]
pub(super) struct Ids(HashMap<usize, (Weak<Image>, FrameId)>);

impl Ids {
    pub(super) fn of(&mut self, image: &Arc<Image>) -> FrameId {
        // The address is the picture's for as long as there is a weak reference to it.
        let address = Arc::as_ptr(image) as usize;
        let new = || (Arc::downgrade(image), FrameId::of(image));
        self.0.entry(address).or_insert_with(new).1
    }

    /// Forgets pictures that are gone.
    pub(super) fn prune(&mut self) {
        self.0.retain(|_, (image, _)| image.strong_count() > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_its_own_id_whatever_lay_at_its_address_before() {
        let mut ids = Ids::default();
        for level in 0..200 {
            let image = Arc::new(Image::new(1, 1, vec![level; 3]).unwrap());
            assert_eq!(ids.of(&image), FrameId::of(&image));
            assert_eq!(ids.of(&image), FrameId::of(&image));
        }
        let last = Arc::new(Image::new(1, 1, vec![7; 3]).unwrap());
        ids.of(&last);
        ids.prune();
        assert_eq!(ids.0.len(), 1);
    }
}
