//! ekya-actors
