//! Continuous learning of video analytics on edge servers.

pub mod record;
pub mod source;
