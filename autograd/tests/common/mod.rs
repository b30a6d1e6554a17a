//! What the tests share.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// What `f` panics with.
#[track_caller]
pub(crate) fn panic_message(f: impl FnOnce()) -> String {
    let Err(payload) = catch_unwind(AssertUnwindSafe(f)) else { panic!("no panic") };
    let text = payload.downcast_ref::<&str>().map(|text| text.to_string());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).expect("a panic with a message")
}
