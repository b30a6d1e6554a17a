//! AVX-512 and AVX2 with FMA.

use std::arch::x86_64::*;

use super::{LANES, Simd};

/// Witnesses AVX-512 F, BW, DQ and VL, AVX2 and FMA: a vector is one 512-bit register.
#[derive(Clone, Copy)]
pub struct Avx512(());

/// Witnesses AVX2 and FMA: a vector is two 256-bit registers.
#[derive(Clone, Copy)]
pub struct Avx2(());

/// Writes methods of one intrinsic each.
macro_rules! intrinsics {
    ($($name:ident($($arg:ident),*) -> $ret:ty = $body:expr;)*) => {$(
        #[inline(always)]
        fn $name(self, $($arg: Self::V),*) -> $ret {
            // SAFETY: `self` witnesses the instruction set; the intrinsic touches registers only.
            unsafe { $body }
        }
    )*};
}

impl Simd for Avx512 {
    type T = f32;
    type V = __m512;
    type M = __mmask16;

    // 14 × 2 vectors are 28 of 32 registers and leave room for two of B and a broadcast of A.
    const TILE_ROWS: usize = 14;
    const TILE_VECTORS: usize = 2;

    #[inline(always)]
    unsafe fn witness() -> Self {
        Avx512(())
    }

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        // SAFETY: `self` witnesses AVX-512F.
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    fn load(self, src: &[f32]) -> __m512 {
        let src: &[f32; LANES] = src.first_chunk().expect("a full vector");
        // SAFETY: `self` witnesses AVX-512F, and `src` is 16 readable floats.
        unsafe { _mm512_loadu_ps(src.as_ptr()) }
    }
    #[inline(always)]
    fn store(self, dst: &mut [f32], v: __m512) {
        let dst: &mut [f32; LANES] = dst.first_chunk_mut().expect("a full vector");
        // SAFETY: `self` witnesses AVX-512F, and `dst` is 16 writable floats.
        unsafe { _mm512_storeu_ps(dst.as_mut_ptr(), v) }
    }
    #[inline(always)]
    fn load_up_to(self, src: &[f32]) -> __m512 {
        // SAFETY: `self` witnesses AVX-512F, and the mask lets the load touch the floats of `src` only.
        unsafe { _mm512_maskz_loadu_ps(first_lanes(src.len()), src.as_ptr()) }
    }
    #[inline(always)]
    fn store_up_to(self, dst: &mut [f32], v: __m512) {
        // SAFETY: `self` witnesses AVX-512F, and the mask lets the store touch the floats of `dst` only.
        unsafe { _mm512_mask_storeu_ps(dst.as_mut_ptr(), first_lanes(dst.len()), v) }
    }

    intrinsics! {
        add(a, b) -> __m512 = _mm512_add_ps(a, b);
        sub(a, b) -> __m512 = _mm512_sub_ps(a, b);
        mul(a, b) -> __m512 = _mm512_mul_ps(a, b);
        div(a, b) -> __m512 = _mm512_div_ps(a, b);
        mul_add(a, b, c) -> __m512 = _mm512_fmadd_ps(a, b, c);
        neg_mul_add(a, b, c) -> __m512 = _mm512_fnmadd_ps(a, b, c);
        max(a, b) -> __m512 = _mm512_max_ps(a, b);
        min(a, b) -> __m512 = _mm512_min_ps(a, b);
        sqrt(a) -> __m512 = _mm512_sqrt_ps(a);
        abs(a) -> __m512 = _mm512_abs_ps(a);
        neg(a) -> __m512 = _mm512_xor_ps(a, _mm512_set1_ps(-0.0));
        round(a) -> __m512 = _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a);
        scale_by_power_of_two(a, n) -> __m512 = _mm512_scalef_ps(a, n);
        lt(a, b) -> __mmask16 = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b);
        is_nan(a) -> __mmask16 = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, a);
        sum_lanes(v) -> f32 = sum_8(_mm256_add_ps(low_half(v), high_half(v)));
        max_lane(v) -> f32 = max_8(_mm256_max_ps(low_half(v), high_half(v)));
    }
    #[inline(always)]
    fn split_exponent(self, a: __m512) -> (__m512, __m512) {
        // SAFETY: `self` witnesses AVX-512F.
        unsafe { (_mm512_getexp_ps(a), _mm512_getmant_ps::<_MM_MANT_NORM_1_2, _MM_MANT_SIGN_ZERO>(a)) }
    }
    #[inline(always)]
    fn select(self, mask: __mmask16, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` witnesses AVX-512F.
        unsafe { _mm512_mask_blend_ps(mask, b, a) }
    }
    #[inline(always)]
    fn array(self, v: __m512) -> [f32; LANES] {
        let mut lanes = [0.0; LANES];
        self.store(&mut lanes, v);
        lanes
    }
    #[inline(always)]
    fn transpose(self, r: [__m512; LANES]) -> [__m512; LANES] {
        let mut t = r;
        let mut u = r;
        let mut columns = r;
        // SAFETY: `self` witnesses AVX-512F; the intrinsics touch registers only.
        unsafe {
            // Pairs of rows, then groups of four: register 4g + i of `u` holds column i of each 4 × 4 block of group g.
            for i in 0..8 {
                t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
                t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
            }
            for g in 0..4 {
                let pair = |a: __m512, b: __m512| (_mm512_castps_pd(a), _mm512_castps_pd(b));
                let (a, b) = pair(t[4 * g], t[4 * g + 2]);
                u[4 * g] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
                u[4 * g + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
                let (a, b) = pair(t[4 * g + 1], t[4 * g + 3]);
                u[4 * g + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
                u[4 * g + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
            }
            // Even and odd quarters of two groups, then of all four.
            for i in 0..4 {
                let even_01 = _mm512_shuffle_f32x4::<0x88>(u[i], u[4 + i]);
                let odd_01 = _mm512_shuffle_f32x4::<0xdd>(u[i], u[4 + i]);
                let even_23 = _mm512_shuffle_f32x4::<0x88>(u[8 + i], u[12 + i]);
                let odd_23 = _mm512_shuffle_f32x4::<0xdd>(u[8 + i], u[12 + i]);
                columns[i] = _mm512_shuffle_f32x4::<0x88>(even_01, even_23);
                columns[4 + i] = _mm512_shuffle_f32x4::<0x88>(odd_01, odd_23);
                columns[8 + i] = _mm512_shuffle_f32x4::<0xdd>(even_01, even_23);
                columns[12 + i] = _mm512_shuffle_f32x4::<0xdd>(odd_01, odd_23);
            }
        }
        columns
    }
    #[inline(always)]
    fn prefetch<E>(self, src: &[E], distance: usize) {
        // SAFETY: a prefetch never faults, wherever it points.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(src.as_ptr().wrapping_add(distance).cast()) }
    }
}

impl Simd for Avx2 {
    type T = f32;
    type V = (__m256, __m256);
    type M = (__m256, __m256);

    // 6 × 2 registers are 12 of 16 and leave two for B and two for A.
    const TILE_ROWS: usize = 6;
    const TILE_VECTORS: usize = 1;

    #[inline(always)]
    unsafe fn witness() -> Self {
        Avx2(())
    }

    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        // SAFETY: `self` witnesses AVX.
        let v = unsafe { _mm256_set1_ps(x) };
        (v, v)
    }
    #[inline(always)]
    fn load(self, src: &[f32]) -> Self::V {
        let src: &[f32; LANES] = src.first_chunk().expect("a full vector");
        // SAFETY: `self` witnesses AVX, and `src` is 16 readable floats.
        unsafe { (_mm256_loadu_ps(src.as_ptr()), _mm256_loadu_ps(src.as_ptr().add(8))) }
    }
    #[inline(always)]
    fn store(self, dst: &mut [f32], v: Self::V) {
        let dst: &mut [f32; LANES] = dst.first_chunk_mut().expect("a full vector");
        // SAFETY: `self` witnesses AVX, and `dst` is 16 writable floats.
        unsafe {
            _mm256_storeu_ps(dst.as_mut_ptr(), v.0);
            _mm256_storeu_ps(dst.as_mut_ptr().add(8), v.1);
        }
    }
    #[inline(always)]
    fn load_up_to(self, src: &[f32]) -> Self::V {
        if src.len() >= LANES {
            return self.load(src);
        }
        let (low, high) = src.split_at(src.len().min(8));
        // SAFETY: `self` witnesses AVX2, and each mask lets its load touch the floats of its half only.
        unsafe {
            (
                _mm256_maskload_ps(low.as_ptr(), first_lanes_of_8(low.len())),
                _mm256_maskload_ps(high.as_ptr(), first_lanes_of_8(high.len())),
            )
        }
    }
    #[inline(always)]
    fn store_up_to(self, dst: &mut [f32], v: Self::V) {
        if dst.len() >= LANES {
            return self.store(dst, v);
        }
        let (low, high) = dst.split_at_mut(dst.len().min(8));
        // SAFETY: `self` witnesses AVX2, and each mask lets its store touch the floats of its half only.
        unsafe {
            _mm256_maskstore_ps(low.as_mut_ptr(), first_lanes_of_8(low.len()), v.0);
            _mm256_maskstore_ps(high.as_mut_ptr(), first_lanes_of_8(high.len()), v.1);
        }
    }

    intrinsics! {
        add(a, b) -> Self::V = (_mm256_add_ps(a.0, b.0), _mm256_add_ps(a.1, b.1));
        sub(a, b) -> Self::V = (_mm256_sub_ps(a.0, b.0), _mm256_sub_ps(a.1, b.1));
        mul(a, b) -> Self::V = (_mm256_mul_ps(a.0, b.0), _mm256_mul_ps(a.1, b.1));
        div(a, b) -> Self::V = (_mm256_div_ps(a.0, b.0), _mm256_div_ps(a.1, b.1));
        mul_add(a, b, c) -> Self::V = (_mm256_fmadd_ps(a.0, b.0, c.0), _mm256_fmadd_ps(a.1, b.1, c.1));
        neg_mul_add(a, b, c) -> Self::V = (_mm256_fnmadd_ps(a.0, b.0, c.0), _mm256_fnmadd_ps(a.1, b.1, c.1));
        max(a, b) -> Self::V = (_mm256_max_ps(a.0, b.0), _mm256_max_ps(a.1, b.1));
        min(a, b) -> Self::V = (_mm256_min_ps(a.0, b.0), _mm256_min_ps(a.1, b.1));
        sqrt(a) -> Self::V = (_mm256_sqrt_ps(a.0), _mm256_sqrt_ps(a.1));
        abs(a) -> Self::V = {
            let sign = _mm256_set1_ps(-0.0);
            (_mm256_andnot_ps(sign, a.0), _mm256_andnot_ps(sign, a.1))
        };
        neg(a) -> Self::V = {
            let sign = _mm256_set1_ps(-0.0);
            (_mm256_xor_ps(a.0, sign), _mm256_xor_ps(a.1, sign))
        };
        round(a) -> Self::V = (
            _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a.0),
            _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a.1),
        );
        scale_by_power_of_two(a, n) -> Self::V = (scale_8(a.0, n.0), scale_8(a.1, n.1));
        lt(a, b) -> Self::M = (_mm256_cmp_ps::<_CMP_LT_OQ>(a.0, b.0), _mm256_cmp_ps::<_CMP_LT_OQ>(a.1, b.1));
        is_nan(a) -> Self::M = (_mm256_cmp_ps::<_CMP_UNORD_Q>(a.0, a.0), _mm256_cmp_ps::<_CMP_UNORD_Q>(a.1, a.1));
        sum_lanes(v) -> f32 = sum_8(_mm256_add_ps(v.0, v.1));
        max_lane(v) -> f32 = max_8(_mm256_max_ps(v.0, v.1));
        split_exponent(a) -> (Self::V, Self::V) = {
            let ((e0, m0), (e1, m1)) = (split_8(a.0), split_8(a.1));
            ((e0, e1), (m0, m1))
        };
    }
    #[inline(always)]
    fn select(self, mask: Self::M, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: `self` witnesses AVX.
        unsafe { (_mm256_blendv_ps(b.0, a.0, mask.0), _mm256_blendv_ps(b.1, a.1, mask.1)) }
    }
    #[inline(always)]
    fn array(self, v: Self::V) -> [f32; LANES] {
        let mut lanes = [0.0; LANES];
        self.store(&mut lanes, v);
        lanes
    }
    #[inline(always)]
    fn transpose(self, r: [Self::V; LANES]) -> [Self::V; LANES] {
        let mut columns = r;
        // Four squares of eight; the two off the diagonal change places.
        for i in 0..2 {
            for j in 0..2 {
                let mut square = [r[0].0; 8];
                for q in 0..8 {
                    square[q] = if j == 0 { r[8 * i + q].0 } else { r[8 * i + q].1 };
                }
                // SAFETY: `self` witnesses AVX.
                let square = unsafe { transpose_8(square) };
                for q in 0..8 {
                    let half = if i == 0 { &mut columns[8 * j + q].0 } else { &mut columns[8 * j + q].1 };
                    *half = square[q];
                }
            }
        }
        columns
    }
    #[inline(always)]
    fn prefetch<E>(self, src: &[E], distance: usize) {
        // SAFETY: a prefetch never faults, wherever it points.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(src.as_ptr().wrapping_add(distance).cast()) }
    }
}

/// A mask of the first `len` of 16 lanes.
#[inline(always)]
fn first_lanes(len: usize) -> __mmask16 {
    if len >= LANES { !0 } else { (1u16 << len) - 1 }
}

/// A mask of the first `len` of 8 lanes: the sign bits of a window into seven ones and eight zeros.
///
/// # Safety
/// The processor must have AVX.
#[inline(always)]
unsafe fn first_lanes_of_8(len: usize) -> __m256i {
    const WINDOW: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    let window: &[i32; 8] = WINDOW[8 - len.min(8)..].first_chunk().expect("eight of sixteen");
    // SAFETY: AVX by the caller, and `window` is 8 readable integers.
    unsafe { _mm256_loadu_si256(window.as_ptr().cast()) }
}

/// The halves of a register.
///
/// # Safety
/// The processor must have AVX-512 F and DQ.
#[inline(always)]
unsafe fn low_half(v: __m512) -> __m256 {
    // SAFETY: by the caller.
    unsafe { _mm512_castps512_ps256(v) }
}

/// See [`low_half`].
///
/// # Safety
/// The processor must have AVX-512 F and DQ.
#[inline(always)]
unsafe fn high_half(v: __m512) -> __m256 {
    // SAFETY: by the caller.
    unsafe { _mm512_extractf32x8_ps::<1>(v) }
}

/// Column i of the square whose rows are given becomes row i.
///
/// # Safety
/// The processor must have AVX.
#[inline(always)]
unsafe fn transpose_8(r: [__m256; 8]) -> [__m256; 8] {
    let (mut t, mut u, mut columns) = (r, r, r);
    // SAFETY: by the caller.
    unsafe {
        for i in 0..4 {
            t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
            t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
        }
        for g in 0..2 {
            u[4 * g] = _mm256_shuffle_ps::<0x44>(t[4 * g], t[4 * g + 2]);
            u[4 * g + 1] = _mm256_shuffle_ps::<0xee>(t[4 * g], t[4 * g + 2]);
            u[4 * g + 2] = _mm256_shuffle_ps::<0x44>(t[4 * g + 1], t[4 * g + 3]);
            u[4 * g + 3] = _mm256_shuffle_ps::<0xee>(t[4 * g + 1], t[4 * g + 3]);
        }
        for i in 0..4 {
            columns[i] = _mm256_permute2f128_ps::<0x20>(u[i], u[4 + i]);
            columns[4 + i] = _mm256_permute2f128_ps::<0x31>(u[i], u[4 + i]);
        }
    }
    columns
}

/// The last three levels of the tree of [`Simd::sum_lanes`].
///
/// # Safety
/// The processor must have AVX.
#[inline(always)]
unsafe fn sum_8(v: __m256) -> f32 {
    // SAFETY: by the caller.
    unsafe {
        let v = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
        let v = _mm_add_ps(v, _mm_movehl_ps(v, v));
        _mm_cvtss_f32(_mm_add_ss(v, _mm_shuffle_ps::<1>(v, v)))
    }
}

/// The last three levels of the tree of [`Simd::max_lane`].
///
/// # Safety
/// The processor must have AVX.
#[inline(always)]
unsafe fn max_8(v: __m256) -> f32 {
    // SAFETY: by the caller.
    unsafe {
        let v = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
        let v = _mm_max_ps(v, _mm_movehl_ps(v, v));
        _mm_cvtss_f32(_mm_max_ss(v, _mm_shuffle_ps::<1>(v, v)))
    }
}

/// a · 2ⁿ in two exact halves, so that only the last product rounds: n may leave the exponents of a float.
///
/// # Safety
/// The processor must have AVX2.
#[inline(always)]
unsafe fn scale_8(a: __m256, n: __m256) -> __m256 {
    // SAFETY: by the caller.
    unsafe {
        let n = _mm256_cvtps_epi32(n);
        let half = _mm256_srai_epi32::<1>(n);
        let power =
            |n| _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(n, _mm256_set1_epi32(127))));
        _mm256_mul_ps(_mm256_mul_ps(a, power(half)), power(_mm256_sub_epi32(n, half)))
    }
}

/// Exponent and significand of [`Simd::split_exponent`].
///
/// # Safety
/// The processor must have AVX2.
#[inline(always)]
unsafe fn split_8(a: __m256) -> (__m256, __m256) {
    // SAFETY: by the caller.
    unsafe {
        let bits = _mm256_castps_si256(a);
        let exponent = _mm256_sub_epi32(_mm256_srli_epi32::<23>(bits), _mm256_set1_epi32(127));
        let significand = _mm256_and_si256(bits, _mm256_set1_epi32(0x007f_ffff));
        let one = _mm256_set1_epi32(0x3f80_0000);
        (_mm256_cvtepi32_ps(exponent), _mm256_castsi256_ps(_mm256_or_si256(significand, one)))
    }
}
