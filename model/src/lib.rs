//! The transformer and what trains it.
#![forbid(unsafe_code)]
