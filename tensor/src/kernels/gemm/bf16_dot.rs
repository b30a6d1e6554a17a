//! Products of bf16 with AVX-512's instruction: a step of the microkernel, over two of k, costs what a single one costs in `f32`.
//!
//! The tile is that of the other products; what differs is its operands. B lies in strips of pairs, and each block of rows of A is
//! rounded into a panel that stays in the first-level cache.

use super::bf16::{PackedBf16, pack_pairs, round_neighbours};
use super::blocks::{Job, Right, even_part};
use super::format::{Pair, pair};
use super::mat::Mat;
use super::pack::{STRIP, Strips};
use super::tile::rows_by_strips;
use crate::buffer::with_scratch;
use crate::simd::{Avx512, Avx512Bf16, Simd};

/// Pairs along k in a block: 14 rows of A of this length are most of a 32 KiB first-level cache.
const BLOCK_PAIRS: usize = 512;

/// Pairs of B in a block: as many bytes as a block of `f32`.
const BLOCK_B: usize = 150_000;

/// The most rows of A in its panel.
const MOST_ROWS: usize = 14;

/// Computes a job on this thread.
pub(super) fn run(bf16: Avx512Bf16, job: Job<'_, f32>) {
    let blocks = Blocks::new(&job);
    // Powers of two, so that many shapes share few buffers.
    let len = (blocks.b_scratch + MOST_ROWS * blocks.pairs).next_power_of_two();
    with_scratch(len, |scratch| {
        // SAFETY: where there is AVX-512 BF16 at this level, there is the rest of AVX-512 that we ask for.
        unsafe { run_avx512(Simd::witness(), bf16, job, blocks, scratch) };
    });
}

/// The blocks of B; they follow from the shape alone, and do not show in the result.
#[derive(Clone, Copy)]
struct Blocks {
    /// Pairs along k.
    pairs: usize,
    cols: usize,
    /// Pairs of scratch space for a block of B, if it is not packed yet.
    b_scratch: usize,
}

impl Blocks {
    fn new(job: &Job<'_, f32>) -> Self {
        let pairs = even_part(job.a.cols.div_ceil(2), BLOCK_PAIRS, 1);
        let cols = even_part(job.c.cols, BLOCK_B / pairs, STRIP);
        let b_scratch = if matches!(job.b, Right::PackedBf16(_)) { 0 } else { cols * pairs };
        Blocks { pairs, cols, b_scratch }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,bmi2")]
fn run_avx512(simd: Avx512, bf16: Avx512Bf16, job: Job<'_, f32>, blocks: Blocks, scratch: &mut [Pair]) {
    let Job { a, b, mut c, ends } = job;
    let (m, n, k) = (a.rows, c.cols, a.cols);
    let (b_scratch, panel) = scratch.split_at_mut(blocks.b_scratch);
    for j in (0..n).step_by(blocks.cols) {
        let cols = j..(j + blocks.cols).min(n);
        // At least once: without products C is still due its ends.
        for p in (0..k.div_ceil(2).max(1)).step_by(blocks.pairs) {
            let depth = 2 * p..(2 * (p + blocks.pairs)).min(k);
            let strips = match b {
                Right::PackedBf16(b) => b.strips(p, j),
                Right::Bf16(b) => {
                    let b = b.block(depth.clone(), cols.clone());
                    pack_pairs(b, b_scratch);
                    PackedBf16 { data: b_scratch, rows: b.rows, cols: b.cols }.strips(0, 0)
                }
                Right::Plain(_) | Right::Packed(_) => unreachable!("numbers go the other way"),
            };
            let last = depth.end == k;
            let parts = m.div_ceil(Avx512::TILE_ROWS);
            for part in 0..parts {
                let rows = part * m / parts..(part + 1) * m / parts;
                let a = round_rows(a.block(rows.clone(), depth.clone()), panel);
                let ends = ends.of_block(p > 0, last, rows.clone(), cols.clone());
                rows_by_strips(simd, bf16, a, strips, c.block(rows, cols.clone()), ends);
            }
        }
    }
}

/// Rounds a block of rows of A into `panel`. It keeps the order of A: pairs along a row, or column by column of pairs.
#[inline(always)]
fn round_rows<'a>(a: Mat<'_, f32>, panel: &'a mut [Pair]) -> Mat<'a, Pair> {
    let (m, pairs) = (a.rows, a.cols.div_ceil(2));
    if a.row_stride == 1 && m > 1 {
        for p in 0..pairs {
            let to = &mut panel[p * m..][..m];
            let from = &a.data[2 * p * a.col_stride..][..m];
            round_neighbours(
                from,
                a.data.get((2 * p + 1) * a.col_stride..).filter(|_| 2 * p + 1 < a.cols),
                to,
            );
        }
        return Mat { data: panel, rows: m, cols: pairs, row_stride: 1, col_stride: m };
    }
    for i in 0..m {
        let row = a.data.get(i * a.row_stride..).unwrap_or_default();
        let to = &mut panel[i * pairs..][..pairs];
        if a.col_stride == 1 {
            let (two, one) = row[..a.cols].as_chunks::<2>();
            for (to, [x, y]) in to.iter_mut().zip(two) {
                *to = pair(*x, *y);
            }
            if let [x] = *one {
                to[pairs - 1] = pair(x, 0.0);
            }
        } else {
            for (p, to) in to.iter_mut().enumerate() {
                let at = |q: usize| if q < a.cols { row[q * a.col_stride] } else { 0.0 };
                *to = pair(at(2 * p), at(2 * p + 1));
            }
        }
    }
    Mat { data: panel, rows: m, cols: pairs, row_stride: pairs, col_stride: 1 }
}

impl<'a> PackedBf16<'a> {
    /// The strips from pair `p` and from column `j` on, which begins a strip.
    #[inline(always)]
    fn strips(self, p: usize, j: usize) -> Strips<'a, Pair> {
        let pairs = self.rows.div_ceil(2);
        let body = self.data.get(j * pairs + p * STRIP..).unwrap_or_default();
        Strips { body, row_stride: STRIP, strip_stride: STRIP * pairs, tail: &[] }
    }
}
