//! Runs the README's Rust example as a test.
#![doc = include_str!("../../README.md")]
