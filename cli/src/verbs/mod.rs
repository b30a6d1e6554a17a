//! One file for each verb: its arguments and its `run`.

pub(crate) mod attend;
pub(crate) mod bench;
pub(crate) mod completions;
pub(crate) mod eval;
pub(crate) mod gradcheck;
pub(crate) mod inspect;
pub(crate) mod sample;
pub(crate) mod train;
pub(crate) mod verify;
