//! Dropout (Srivastava et al. 2014), its mask a function of the key and the place.

use super::Grad;
use crate::random::{Key, philox_lanes};
use crate::simd::{LANES, Simd};
use crate::strided::split;
use crate::{Real, dispatch};

/// Elements that sixteen lanes of Philox decide at once: one for each of four words.
const GROUP: usize = 4 * LANES;

/// y = x / (1 − p) where the mask is 1, else 0; each element is dropped with probability `p`, rounded to 32 bits.
///
/// The function is linear and its own adjoint: with the same key, `dropout` of dy is dx, so no mask is kept. Element `e`
/// of the mask is word `e / 16 mod 4` of block `16 (e / 64) + e mod 16` of the key's stream, which is the order in which
/// vectors of them come about.
///
/// # Panics
/// If `p` is not in [0, 1), or the sizes differ.
#[track_caller]
pub fn dropout<T: Real>(key: Key, p: f64, x: &[T], out: Grad<'_, T>) {
    assert!((0.0..1.0).contains(&p), "dropout: probability {p} is not in [0, 1)");
    assert_eq!(x.len(), out.data.len(), "dropout: x and y differ in length");
    // A word below the threshold drops its element; `as` saturates should p round to 1.
    let threshold = (p * (1u64 << 32) as f64) as u32;
    let scale = T::from_f64(1.0 / (1.0 - p));
    split(out.data, 1, |range, y| {
        // Pieces are whole groups, so each begins a group of its own.
        let first = (range.start / GROUP * LANES) as u32;
        dropout_range(key, threshold, scale, first, &x[range], y, out.add);
    });
}

dispatch! {
    fn dropout_range<T>(key: Key, threshold: u32, scale: T, first: u32, x: &[T], y: &mut [T], add: bool) = dropout_range_on
}

#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "a kernel takes slices and sizes")]
fn dropout_range_on<S: Simd>(
    simd: S,
    key: Key,
    threshold: u32,
    scale: S::T,
    first: u32,
    x: &[S::T],
    y: &mut [S::T],
    add: bool,
) {
    let [index, low, high] = key.stream;
    let mut block: [u32; LANES] = std::array::from_fn(|lane| first + lane as u32);
    for (x, y) in x.chunks(GROUP).zip(y.chunks_mut(GROUP)) {
        let words = philox_lanes([block, [index; LANES], [low; LANES], [high; LANES]], key.key);
        for ((word, x), y) in words.iter().zip(x.chunks(LANES)).zip(y.chunks_mut(LANES)) {
            let mut factor = [S::T::ZERO; LANES];
            for lane in 0..LANES {
                factor[lane] = if word[lane] < threshold { S::T::ZERO } else { scale };
            }
            let factor = simd.from_array(factor);
            // Selected, not only multiplied: an infinite element can be dropped too.
            let kept = simd.lt(simd.zero(), factor);
            let v = simd.select(kept, simd.mul(simd.load_up_to(x), factor), simd.zero());
            let v = if add { simd.add(simd.load_up_to(y), v) } else { v };
            simd.store_up_to(y, v);
        }
        for block in &mut block {
            *block = block.wrapping_add(LANES as u32);
        }
    }
}

/// Which elements [`dropout`] keeps, one at a time: what tests compare it with.
pub fn keeps(key: Key, p: f64, element: usize) -> bool {
    let block = (element / GROUP * LANES + element % LANES) as u32;
    key.block(block)[element / LANES % 4] >= (p * (1u64 << 32) as f64) as u32
}
