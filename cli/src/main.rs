//! The `weft` binary.
#![forbid(unsafe_code)]
fn main() {}
