//! The named shapes that every bench and every comparison uses: those of `weft bench`.

pub use weft_model::bench::shapes::*;

/// `names` and `shakes`, and the others too where `WEFT_BENCH_LARGE` is set: for benches of whole models.
pub fn all_or_small() -> Vec<Named> {
    let mut shapes = all();
    if std::env::var_os("WEFT_BENCH_LARGE").is_none() {
        shapes.truncate(2);
    }
    shapes
}
