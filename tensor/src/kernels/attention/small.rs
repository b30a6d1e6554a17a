//! Heads of at most sixteen rows and two vectors: sixteen heads at a time, one in each lane.
//!
//! The rows of sixteen heads are transposed on their way in and out, so that a [`Line`] holds one number of each. The
//! rest is arithmetic between lines: no sum runs across lanes, only scores that are seen become exponentials, and heads
//! that are narrower than a vector leave no lane empty.
//!
//! The order of operations is that of the general path, that of its sums over lanes included, so the bits are the same.

use std::f64::consts::{LN_2, LOG2_E};

use super::Attention;
use super::pack::place;
use super::tile::Line;
use crate::buffer::with_scratch;
use crate::kernels::split::{In, Out, by_rows};
use crate::kernels::{Grad, sweep};
use crate::simd::{LANES, Simd};
use crate::{Real, dispatch};

/// Rows and columns of a product at a time: sixteen sums fill the pipeline of AVX-512.
const TILE: usize = 4;

/// Rows of queries between two visits to the gradients of keys and values.
const QUERIES: usize = 16;

/// The widest head: two vectors.
const MAX_HEAD_SIZE: usize = 2 * LANES;

/// Sequences that one task takes: whole groups of sixteen heads.
const SEQUENCES: usize = 16;

impl Attention {
    /// Whether these sizes take the path of small heads.
    pub(super) fn is_small(&self) -> bool {
        self.seq_len <= LANES && self.head_size <= MAX_HEAD_SIZE
    }

    /// Rows of queries that share a head of keys and values: row r is head r mod group at position r / group.
    fn rows(&self) -> usize {
        self.seq_len * self.group()
    }

    /// Keys that row r sees.
    fn visible(&self, r: usize) -> usize {
        place(r, self.group()).0 + 1
    }

    /// Where row r begins, counted from row 0, in the fused queries, keys and values.
    fn query(&self, r: usize) -> usize {
        let (t, h) = place(r, self.group());
        t * self.qkv_width() + h * self.head_size
    }

    /// Where row r begins, counted from row 0, in the output.
    fn output(&self, r: usize) -> usize {
        let (t, h) = place(r, self.group());
        t * self.y_width() + h * self.head_size
    }
}

/// [`attention`](super::attention) of small heads.
pub(super) fn small_forward<T: Real>(a: Attention, split: bool, qkv: &[T], y: &mut [T], lse: &mut [T]) {
    let width = a.width();
    let lines = 2 * LANES * width + TILE * (2 * width + LANES) + a.rows();
    // Pieces are whole sequences: only there does lse, which lies by heads, have a cut.
    let all = (In(qkv, a.qkv_width()), Out(y, a.y_width()), Out(lse, a.n_head));
    by_rows(split, a.batch * a.seq_len, SEQUENCES * a.seq_len, all, &|(qkv, y, lse)| {
        with_scratch(lines * LANES, |work| forward(a, qkv.0, y.0, lse.0, work.as_chunks_mut().0));
    });
}

/// [`attention_backward`](super::attention_backward) of small heads.
pub(super) fn small_backward<T: Real>(
    a: Attention,
    split: bool,
    qkv: &[T],
    y: &[T],
    lse: &[T],
    dy: &[T],
    dqkv: Grad<'_, T>,
) {
    let Grad { data: dqkv, add } = dqkv;
    let width = a.width();
    let lines = 4 * LANES * width + QUERIES * 2 * (width + LANES) + TILE * width + a.rows();
    let (wide, narrow) = (a.qkv_width(), a.y_width());
    let all = (In(qkv, wide), In(y, narrow), In(lse, a.n_head), In(dy, narrow), Out(dqkv, wide));
    by_rows(split, a.batch * a.seq_len, SEQUENCES * a.seq_len, all, &|(qkv, y, lse, dy, dqkv)| {
        with_scratch(lines * LANES, |work| {
            backward(a, qkv.0, y.0, lse.0, dy.0, dqkv.0, add, work.as_chunks_mut().0);
        });
    });
}

dispatch! {
    /// The forward pass of whole sequences.
    fn forward<T>(a: Attention, qkv: &[T], y: &mut [T], lse: &mut [T], work: &mut [Line<T>]) = forward_on

    /// The backward pass of whole sequences.
    fn backward<T>(
        a: Attention, qkv: &[T], y: &[T], lse: &[T], dy: &[T], dqkv: &mut [T], add: bool, work: &mut [Line<T>],
    ) = backward_on
}

/// Heads of keys and values, one in each lane, and the queries that see them.
struct Heads {
    /// How many there are; further lanes repeat the last.
    n: usize,
    /// Where each head's row 0 of the queries begins.
    queries: [usize; LANES],
    /// Where each head's keys begin; its values lie Hkv·D numbers behind them.
    keys: [usize; LANES],
    /// Where each head's row 0 of the output begins.
    outputs: [usize; LANES],
    /// Where each head's log-sum-exps begin.
    lse: [usize; LANES],
}

impl Heads {
    /// The heads from number `first` on of `n` in all.
    #[inline(always)]
    fn new(a: Attention, first: usize, n: usize) -> Heads {
        let none = [0; LANES];
        let mut heads =
            Heads { n: LANES.min(n - first), queries: none, keys: none, outputs: none, lse: none };
        for lane in 0..LANES {
            let head = first + lane.min(heads.n - 1);
            let (b, kv) = (head / a.n_kv_head, head % a.n_kv_head);
            let sequence = b * a.seq_len * a.qkv_width();
            heads.queries[lane] = sequence + kv * a.group() * a.head_size;
            heads.keys[lane] = sequence + (a.n_head + kv) * a.head_size;
            heads.outputs[lane] = b * a.seq_len * a.y_width() + kv * a.group() * a.head_size;
            heads.lse[lane] = (b * a.n_head + kv * a.group()) * a.seq_len;
        }
        heads
    }
}

/// factor · `d` numbers of each head, those from `starts` + `at` on: line i receives number i of all.
#[inline(always)]
fn gather<S: Simd>(
    simd: S,
    src: &[S::T],
    starts: &[usize; LANES],
    at: usize,
    d: usize,
    factor: S::T,
    to: &mut [Line<S::T>],
) {
    let factor = simd.splat(factor);
    for (i, to) in to.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        let (at, len) = (at + i * LANES, LANES.min(d - i * LANES));
        let mut square = [simd.zero(); LANES];
        for (row, start) in square.iter_mut().zip(starts) {
            *row = simd.mul(factor, simd.load_up_to(&src[start + at..][..len]));
        }
        let columns = simd.transpose(square);
        // A fixed number, so that the columns go from registers to their lines and not by way of the stack.
        for lane in 0..LANES {
            simd.store(&mut to[lane], columns[lane]);
        }
    }
}

/// The way back: number i of the heads that begin at `starts` + `at` (+)= factor · their lanes of line i.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "a kernel takes slices and sizes")]
fn scatter<S: Simd>(
    simd: S,
    from: &[Line<S::T>],
    factor: S::T,
    dst: &mut [S::T],
    starts: &[usize],
    at: usize,
    d: usize,
    add: bool,
) {
    let factor = simd.splat(factor);
    for (i, from) in from.as_chunks::<LANES>().0.iter().enumerate() {
        let mut square = [simd.zero(); LANES];
        for (row, from) in square.iter_mut().zip(from) {
            *row = simd.load(from);
        }
        // By reference: an iterator over vectors by value does not inline.
        for (column, start) in simd.transpose(square).iter().zip(starts) {
            let dst = &mut dst[start + at..][..d];
            let dst = &mut dst[i * LANES..];
            let before = if add { simd.load_up_to(dst) } else { simd.zero() };
            let sum = simd.mul_add(factor, *column, before);
            if dst.len() >= LANES { simd.store(dst, sum) } else { simd.store_up_to(dst, sum) }
        }
    }
}

/// A matrix of lines: element (i, k) is `lines[i · row + k · term]`.
#[derive(Clone, Copy)]
struct Matrix<'a, T> {
    lines: &'a [Line<T>],
    row: usize,
    term: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// Panics unless there are `rows` rows of `k` elements; neither may be 0.
    #[inline(always)]
    fn check(self, rows: usize, k: usize) {
        assert!((rows - 1) * self.row + (k - 1) * self.term < self.lines.len());
    }

    /// Element (i, k).
    ///
    /// # Safety
    /// It must be there.
    #[inline(always)]
    unsafe fn line(self, i: usize, k: usize) -> &'a Line<T> {
        // SAFETY: by the caller.
        unsafe { self.lines.get_unchecked(i * self.row + k * self.term) }
    }
}

/// c (+)= a · bᵀ for [`TILE`] rows of `a` and the first `columns` rows of `b`, a multiple of [`TILE`]: chains of `k`
/// fused multiply-adds in order, lane by lane. The rows of `c` begin `ldc` lines apart.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "a kernel takes slices and sizes")]
fn product<S: Simd>(
    simd: S,
    columns: usize,
    k: usize,
    a: Matrix<'_, S::T>,
    b: Matrix<'_, S::T>,
    add: bool,
    c: &mut [Line<S::T>],
    ldc: usize,
) {
    for column in (0..columns).step_by(TILE) {
        let (b, c) = (Matrix { lines: &b.lines[column * b.row..], ..b }, &mut c[column..]);
        if const { S::TILE_ROWS * S::TILE_VECTORS > TILE * TILE } {
            tile::<S, TILE, TILE>(simd, k, a, b, add, c, ldc);
        } else {
            const HALF: usize = TILE / 2;
            for (i, j) in [(0, 0), (0, HALF), (HALF, 0), (HALF, HALF)] {
                let a = Matrix { lines: &a.lines[i * a.row..], ..a };
                let b = Matrix { lines: &b.lines[j * b.row..], ..b };
                tile::<S, HALF, HALF>(simd, k, a, b, add, &mut c[i * ldc + j..], ldc);
            }
        }
    }
}

/// R rows × C columns in registers.
#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "iterators over the sums keep some of them in memory")]
fn tile<S: Simd, const R: usize, const C: usize>(
    simd: S,
    k: usize,
    a: Matrix<'_, S::T>,
    b: Matrix<'_, S::T>,
    add: bool,
    c: &mut [Line<S::T>],
    ldc: usize,
) {
    let mut sums = [[simd.zero(); C]; R];
    if add {
        for i in 0..R {
            for j in 0..C {
                sums[i][j] = simd.load(&c[i * ldc + j]);
            }
        }
    }
    a.check(R, k);
    b.check(C, k);
    for k in 0..k {
        let mut right = [simd.zero(); C];
        for j in 0..C {
            // SAFETY: checked above.
            right[j] = simd.load(unsafe { b.line(j, k) });
        }
        for i in 0..R {
            // SAFETY: checked above.
            let left = simd.load(unsafe { a.line(i, k) });
            for j in 0..C {
                sums[i][j] = simd.mul_add(left, right[j], sums[i][j]);
            }
        }
    }
    for i in 0..R {
        for j in 0..C {
            simd.store(&mut c[i * ldc + j], sums[i][j]);
        }
    }
}

/// The sum of sixteen vectors by the tree of [`Simd::sum_lanes`].
#[inline(always)]
fn sum_of<S: Simd>(simd: S, mut vectors: [S::V; LANES]) -> S::V {
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            vectors[i] = simd.add(vectors[i], vectors[i + half]);
        }
    }
    vectors[0]
}

/// Gathers the rows of keys and values.
#[inline(always)]
fn gather_keys_and_values<S: Simd>(
    simd: S,
    a: Attention,
    qkv: &[S::T],
    starts: &[usize; LANES],
    keys: &mut [Line<S::T>],
    values: &mut [Line<S::T>],
) {
    let (d, width, one) = (a.head_size, a.width(), S::T::ONE);
    for row in 0..a.seq_len {
        let at = row * a.qkv_width();
        gather(simd, qkv, starts, at, d, one, &mut keys[row * width..][..width]);
        gather(simd, qkv, starts, at + a.n_kv_head * d, d, one, &mut values[row * width..][..width]);
    }
}

/// Scores, the last of which is the last that is seen, become 2^(score − maximum). Returns the maximum and their sum.
#[inline(always)]
fn exponentials<S: Simd>(simd: S, scores: &mut [Line<S::T>]) -> (S::V, S::V) {
    let mut max = simd.splat(S::T::NEG_INFINITY);
    for score in &*scores {
        max = simd.max(simd.load(score), max);
    }
    let mut terms = [simd.zero(); LANES];
    for (score, term) in scores.iter_mut().zip(&mut terms) {
        *term = S::T::exp2(simd, simd.sub(simd.load(score), max));
        simd.store(score, *term);
    }
    (max, sum_of(simd, terms))
}

#[inline(always)]
fn forward_on<S: Simd>(
    simd: S,
    a: Attention,
    qkv: &[S::T],
    y: &mut [S::T],
    lse: &mut [S::T],
    work: &mut [Line<S::T>],
) {
    let (t, d, width, one) = (a.seq_len, a.head_size, a.width(), S::T::ONE);
    let (keys, work) = work.split_at_mut(LANES * width);
    let (values, work) = work.split_at_mut(LANES * width);
    let (queries, work) = work.split_at_mut(TILE * width);
    let (outputs, work) = work.split_at_mut(TILE * width);
    let (scores, lse_rows) = work.split_at_mut(TILE * LANES);
    let n = qkv.len() / (t * a.qkv_width()) * a.n_kv_head;
    for first in (0..n).step_by(LANES) {
        let heads = Heads::new(a, first, n);
        gather_keys_and_values(simd, a, qkv, &heads.keys, keys, values);
        for first in (0..a.rows()).step_by(TILE) {
            let rows = first..a.rows().min(first + TILE);
            let seen = a.visible(rows.end - 1);
            for (r, to) in rows.clone().zip(queries.chunks_exact_mut(width)) {
                gather(simd, qkv, &heads.queries, a.query(r), d, a.log2_factor(), to);
            }
            let q = Matrix { lines: queries, row: width, term: 1 };
            let k = Matrix { lines: keys, row: width, term: 1 };
            product(simd, seen.next_multiple_of(TILE), d, q, k, false, scores, LANES);

            let mut reciprocals = [simd.zero(); TILE];
            for (i, r) in rows.clone().enumerate() {
                let (scores, hidden) = scores[i * LANES..][..seen].split_at_mut(a.visible(r));
                let (max, sum) = exponentials(simd, scores);
                hidden.fill([S::T::ZERO; LANES]);
                reciprocals[i] = simd.div(simd.splat(one), sum);
                let log2 = simd.mul(S::T::ln(simd, sum), simd.splat(S::T::from_f64(LOG2_E)));
                simd.store(&mut lse_rows[r], simd.add(max, log2));
            }

            let p = Matrix { lines: scores, row: LANES, term: 1 };
            let v = Matrix { lines: values, row: 1, term: width };
            product(simd, d.next_multiple_of(TILE), seen, p, v, false, outputs, width);
            for ((r, output), reciprocal) in rows.zip(outputs.chunks_exact_mut(width)).zip(&reciprocals) {
                for line in &mut *output {
                    let y = simd.mul(*reciprocal, simd.load(line));
                    simd.store(line, y);
                }
                scatter(simd, output, one, y, &heads.outputs[..heads.n], a.output(r), d, false);
            }
        }
        for g in 0..a.group() {
            let mut square = [[S::T::ZERO; LANES]; LANES];
            for (row, to) in square.iter_mut().enumerate().take(t) {
                *to = lse_rows[row * a.group() + g];
            }
            scatter(simd, &square, one, lse, &heads.lse[..heads.n], g * t, t, false);
        }
    }
}

/// Σ y·dy of one row of each head, in the order of the general path.
#[inline(always)]
fn delta<S: Simd>(simd: S, y: &[S::T], dy: &[S::T], starts: &[usize; LANES], at: usize, d: usize) -> S::V {
    let mut square = [simd.zero(); LANES];
    for (sums, start) in square.iter_mut().zip(starts) {
        let (y, dy) = (&y[start + at..][..d], &dy[start + at..][..d]);
        sweep!((y, dy), () => *sums = simd.mul_add(simd.load_up_to(y), simd.load_up_to(dy), *sums));
    }
    sum_of(simd, simd.transpose(square))
}

#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "a kernel takes slices and sizes")]
fn backward_on<S: Simd>(
    simd: S,
    a: Attention,
    qkv: &[S::T],
    y: &[S::T],
    lse: &[S::T],
    dy: &[S::T],
    dqkv: &mut [S::T],
    add: bool,
    work: &mut [Line<S::T>],
) {
    let (t, d, width, one) = (a.seq_len, a.head_size, a.width(), S::T::ONE);
    let (scale, ln_2) = (S::T::from_f64(a.scale), S::T::from_f64(LN_2));
    let columns = d.next_multiple_of(TILE);
    let (keys, work) = work.split_at_mut(LANES * width);
    let (values, work) = work.split_at_mut(LANES * width);
    let (dkeys, work) = work.split_at_mut(LANES * width);
    let (dvalues, work) = work.split_at_mut(LANES * width);
    let (queries, work) = work.split_at_mut(QUERIES * width);
    let (doutputs, work) = work.split_at_mut(QUERIES * width);
    let (dqueries, work) = work.split_at_mut(TILE * width);
    let (p, work) = work.split_at_mut(QUERIES * LANES);
    let (dz, lse_rows) = work.split_at_mut(QUERIES * LANES);
    let n = qkv.len() / (t * a.qkv_width()) * a.n_kv_head;
    for first in (0..n).step_by(LANES) {
        let heads = Heads::new(a, first, n);
        gather_keys_and_values(simd, a, qkv, &heads.keys, keys, values);
        for g in 0..a.group() {
            let mut square = [[S::T::ZERO; LANES]; LANES];
            gather(simd, lse, &heads.lse, g * t, t, one, &mut square);
            for (row, from) in square.iter().enumerate().take(t) {
                lse_rows[row * a.group() + g] = *from;
            }
        }
        let mut seen_before = 0;
        for first in (0..a.rows()).step_by(QUERIES) {
            let end = a.rows().min(first + QUERIES);
            for tile in (first..end).step_by(TILE) {
                let rows = tile..end.min(tile + TILE);
                let seen = a.visible(rows.end - 1);
                let padded = seen.next_multiple_of(TILE); // columns that the products touch
                let queries = &mut queries[(tile - first) * width..][..TILE * width];
                let doutputs = &mut doutputs[(tile - first) * width..][..TILE * width];
                let (p, dz) = (&mut p[(tile - first) * LANES..], &mut dz[(tile - first) * LANES..]);
                for (i, r) in rows.clone().enumerate() {
                    let at = i * width..(i + 1) * width;
                    gather(
                        simd,
                        qkv,
                        &heads.queries,
                        a.query(r),
                        d,
                        a.log2_factor(),
                        &mut queries[at.clone()],
                    );
                    gather(simd, dy, &heads.outputs, a.output(r), d, one, &mut doutputs[at]);
                }
                for (left, right, to) in [(&*queries, &*keys, &mut *p), (doutputs, values, dz)] {
                    let left = Matrix { lines: left, row: width, term: 1 };
                    let right = Matrix { lines: right, row: width, term: 1 };
                    product(simd, padded, d, left, right, false, to, LANES);
                }
                for (i, r) in rows.clone().enumerate() {
                    let delta = delta(simd, y, dy, &heads.outputs, a.output(r), d);
                    let lse = simd.load(&lse_rows[r]);
                    let (p, hidden_p) = p[i * LANES..][..padded].split_at_mut(a.visible(r));
                    let (dz, hidden_dz) = dz[i * LANES..][..padded].split_at_mut(a.visible(r));
                    for (p, dz) in p.iter_mut().zip(dz) {
                        let x = S::T::exp2(simd, simd.sub(simd.load(p), lse));
                        let dx = simd.mul(x, simd.sub(simd.load(dz), delta));
                        simd.store(p, x);
                        simd.store(dz, dx);
                    }
                    hidden_p.fill([S::T::ZERO; LANES]);
                    hidden_dz.fill([S::T::ZERO; LANES]);
                }
                let left = Matrix { lines: dz, row: LANES, term: 1 };
                let right = Matrix { lines: keys, row: 1, term: width };
                product(simd, columns, seen, left, right, false, dqueries, width);
                for (r, from) in rows.zip(dqueries.chunks_exact(width)) {
                    scatter(simd, from, scale, dqkv, &heads.queries[..heads.n], a.query(r), d, add);
                }
            }
            let seen = a.visible(end - 1);
            for key in (0..seen).step_by(TILE) {
                // Rows before the first that sees this key add nothing.
                let skip = (key * a.group()).saturating_sub(first);
                let add = key < seen_before;
                for (left, right, to) in [(&*p, &*doutputs, &mut *dvalues), (dz, queries, dkeys)] {
                    let left = Matrix { lines: &left[skip * LANES + key..], row: 1, term: LANES };
                    let right = Matrix { lines: &right[skip * width..], row: 1, term: width };
                    let to = &mut to[key * width..];
                    product(simd, columns, end - first - skip, left, right, add, to, width);
                }
            }
            seen_before = seen;
        }
        for row in 0..t {
            let (rows, at) = (row * width..(row + 1) * width, row * a.qkv_width());
            scatter(simd, &dkeys[rows.clone()], ln_2, dqkv, &heads.keys[..heads.n], at, d, add);
            scatter(simd, &dvalues[rows], one, dqkv, &heads.keys[..heads.n], at + a.n_kv_head * d, d, add);
        }
    }
}
