//! Faults planted on purpose, to see that the simulations find them. In a build that is no test
//! there are none.

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// Frames that were taken in before are taken in again.
    LostDedupe,
    /// Items are sent for which the asker has no room.
    IgnoredRoom,
    /// Grants are accepted that are older than the one in force, or have lapsed.
    StaleGrant,
    /// A device is taken for one millionth larger than it is.
    OffByOne,
    /// Two frames that are read together change places.
    #[cfg(test)]
    ReorderedDelivery,
}

#[cfg(test)]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Plants a fault, or none, in what this thread simulates.
#[cfg(test)]
pub(crate) fn set(bug: Option<Bug>) {
    PLANTED.set(bug);
}

/// Whether this fault is planted.
#[inline]
pub(crate) fn is(bug: Bug) -> bool {
    #[cfg(test)]
    return PLANTED.get() == Some(bug);
    #[cfg(not(test))]
    {
        let _ = bug;
        false
    }
}
