//! Loops 3 to 5: the choice of a path, and the blocks that fit the caches.

use super::bf16::PackedBf16;
use super::few_rows::{FEW_ROWS, few_rows};
use super::mat::{Mat, MatMut};
use super::pack::{Packed, STRIP, Strips, pack, packed_len};
use super::rows::{PAGE, strided_by};
use super::tile::{Ends, sweep};
use crate::Real;
use crate::buffer::with_scratch;
use crate::dispatch;
use crate::simd::{LANES, Level, Simd, level};

/// How much of a matrix fits the caches, which decides how it is read.
struct Fit {
    /// Rows of B in a block.
    depth: usize,
    /// Elements of B in a block, beside which there is room for A and C in the second-level cache.
    block: usize,
    /// Elements of the largest B that is read where it lies: as a whole it stays in that cache.
    b_in_place: usize,
    /// When it is packed all the same.
    conflict: Conflict,
    /// Elements of the largest A in columns that is read where it lies.
    a_in_columns: usize,
}

/// Rows of B that find no room in the few sets of a cache that their addresses map to.
struct Conflict {
    /// They lie a multiple of so many bytes apart,
    stride: usize,
    /// are at least so many,
    k: usize,
    /// and meet at least so many rows of A, for which packing them pays.
    m: usize,
}

impl Fit {
    /// For the instruction set of this process.
    fn of_level() -> Fit {
        if level() == Level::Avx512 { WIDE } else { NARROW }
    }
}

/// For a second level of 1 MiB, which most processors with AVX-512 have at least. Fourteen rows of A of this depth are most of a
/// first level of 32 KiB. Blocks of 100,000 to 200,000 differ by less than the noise where B comes from the cache; narrow ones
/// win where it comes from memory. The tile's fourteen rows use whole cache lines of an A in columns.
const WIDE: Fit = Fit {
    depth: 512,
    block: 150_000,
    b_in_place: 400 * 400,
    conflict: Conflict { stride: PAGE, k: 257, m: 1 },
    a_in_columns: usize::MAX,
};

/// For 512 KiB, as many processors without AVX-512 have. Six rows of A and the strip of B that passes by fit the first level
/// together. Six rows use a third of each line of an A in columns: 384×384×128 runs at 81 % of the peak as it lies, copied at 91.
/// A tile takes half as long for a row of B as AVX-512's and feels that the first level cannot hold a strip: in place,
/// 192×512×64 runs at 75 % of the peak and 192×1024×48 at 60, packed at 94 and 90.
const NARROW: Fit = Fit {
    depth: 256,
    block: 75_000,
    b_in_place: 60_000,
    conflict: Conflict { stride: PAGE / 2, k: 16, m: 32 },
    a_in_columns: 1 << 14,
};

/// Columns of C from which on a copy of A, as expensive as some twenty of them, can pay.
const COPY_COLS: usize = 4 * STRIP;

/// The right-hand factor.
#[derive(Clone, Copy)]
pub(super) enum Right<'a, T> {
    /// As it lies in memory.
    Plain(Mat<'a, T>),
    /// In strips.
    Packed(Packed<'a, T>),
    /// To be rounded to bf16, as A then is.
    Bf16(Mat<'a, T>),
    /// Rounded to bf16, in strips.
    PackedBf16(PackedBf16<'a>),
}

/// A product, or a rectangle of its result.
pub(super) struct Job<'a, T> {
    pub(super) a: Mat<'a, T>,
    pub(super) b: Right<'a, T>,
    pub(super) c: MatMut<'a, T>,
    pub(super) ends: Ends<'a, T>,
}

/// How a job is done; follows from shape, strides and instruction set alone, and shows in no bit of the result.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Plan {
    path: Path,
    /// Rows and columns of a block of B.
    kc: usize,
    nc: usize,
    /// Elements of scratch space for B.
    scratch: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Path {
    /// B streams by a C in the cache.
    FewRows,
    /// B is read where it lies; a ragged last strip is copied.
    InPlace,
    /// B has been packed by the caller.
    Packed,
    /// Each block of B is packed before its use.
    Blocked,
}

impl<T: Real> Job<'_, T> {
    /// Computes it on this thread.
    pub(super) fn run(self) {
        if let Right::Bf16(_) | Right::PackedBf16(_) = self.b {
            return super::bf16::run(self);
        }
        let plan = self.plan();
        if plan.scratch == 0 {
            return run_with(self, plan, &mut []);
        }
        // Powers of two, so that many shapes share few buffers.
        with_scratch(plan.scratch.next_power_of_two().max(1024), |scratch| run_with(self, plan, scratch));
    }

    /// Whether A is better copied, unless it is rounded anyway: where reading it as it lies would keep missing the cache.
    pub(super) fn wants_rows(&self) -> bool {
        let Mat { rows: m, cols: k, row_stride, col_stride, .. } = self.a;
        let misses = || {
            strided_by::<T>(PAGE, if col_stride == 1 { row_stride } else { col_stride })
                || row_stride == 1 && m.saturating_mul(k) > Fit::of_level().a_in_columns
        };
        let rounds = matches!(self.b, Right::Bf16(_) | Right::PackedBf16(_));
        !rounds && m > FEW_ROWS && k > 64 && self.c.cols >= COPY_COLS && misses()
    }

    fn plan(&self) -> Plan {
        let (m, n, k) = (self.a.rows, self.c.cols, self.a.cols);
        let fit = Fit::of_level();
        let in_conflict = |b_stride| {
            let Conflict { stride, k: least_k, m: least_m } = fit.conflict;
            k >= least_k && m >= least_m && strided_by::<T>(stride, b_stride)
        };
        // Cutting once costs more, by another visit to C, than it gains.
        let mut kc = if k <= WIDE.depth { k.max(1) } else { even_part(k, fit.depth, 1) };
        let mut nc = n;
        let path = match self.b {
            Right::Packed(_) => Path::Packed,
            Right::Bf16(_) | Right::PackedBf16(_) => unreachable!("bf16 has blocks of its own"),
            Right::Plain(b) if b.col_stride == 1 && m <= FEW_ROWS => Path::FewRows,
            Right::Plain(b) if b.col_stride == 1 && k * n <= fit.b_in_place && !in_conflict(b.row_stride) => {
                Path::InPlace
            }
            Right::Plain(_) => Path::Blocked,
        };
        if path == Path::Packed && m <= FEW_ROWS {
            // Strip after strip, as B lies in memory.
            kc = k.max(1);
        } else if matches!(path, Path::Packed | Path::Blocked) {
            let most = if m <= FEW_ROWS { STRIP } else { fit.block / kc };
            nc = even_part(n, most, STRIP);
        }
        let scratch = match path {
            Path::FewRows | Path::Packed => 0,
            Path::InPlace if n % LANES == 0 => 0,
            Path::InPlace => kc * STRIP,
            Path::Blocked => packed_len(kc, nc),
        };
        Plan { path, kc, nc, scratch }
    }
}

dispatch! {
    /// Computes a job at the level of this process.
    fn run_with<T>(job: Job<'_, T>, plan: Plan, scratch: &mut [T]) = run_on
}

#[inline(always)]
fn run_on<S: Simd>(simd: S, job: Job<'_, S::T>, plan: Plan, scratch: &mut [S::T]) {
    let Job { a, b, mut c, ends } = job;
    if let (Path::FewRows, Right::Plain(b)) = (plan.path, b) {
        return few_rows(simd, a, b, c, ends);
    }
    let (m, n, k) = (a.rows, c.cols, a.cols);
    let mut j = 0;
    while j < n {
        let cols = j..(j + plan.nc).min(n);
        let mut p = 0;
        // At least once: without products C is still due its ends.
        loop {
            let depth = p..(p + plan.kc).min(k);
            let strips = match b {
                Right::Packed(b) => b.strips(p, j),
                Right::Plain(b) => {
                    let b = b.block(depth.clone(), cols.clone());
                    if plan.path == Path::InPlace {
                        in_place(b, scratch)
                    } else {
                        pack(b, scratch);
                        Packed { data: scratch, rows: b.rows, cols: b.cols }.strips(0, 0)
                    }
                }
                Right::Bf16(_) | Right::PackedBf16(_) => unreachable!("bf16 has blocks of its own"),
            };
            let last = depth.end == k;
            let ends = ends.of_block(p > 0, last, 0..m, cols.clone());
            sweep(simd, a.block(0..m, depth.clone()), strips, c.block(0..m, cols.clone()), ends);
            p = depth.end;
            if last {
                break;
            }
        }
        j = cols.end;
    }
}

/// The strips of a row-major B where it lies, but for a last one that does not fill its vectors.
#[inline(always)]
fn in_place<'a, T: Real>(b: Mat<'a, T>, scratch: &'a mut [T]) -> Strips<'a, T> {
    let ragged = !b.cols.is_multiple_of(LANES);
    if ragged {
        let first = b.cols - b.cols % STRIP;
        pack(b.block(0..b.rows, first..b.cols), scratch);
    }
    Strips {
        body: b.data,
        row_stride: b.row_stride,
        strip_stride: STRIP,
        tail: if ragged { scratch } else { &[] },
    }
}

/// Cuts `total` into the fewest parts of at most about `most`, evenly, in multiples of `unit`: the size of a part.
pub(super) fn even_part(total: usize, most: usize, unit: usize) -> usize {
    if total <= most {
        return total.next_multiple_of(unit).max(unit); // without a division, which small products would notice
    }
    let parts = total.div_ceil(most.max(unit));
    total.div_ceil(parts).next_multiple_of(unit).max(unit)
}
