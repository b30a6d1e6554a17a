//! Matrix products against two oracles: the chain of fused multiply-adds that the result is defined as, bit for bit,
//! and the exact sum in `f64`, within the error bound of that chain.

use weft_tensor::Real;
use weft_tensor::kernels::gemm::*;
use weft_tensor::simd::{self, Level};

/// Each of the k roundings of a chain, and those of bias and residual, errs by ε/2 of a partial sum, and no partial sum
/// exceeds Σ|a||b| + |c| + |bias| + |residual| by more than a few ε: k + 3 roundings, ε/2 each, twice that for safety.
const ROUNDINGS_BEYOND_K: f64 = 3.0;

/// A row of C has this many elements behind its last column that must stay as they are.
const GAP: usize = 3;

/// Where the elements of an operand lie.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Layout {
    /// Row by row.
    Rows,
    /// Column by column: a transposed matrix.
    Columns,
    /// Row by row, rows this far apart (if that is more than a row).
    RowStride(usize),
    /// Column by column, columns this far apart (if that is more than a column).
    ColumnStride(usize),
    /// Every third element of every row.
    Sparse,
    /// Every other element of every column, columns this far apart.
    SparseColumns(usize),
}

/// Numbers in (−1, 1) that depend on `seed` and position (Knuth's multiplicative hash).
fn numbers<T: Real>(len: usize, seed: u64) -> Vec<T> {
    let hash = |i: usize| (i as u64 + 1).wrapping_add(seed << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    (0..len).map(|i| T::from_f64(hash(i) as f64 / f64::from(1 << 23) - 1.0)).collect()
}

impl Layout {
    fn strides(self, rows: usize, cols: usize) -> (usize, usize) {
        match self {
            Layout::Rows => (cols, 1),
            Layout::Columns => (1, rows),
            Layout::RowStride(stride) => (stride.max(cols), 1),
            Layout::ColumnStride(stride) => (1, stride.max(rows)),
            Layout::Sparse => (3 * cols + 1, 3),
            Layout::SparseColumns(stride) => (2, stride.max(2 * rows)),
        }
    }

    /// Memory for such a matrix, not one element more than needed.
    fn data<T: Real>(self, rows: usize, cols: usize, seed: u64) -> Vec<T> {
        let (rs, cs) = self.strides(rows, cols);
        let len = if rows * cols == 0 { 0 } else { (rows - 1) * rs + (cols - 1) * cs + 1 };
        numbers(len, seed)
    }

    fn mat<T>(self, data: &[T], rows: usize, cols: usize) -> Mat<'_, T> {
        let (rs, cs) = self.strides(rows, cols);
        Mat::with_strides(data, rows, cols, rs, cs)
    }
}

#[derive(Clone, Copy, Debug)]
struct Case {
    m: usize,
    n: usize,
    k: usize,
    a: Layout,
    b: Layout,
    add: bool,
    bias: bool,
    residual: bool,
}

impl Case {
    fn new((m, n, k): (usize, usize, usize)) -> Self {
        Case { m, n, k, a: Layout::Rows, b: Layout::Rows, add: false, bias: false, residual: false }
    }

    /// Runs the case at every level, packed and not, and compares with both oracles.
    fn check<T: Real>(self) {
        let Case { m, n, k, .. } = self;
        let row_stride = n + GAP;
        let len = if m == 0 { 0 } else { (m - 1) * row_stride + n };
        let (a, b) = (self.a.data::<T>(m, k, 1), self.b.data::<T>(k, n, 2));
        let old: Vec<T> = if self.add { numbers(len, 3) } else { vec![T::from_f64(f64::NAN); len] };
        let (bias, residual) = (numbers::<T>(n, 4), numbers::<T>(len, 5));
        let epilogue = Epilogue {
            add: self.add,
            bias: self.bias.then_some(&bias[..]),
            residual: self.residual.then_some(&residual[..]),
        };
        let expected = self.oracle(&a, &b, &old, epilogue);
        let (a, b) = (self.a.mat(&a, m, k), self.b.mat(&b, k, n));
        simd::at_every_level(|level| {
            let mut c = old.clone();
            matmul(a, b, MatMut::with_row_stride(&mut c, m, n, row_stride), epilogue);
            self.compare(&c, &expected, &format!("{self:?} at {level:?}"));

            let mut packed = vec![T::from_f64(f64::NAN); packed_len(k, n)];
            pack_into(b, &mut packed);
            let mut c = old.clone();
            let packed = Packed::new(&packed, k, n);
            matmul_packed(a, packed, MatMut::with_row_stride(&mut c, m, n, row_stride), epilogue);
            self.compare(&c, &expected, &format!("{self:?} packed, at {level:?}"));
        });
    }

    /// The definition, element by element; it checks itself against `f64` on the way.
    fn oracle<T: Real>(self, a: &[T], b: &[T], old: &[T], epilogue: Epilogue<'_, T>) -> Vec<T> {
        let ((ar, ac), (br, bc)) = (self.a.strides(self.m, self.k), self.b.strides(self.k, self.n));
        let mut c = old.to_vec();
        for i in 0..self.m {
            for j in 0..self.n {
                let at = i * (self.n + GAP) + j;
                let mut chain = if self.add { old[at] } else { T::ZERO };
                let (mut exact, mut size) = (chain.to_f64(), chain.to_f64().abs());
                for p in 0..self.k {
                    let (x, y) = (a[i * ar + p * ac], b[p * br + j * bc]);
                    chain = x.mul_add(y, chain);
                    exact += x.to_f64() * y.to_f64();
                    size += (x.to_f64() * y.to_f64()).abs();
                }
                for extra in [epilogue.bias.map(|bias| bias[j]), epilogue.residual.map(|r| r[at])] {
                    let Some(extra) = extra else { continue };
                    chain += extra;
                    exact += extra.to_f64();
                    size += extra.to_f64().abs();
                }
                let bound = (self.k as f64 + ROUNDINGS_BEYOND_K) * T::EPSILON.to_f64() * size;
                let error = (chain.to_f64() - exact).abs();
                assert!(
                    error <= bound,
                    "{self:?}: the chain of ({i}, {j}) errs by {error}, more than {bound}"
                );
                c[at] = chain;
            }
        }
        c
    }

    fn compare<T: Real>(self, c: &[T], expected: &[T], what: &str) {
        for (at, (x, y)) in c.iter().zip(expected).enumerate() {
            let (i, j) = (at / (self.n + GAP), at % (self.n + GAP));
            // All numbers compared here are finite or the NaN that was there before.
            let same = x.to_f64().to_bits() == y.to_f64().to_bits();
            assert!(same, "{what}: element ({i}, {j}) is {x}, not {y}");
        }
    }
}

/// Sizes around vectors, strips and tiles.
const SIZES: [usize; 13] = [0, 1, 2, 4, 5, 14, 15, 16, 17, 31, 32, 33, 47];

#[test]
fn every_small_shape_is_the_chain_bit_for_bit() {
    for m in SIZES {
        for n in SIZES {
            for k in [0, 1, 3, 16, 17] {
                Case::new((m, n, k)).check::<f32>();
            }
        }
    }
}

#[test]
fn every_number_of_rows_has_its_tile() {
    for m in 1..=30 {
        Case::new((m, 40, 9)).check::<f32>();
    }
}

/// One shape per path, and shapes on both sides of its borders.
const PATHS: [(usize, usize, usize); 12] = [
    (1, 1100, 65),   // few rows, two stripes
    (3, 75, 130),    // few rows, ragged
    (4, 33, 600),    // few rows, several blocks of k if B is transposed
    (64, 64, 64),    // in place
    (50, 65, 27),    // in place with a ragged strip
    (29, 100, 590),  // in place, several blocks of k
    (13, 257, 1100), // blocked, ragged, several blocks of k
    (70, 1030, 400), // blocked, several blocks of columns
    (20, 5000, 40),  // blocked, wide
    (300, 31, 200),  // tall
    (100, 1, 100),   // one column
    (128, 512, 192), // enough work to be split
];

#[test]
fn all_four_transpositions_agree_on_every_path() {
    for shape in PATHS {
        for a in [Layout::Rows, Layout::Columns] {
            for b in [Layout::Rows, Layout::Columns] {
                Case { a, b, ..Case::new(shape) }.check::<f32>();
            }
        }
    }
}

#[test]
fn epilogues_follow_the_chain_in_order() {
    for shape in [(5, 33, 7), (3, 50, 9), (17, 58, 1030), (9, 40, 0), (2, 30, 0), (130, 520, 100)] {
        for bits in 0..8 {
            let (add, bias, residual) = (bits & 1 > 0, bits & 2 > 0, bits & 4 > 0);
            Case { add, bias, residual, ..Case::new(shape) }.check::<f32>();
            Case { add, bias, residual, b: Layout::Columns, ..Case::new(shape) }.check::<f32>();
        }
    }
}

#[test]
fn rows_that_lie_pages_apart_are_right() {
    for a in [Layout::RowStride(1024), Layout::ColumnStride(1024), Layout::RowStride(2048)] {
        for b in [Layout::RowStride(1024), Layout::ColumnStride(2048)] {
            for shape in [(30, 130, 300), (4, 40, 300), (15, 200, 520)] {
                Case { a, b, add: true, ..Case::new(shape) }.check::<f32>();
            }
        }
    }
}

#[test]
fn an_a_that_is_copied_first_is_right() {
    let case = |a, shape| Case { a, bias: true, residual: true, ..Case::new(shape) };
    // Ragged; by several threads; more than is copied at a time, cut by rows or with too few for that.
    for shape in [(271, 130, 520), (683, 130, 801), (300, 130, 7100), (150, 128, 14_100)] {
        case(Layout::Columns, shape).check::<f32>();
    }
    case(Layout::Columns, (150, 131, 140)).check::<f64>();
    for a in [Layout::RowStride(1024), Layout::ColumnStride(1024), Layout::SparseColumns(1024)] {
        case(a, (37, 130, 101)).check::<f32>();
        case(a, (37, 130, 101)).check::<f64>();
    }
}

#[test]
fn any_strides_are_right() {
    for (a, b) in
        [(Layout::Sparse, Layout::Rows), (Layout::Rows, Layout::Sparse), (Layout::Sparse, Layout::Sparse)]
    {
        for shape in [(1, 20, 30), (17, 33, 40), (20, 150, 600)] {
            Case { a, b, ..Case::new(shape) }.check::<f32>();
        }
    }
}

#[test]
fn f64_runs_the_same_source() {
    for shape in [(1, 1, 1), (3, 40, 9), (15, 33, 17), (40, 65, 530), (20, 700, 300)] {
        for b in [Layout::Rows, Layout::Columns] {
            Case { b, add: true, bias: true, residual: true, ..Case::new(shape) }.check::<f64>();
        }
    }
}

#[test]
fn the_split_product_is_the_whole_one() {
    let shapes =
        [(200, 300, 100), (1000, 20, 300), (300, 1000, 40), (2, 2000, 300), (33, 700, 800), (700, 130, 801)];
    for (m, n, k) in shapes {
        for (a, b) in
            [(Layout::Rows, Layout::Rows), (Layout::Rows, Layout::Columns), (Layout::Columns, Layout::Rows)]
        {
            let case = Case { a, b, bias: true, ..Case::new((m, n, k)) };
            let (x, y) = (case.a.data::<f32>(m, k, 1), case.b.data::<f32>(k, n, 2));
            let bias = numbers::<f32>(n, 4);
            let product = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let mut c = vec![f32::NAN; m * n];
                let epilogue = Epilogue { bias: Some(&bias), ..Epilogue::default() };
                let (x, y) = (case.a.mat(&x, m, k), case.b.mat(&y, k, n));
                pool.install(|| matmul(x, y, MatMut::new(&mut c, m, n), epilogue));
                c
            };
            let whole = product(1);
            for threads in [2, 3, 7] {
                let same = whole.iter().zip(product(threads)).all(|(x, y)| x.to_bits() == y.to_bits());
                assert!(same, "{case:?}: {threads} threads give other bits than one");
            }
        }
    }
}

#[test]
fn a_batch_is_its_products_one_by_one() {
    for (n_batch, m, n, k) in
        [(1, 2, 3, 4), (6, 17, 20, 9), (40, 64, 48, 32), (3, 40, 130, 1024), (3, 5, 0, 2), (0, 2, 3, 4)]
    {
        for (a_stride, b_stride) in [(m * k, k * n), (0, k * n), (m * k, 0)] {
            let a = numbers::<f32>(n_batch.max(1) * m * k, 1);
            let b = numbers::<f32>(n_batch.max(1) * k * n, 2);
            let mut c = vec![f32::NAN; n_batch * m * n];
            let first = Batch { first: Mat::new(&a, m, k), stride: a_stride };
            let second = Batch { first: Mat::new(&b, k, n), stride: b_stride };
            matmul_batched(n_batch, first, second, &mut c, false);
            for i in 0..n_batch {
                let mut one = vec![0.0; m * n];
                let (a, b) = (Mat::new(&a[i * a_stride..], m, k), Mat::new(&b[i * b_stride..], k, n));
                matmul(a, b, MatMut::new(&mut one, m, n), Epilogue::default());
                assert_eq!(one, c[i * m * n..(i + 1) * m * n], "item {i} of {n_batch}×({m}, {n}, {k})");
            }
        }
    }
}

#[test]
fn not_a_number_stays_in_its_row_and_column() {
    let (m, n, k) = (20, 40, 30);
    let (mut a, b) = (numbers::<f32>(m * k, 1), numbers::<f32>(k * n, 2));
    a[7 * k + 3] = f32::INFINITY;
    simd::at_every_level(|level| {
        let mut c = vec![0.0; m * n];
        matmul(Mat::new(&a, m, k), Mat::new(&b, k, n), MatMut::new(&mut c, m, n), Epilogue::default());
        for (at, x) in c.iter().enumerate() {
            assert_eq!(x.is_finite(), at / n != 7, "element {at} is {x} at {level:?}");
        }
    });
}

#[test]
fn each_level_of_the_processor_took_part() {
    let mut levels = Vec::new();
    simd::at_every_level(|level| levels.push(level));
    assert_eq!(levels.last(), Some(&simd::level()));
    assert_eq!(levels.first(), Some(&Level::Scalar));
}

#[test]
#[should_panic(expected = "inner dimensions differ")]
fn inner_dimensions_must_agree() {
    let data = [0.0f32; 12];
    matmul(
        Mat::new(&data, 3, 4),
        Mat::new(&data, 3, 4),
        MatMut::new(&mut [0.0; 12], 3, 4),
        Epilogue::default(),
    );
}

#[test]
#[should_panic(expected = "does not fit in 12 elements")]
fn a_matrix_lies_within_its_data() {
    Mat::with_strides(&[0.0f32; 12], 3, 4, 5, 1);
}

#[test]
#[should_panic(expected = "does not fit in 12 elements")]
fn strides_that_overflow_are_refused() {
    Mat::with_strides(&[0.0f32; 12], 3, 4, usize::MAX / 2 + 1, 1);
}

#[test]
#[should_panic(expected = "overlap")]
fn rows_to_write_may_not_overlap() {
    MatMut::with_row_stride(&mut [0.0f32; 12], 3, 4, 3);
}
