//! Which pictures a worker has been shown, so that each goes there once.

use std::collections::{HashSet, VecDeque};

use ekya_models::Image;

use super::request::Id;

/// Bytes of pictures that a worker keeps between two requests of one task; after that it is to keep
/// none, since nobody would tell it when the node forgets them. What a training is begun with stays
/// there for as long as that goes on, besides.
const KEPT_MAX: usize = 512 << 20;

/// The pictures that a process has.
#[derive(Debug, Default)]
pub(super) struct Shown {
    known: HashSet<Id>,
    /// Oldest first, with their bytes.
    order: VecDeque<(Id, usize)>,
    bytes: usize,
}

impl Shown {
    /// Those of `pictures` that are new, each once; they count as shown from now on.
    pub(super) fn add<'a>(
        &mut self,
        pictures: impl IntoIterator<Item = &'a Image>,
    ) -> Vec<&'a Image> {
        let mut new = Vec::new();
        for picture in pictures {
            if self.known.insert(picture.serial()) {
                self.order
                    .push_back((picture.serial(), picture.rgb().len()));
                self.bytes += picture.rgb().len();
                new.push(picture);
            }
        }
        new
    }

    /// The oldest, as far as there are too many; they no longer count as shown.
    pub(super) fn surplus(&mut self) -> Vec<Id> {
        let mut surplus = Vec::new();
        while self.bytes > KEPT_MAX {
            let Some((id, bytes)) = self.order.pop_front() else {
                break;
            };
            self.known.remove(&id);
            self.bytes -= bytes;
            surplus.push(id);
        }
        surplus
    }

    /// All of them; none counts as shown any more.
    pub(super) fn all(&mut self) -> Vec<Id> {
        let all = std::mem::take(self);
        all.order.into_iter().map(|(id, _)| id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(megabytes: usize) -> Image {
        let side = 1 << 10;
        Image::new(side, side * megabytes, vec![0; 3 * side * side * megabytes]).unwrap()
    }

    #[test]
    fn a_picture_is_shown_once_and_again_when_it_was_forgotten() {
        let mut shown = Shown::default();
        let (first, copy) = (picture(1), picture(1));
        assert_eq!(shown.add([&first, &first, &copy]).len(), 2);
        assert!(shown.add([&first.clone(), &copy]).is_empty());
        assert!(shown.surplus().is_empty());
        let large = picture(KEPT_MAX / (3 << 20));
        assert_eq!(shown.add([&large]).len(), 1);
        assert_eq!(shown.surplus(), [first.serial(), copy.serial()]);
        assert_eq!(shown.add([&first]).len(), 1);
        assert_eq!(shown.all(), [large.serial(), first.serial()]);
        assert!(shown.all().is_empty());
        assert_eq!(shown.add([&first]).len(), 1);
    }
}
