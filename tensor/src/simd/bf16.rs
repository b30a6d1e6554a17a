//! AVX-512's products of bf16.

use std::arch::x86_64::*;

use super::{LANES, Level, level};

/// Witnesses AVX-512 F and BF16.
#[derive(Clone, Copy)]
pub struct Avx512Bf16(());

impl Avx512Bf16 {
    /// The token, if the processor has the instruction and [`level`] allows AVX-512.
    #[inline]
    pub fn detect() -> Option<Self> {
        (level() == Level::Avx512 && is_x86_feature_detected!("avx512bf16")).then_some(Avx512Bf16(()))
    }

    /// A pair of bf16 in every lane.
    #[inline(always)]
    pub fn splat(self, pair: u32) -> __m512bh {
        // SAFETY: `self` witnesses AVX-512F; both types are 512 bits without invalid values.
        unsafe { std::mem::transmute(_mm512_set1_epi32(pair as i32)) }
    }

    /// The first [`LANES`] pairs. Panics if there are fewer.
    #[inline(always)]
    pub fn load(self, src: &[u32]) -> __m512bh {
        let src: &[u32; LANES] = src.first_chunk().expect("a full vector");
        // SAFETY: `self` witnesses AVX-512F, and `src` is 16 readable pairs; both types are 512 bits without invalid values.
        unsafe { std::mem::transmute(_mm512_loadu_si512(src.as_ptr().cast())) }
    }

    /// In each lane, the sum of the products of both pairs and `c`.
    #[inline(always)]
    pub fn dot(self, a: __m512bh, b: __m512bh, c: __m512) -> __m512 {
        // SAFETY: `self` witnesses AVX-512 BF16; the intrinsic touches registers only.
        unsafe { _mm512_dpbf16_ps(c, a, b) }
    }
}
