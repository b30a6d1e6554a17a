//! Products of matrices rounded to bf16 against the exact sum of the rounded products in `f64`, at every level.

use weft_tensor::kernels::gemm::*;
use weft_tensor::simd::{self, at_every_level};

/// Products of two bf16 numbers are exact in `f32`; each of the k sums, and those of C, bias and residual, errs by ε/2 of a
/// partial sum, the instruction's by as much for each of its two: (k + 3) · ε of the sum of magnitudes covers both.
const ROUNDINGS_BEYOND_K: f64 = 3.0;

/// Sizes around the tile, the vectors, the pairs and the blocks.
const SIZES: [(usize, usize, usize); 16] = [
    (1, 1, 1),
    (1, 33, 2),
    (3, 16, 7),
    (4, 100, 64),
    (13, 31, 1),
    (14, 32, 32),
    (15, 33, 31),
    (16, 64, 0),
    (29, 65, 128),
    (2, 5, 1100),
    (64, 192, 64),
    (1, 700, 129),
    (40, 300, 1025),
    (128, 256, 512),
    (250, 130, 300),
    (5, 0, 3),
];

fn numbers(len: usize, seed: u64) -> Vec<f32> {
    let hash = |i: usize| (i as u64 + 1).wrapping_add(seed << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    (0..len).map(|i| hash(i) as f32 / (1 << 23) as f32 - 1.0).collect()
}

/// The nearest bf16, halves to even, of a finite number.
fn rounded(x: f32) -> f64 {
    let bits = x.to_bits();
    f64::from(f32::from_bits((bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff_0000))
}

/// A product of operands in given layouts: `[bool; 2]` says which lie transposed.
struct Case {
    size: (usize, usize, usize),
    transposed: [bool; 2],
    a: Vec<f32>,
    b: Vec<f32>,
    c: Vec<f32>,
    bias: Vec<f32>,
    residual: Vec<f32>,
}

fn mat(data: &[f32], rows: usize, cols: usize, transposed: bool) -> Mat<'_, f32> {
    if transposed { Mat::new(data, cols, rows).t() } else { Mat::new(data, rows, cols) }
}

impl Case {
    fn new(size: (usize, usize, usize), transposed: [bool; 2]) -> Self {
        let (m, n, k) = size;
        Case {
            size,
            transposed,
            a: numbers(m * k, 1),
            b: numbers(k * n, 2),
            c: numbers(m * n, 3),
            bias: numbers(n, 4),
            residual: numbers(m * n, 5),
        }
    }

    fn operands(&self) -> (Mat<'_, f32>, Mat<'_, f32>) {
        let ((m, n, k), [a, b]) = (self.size, self.transposed);
        (mat(&self.a, m, k, a), mat(&self.b, k, n, b))
    }

    /// C + A·B + bias + residual, packed or not.
    fn run(&self, packed: bool) -> Vec<f32> {
        let ((m, n, k), (a, b)) = (self.size, self.operands());
        let mut c = self.c.clone();
        let epilogue = Epilogue { add: true, bias: Some(&self.bias), residual: Some(&self.residual) };
        if packed {
            let mut pairs = vec![u32::MAX; packed_bf16_len(k, n)];
            pack_bf16_into(b, &mut pairs);
            matmul_packed_bf16(a, PackedBf16::new(&pairs, k, n), MatMut::new(&mut c, m, n), epilogue);
        } else {
            matmul_bf16(a, b, MatMut::new(&mut c, m, n), epilogue);
        }
        c
    }

    fn check(&self, got: &[f32], what: &str) {
        let ((m, n, k), [a_t, b_t]) = (self.size, self.transposed);
        for i in 0..m {
            for j in 0..n {
                let ends = [self.c[i * n + j], self.bias[j], self.residual[i * n + j]].map(f64::from);
                let (mut sum, mut magnitude) =
                    (ends.iter().sum::<f64>(), ends.iter().map(|x| x.abs()).sum::<f64>());
                for p in 0..k {
                    let a = if a_t { self.a[p * m + i] } else { self.a[i * k + p] };
                    let b = if b_t { self.b[j * k + p] } else { self.b[p * n + j] };
                    sum += rounded(a) * rounded(b);
                    magnitude += (rounded(a) * rounded(b)).abs();
                }
                let tolerance = (k as f64 + ROUNDINGS_BEYOND_K) * f64::from(f32::EPSILON) * magnitude;
                let error = (f64::from(got[i * n + j]) - sum).abs();
                assert!(error <= tolerance, "{what}: {:?} ({i}, {j}): off by {error}", self.size);
            }
        }
    }
}

const LAYOUTS: [[bool; 2]; 4] = [[false, false], [true, false], [false, true], [true, true]];

#[test]
fn products_are_those_of_the_rounded_operands() {
    at_every_level(|level| {
        for size in SIZES {
            for layout in LAYOUTS {
                let case = Case::new(size, layout);
                let got = case.run(false);
                case.check(&got, &format!("{} {layout:?}", level.name()));
                assert_eq!(case.run(true), got, "{}: {size:?} {layout:?}: packed differs", level.name());
            }
        }
    });
}

#[test]
fn threads_and_the_rows_beside_a_row_do_not_show_in_the_bits() {
    // Several blocks of rows, columns and k, an odd number of which are left for the last.
    let (m, n, k) = (250, 400, 1301);
    let case = Case::new((m, n, k), [false, false]);
    let (_, b) = case.operands();
    at_every_level(|level| {
        let of = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| case.run(false))
        };
        let whole = of(1);
        case.check(&whole, &format!("{} on one thread", level.name()));
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        assert_eq!(pool.install(|| case.run(true)), whole, "{}: packed differs", level.name());
        for threads in [2, 3, 7] {
            assert_eq!(of(threads), whole, "{}: {threads} threads", level.name());
        }
        let mut row = case.c[..n].to_vec();
        let epilogue = Epilogue { add: true, bias: Some(&case.bias), residual: Some(&case.residual) };
        let first = Mat::new(&case.a[..k], 1, k);
        matmul_bf16(first, b, MatMut::new(&mut row, 1, n), epilogue);
        assert_eq!(row, whole[..n], "{}: the first row alone", level.name());
    });
}

#[test]
fn a_missing_partner_in_a_pair_counts_as_zero_even_beside_infinity() {
    at_every_level(|level| {
        // k = 1: the other half of each pair is padding.
        let mut c = [0.0f32; 2];
        let epilogue = Epilogue::default();
        let b = [f32::INFINITY, f32::NAN];
        matmul_bf16(Mat::new(&[2.0], 1, 1), Mat::new(&b, 1, 2), MatMut::new(&mut c, 1, 2), epilogue);
        assert_eq!(c[0], f32::INFINITY, "{}", level.name());
        assert!(c[1].is_nan(), "{}", level.name());
    });
}

#[test]
fn doubles_are_rounded_too_and_summed_in_doubles() {
    let (a, b) = ([1.0 + 1.0 / 512.0, 3.0], [2.0, 1.0 / 3.0]);
    let mut c = [0.0f64];
    matmul_bf16(Mat::new(&a, 1, 2), Mat::new(&b, 2, 1), MatMut::new(&mut c, 1, 1), Epilogue::default());
    assert_eq!(c[0], 2.0 + 3.0 * rounded(1.0 / 3.0));
}

#[test]
fn a_lower_level_does_without_the_instruction() {
    at_every_level(|level| {
        if level < simd::Level::Avx512 {
            assert!(!has_bf16(), "{}", level.name());
        }
    });
}
