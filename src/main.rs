//! The `ekya` command.
fn main() {}
