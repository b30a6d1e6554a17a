//! One vector type, sixteen lanes wide at every instruction set.
//!
//! A [`Simd`] value is a token: that it exists proves that the processor has the instructions it stands for, so a kernel
//! is safe generic code over `S: Simd`, and [`dispatch!`](crate::dispatch) writes one instance per instruction set plus
//! the choice between them. A vector [`Simd::V`] has the same [`LANES`] = 16 lanes everywhere: one AVX-512 register, two
//! AVX2 registers, an array that the compiler lays into whatever the target has (four NEON registers on aarch64, where
//! they are always there). Sums over lanes follow one fixed tree. So a kernel that is written once gives the same bits
//! at every level, and `f64`, which exists to check gradients, runs through the same source.
//!
//! Which level runs is decided once per process by [`level`]; the environment variable `WEFT_SIMD` (`scalar`, `avx2`,
//! `avx512`) can lower it, and [`at_every_level`] runs a test at each level that the machine has.

#[cfg(target_arch = "x86_64")]
mod bf16;
mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::any::Any;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::Real;

#[cfg(target_arch = "x86_64")]
pub use bf16::Avx512Bf16;
pub use portable::Portable;
#[cfg(target_arch = "x86_64")]
pub use x86::{Avx2, Avx512};

/// Lanes of a vector, at every instruction set and for every element type.
pub const LANES: usize = 16;

/// A register of [`LANES`] numbers and what can be done with it; the value itself witnesses the instruction set.
///
/// Every operation is rounded once and correctly (IEEE 754), so the levels agree bit for bit. Only the bits of a NaN
/// are unspecified.
pub trait Simd: Copy + Send + Sync + 'static {
    /// The element.
    type T: Real;
    /// [`LANES`] elements.
    type V: Copy;
    /// [`LANES`] truth values.
    type M: Copy;

    /// Rows that the matrix-product tile keeps in registers beside [`Simd::TILE_VECTORS`] vectors of columns.
    const TILE_ROWS: usize;
    /// Vectors of columns in the tile of a matrix product, if it has all its rows.
    const TILE_VECTORS: usize;

    /// Makes the token.
    ///
    /// # Safety
    /// The processor must have the instructions that this type stands for.
    unsafe fn witness() -> Self;

    /// `x` in every lane.
    fn splat(self, x: Self::T) -> Self::V;
    /// The first [`LANES`] elements. Panics if there are fewer.
    fn load(self, src: &[Self::T]) -> Self::V;
    /// Writes to the first [`LANES`] elements. Panics if there are fewer.
    fn store(self, dst: &mut [Self::T], v: Self::V);
    /// All of `src` in the first lanes, zero in the others; of more than [`LANES`] elements, the first [`LANES`].
    fn load_up_to(self, src: &[Self::T]) -> Self::V;
    /// Writes the first lanes to all of `dst`; of more than [`LANES`] elements, to the first [`LANES`].
    fn store_up_to(self, dst: &mut [Self::T], v: Self::V);

    /// a + b.
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// a − b.
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// a · b.
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// a / b.
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// a · b + c, rounded once.
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `a` where a > b, else `b` (so `b` where either is NaN).
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a` where a < b, else `b` (so `b` where either is NaN).
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// √a.
    fn sqrt(self, a: Self::V) -> Self::V;
    /// |a|.
    fn abs(self, a: Self::V) -> Self::V;
    /// −a: the sign bit flipped.
    fn neg(self, a: Self::V) -> Self::V;
    /// The nearest integer, halves to even.
    fn round(self, a: Self::V) -> Self::V;
    /// a · 2ⁿ for integral n with |n| ≤ 252 and normal `a`; rounded once, also into the subnormal range (`f32` only).
    fn scale_by_power_of_two(self, a: Self::V, n: Self::V) -> Self::V;
    /// The exponent e and the significand m ∈ [1, 2) of a positive normal number a = m · 2ᵉ (`f32` only).
    fn split_exponent(self, a: Self::V) -> (Self::V, Self::V);

    /// a < b, lane by lane; false with a NaN.
    fn lt(self, a: Self::V, b: Self::V) -> Self::M;
    /// a ≠ a, lane by lane.
    fn is_nan(self, a: Self::V) -> Self::M;
    /// `a` where the mask is true, else `b`.
    fn select(self, mask: Self::M, a: Self::V, b: Self::V) -> Self::V;

    /// The lanes as an array.
    fn array(self, v: Self::V) -> [Self::T; LANES];
    /// A vector from an array.
    #[inline(always)]
    #[expect(clippy::wrong_self_convention, reason = "the token comes first in every method")]
    fn from_array(self, lanes: [Self::T; LANES]) -> Self::V {
        self.load(&lanes)
    }

    /// The sum of the lanes by the fixed tree: lanes 8 apart, then 4, 2, 1.
    fn sum_lanes(self, v: Self::V) -> Self::T;
    /// The largest lane by the same tree.
    fn max_lane(self, v: Self::V) -> Self::T;

    /// Column i of the square whose rows are given becomes row i.
    #[inline(always)]
    fn transpose(self, rows: [Self::V; LANES]) -> [Self::V; LANES] {
        let mut square = [[Self::T::ZERO; LANES]; LANES];
        for (row, v) in square.iter_mut().zip(rows) {
            self.store(row, v);
        }
        let mut columns = [self.zero(); LANES];
        for (i, column) in columns.iter_mut().enumerate() {
            let mut lanes = [Self::T::ZERO; LANES];
            for (lane, row) in lanes.iter_mut().zip(&square) {
                *lane = row[i];
            }
            *column = self.load(&lanes);
        }
        columns
    }

    /// Asks for the cache line that lies `distance` elements behind the first of `src`, ahead of its use. It may lie anywhere.
    fn prefetch<E>(self, src: &[E], distance: usize);

    /// Zero in every lane.
    #[inline(always)]
    fn zero(self) -> Self::V {
        self.splat(Self::T::ZERO)
    }
    /// c − a · b, rounded once.
    #[inline(always)]
    fn neg_mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        self.mul_add(self.neg(a), b, c)
    }
    /// `f` of every lane: for `f64` and for rare paths, not for hot loops.
    #[inline(always)]
    fn map_lanes(self, v: Self::V, f: impl Fn(Self::T) -> Self::T) -> Self::V {
        let mut lanes = self.array(v);
        for x in &mut lanes {
            *x = f(*x);
        }
        self.from_array(lanes)
    }
}

/// An instruction set that kernels are compiled for, from the least to the most able.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// What every processor of the target has.
    Scalar = 1,
    /// AVX2 and FMA (x86-64).
    Avx2 = 2,
    /// AVX-512 F, BW, DQ, VL (x86-64).
    Avx512 = 3,
}

impl Level {
    /// Every level, the least able first.
    pub const ALL: [Level; 3] = [Level::Scalar, Level::Avx2, Level::Avx512];

    /// The name that `WEFT_SIMD` understands.
    pub fn name(self) -> &'static str {
        match self {
            Level::Scalar => "scalar",
            Level::Avx2 => "avx2",
            Level::Avx512 => "avx512",
        }
    }

    /// The most able level of this processor.
    pub fn detect() -> Level {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            match (avx2, avx512) {
                (true, true) => Level::Avx512,
                (true, false) => Level::Avx2,
                _ => Level::Scalar,
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        Level::Scalar
    }
}

/// 0 until the first call of [`level`], then the level as its number.
static LEVEL: AtomicU8 = AtomicU8::new(0);

/// The level at which kernels run: what the processor has, or less if `WEFT_SIMD` says so.
#[inline]
pub fn level() -> Level {
    match LEVEL.load(Ordering::Relaxed) {
        3 => Level::Avx512,
        2 => Level::Avx2,
        1 => Level::Scalar,
        _ => first_level(),
    }
}

#[cold]
fn first_level() -> Level {
    let detected = Level::detect();
    let wanted = std::env::var("WEFT_SIMD").ok();
    let wanted = wanted.and_then(|name| Level::ALL.into_iter().find(|level| level.name() == name));
    let level = wanted.map_or(detected, |wanted| wanted.min(detected));
    LEVEL.store(level as u8, Ordering::Relaxed);
    level
}

/// Runs `f` once at every level that this process may use, the least able first: for tests and benches.
///
/// Other threads see the changed level too. That is harmless, because the levels give the same bits; calls of this
/// function wait for each other, so that each `f` runs at the level it is told.
pub fn at_every_level(mut f: impl FnMut(Level)) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let highest = level();
    /// Puts the level back, also when `f` panics.
    struct Restore(Level);
    impl Drop for Restore {
        fn drop(&mut self) {
            LEVEL.store(self.0 as u8, Ordering::Relaxed);
        }
    }
    let _restore = Restore(highest);
    for level in Level::ALL.into_iter().filter(|level| *level <= highest) {
        if cfg!(not(target_arch = "x86_64")) && level != Level::Scalar {
            continue;
        }
        LEVEL.store(level as u8, Ordering::Relaxed);
        f(level);
    }
}

/// Writes a kernel's entry: one instance of a generic function per element type and instruction set, and the choice
/// between them.
///
/// ```text
/// dispatch! {
///     /// `y += alpha · x`, elementwise. Panics if the lengths differ.
///     pub fn axpy<T>(alpha: T, x: &[T], y: &mut [T]) = axpy_on
/// }
///
/// #[inline(always)] // into the `#[target_feature]` functions that `dispatch!` writes
/// fn axpy_on<S: Simd>(simd: S, alpha: S::T, x: &[S::T], y: &mut [S::T]) { … }
/// ```
///
/// `T` stands for any [`Real`]. The generic function and everything that it calls in its loops must be
/// `#[inline(always)]` or a small closure: what does not inline is compiled for the target's baseline.
///
/// The instances of `f32` and of `f64` are functions of their own without type parameters, so they are compiled once,
/// with this crate, and not again in every crate that calls the kernel. `f64` has no vectors of its own: it gains from AVX2 and FMA, nothing from AVX-512.
#[macro_export]
macro_rules! dispatch {
    ($(
        $(#[$meta:meta])*
        $vis:vis fn $name:ident<T>($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $on:ident
    )*) => {$(
        $(#[$meta])*
        #[allow(clippy::too_many_arguments, reason = "a kernel takes slices and sizes")]
        $vis fn $name<T: $crate::Real>($($arg: $ty),*) $(-> $ret)? {
            let single = || {
                type T = f32;
                #[cfg(target_arch = "x86_64")]
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi2")]
                #[allow(clippy::too_many_arguments, reason = "a kernel takes slices and sizes")]
                fn avx512(simd: $crate::simd::Avx512, $($arg: $ty),*) $(-> $ret)? {
                    $on(simd, $($arg),*)
                }
                #[cfg(target_arch = "x86_64")]
                #[target_feature(enable = "avx2,fma,bmi2")]
                #[allow(clippy::too_many_arguments, reason = "a kernel takes slices and sizes")]
                fn avx2(simd: $crate::simd::Avx2, $($arg: $ty),*) $(-> $ret)? {
                    $on(simd, $($arg),*)
                }
                #[allow(clippy::too_many_arguments, reason = "a kernel takes slices and sizes")]
                fn entry($($arg: $ty),*) $(-> $ret)? {
                    match $crate::simd::level() {
                        // SAFETY: `level` never exceeds what the processor was found to have.
                        #[cfg(target_arch = "x86_64")]
                        $crate::simd::Level::Avx512 => unsafe {
                            avx512($crate::simd::Simd::witness(), $($arg),*)
                        },
                        // SAFETY: as above.
                        #[cfg(target_arch = "x86_64")]
                        $crate::simd::Level::Avx2 => unsafe {
                            avx2($crate::simd::Simd::witness(), $($arg),*)
                        },
                        _ => $on($crate::simd::Portable::<T>::new(), $($arg),*),
                    }
                }
                $crate::simd::as_type(entry as fn($($ty),*) $(-> $ret)?)
            };
            let double = || {
                type T = f64;
                #[cfg(target_arch = "x86_64")]
                #[target_feature(enable = "avx2,fma,bmi2")]
                #[allow(clippy::too_many_arguments, reason = "a kernel takes slices and sizes")]
                fn avx2($($arg: $ty),*) $(-> $ret)? {
                    $on($crate::simd::Portable::<T, true>::new(), $($arg),*)
                }
                #[allow(clippy::too_many_arguments, reason = "a kernel takes slices and sizes")]
                fn entry($($arg: $ty),*) $(-> $ret)? {
                    match $crate::simd::level() {
                        // SAFETY: `level` never exceeds what the processor was found to have.
                        #[cfg(target_arch = "x86_64")]
                        $crate::simd::Level::Avx512 | $crate::simd::Level::Avx2 => unsafe {
                            avx2($($arg),*)
                        },
                        _ => $on($crate::simd::Portable::<T>::new(), $($arg),*),
                    }
                }
                $crate::simd::as_type(entry as fn($($ty),*) $(-> $ret)?)
            };
            let entry: fn($($ty),*) $(-> $ret)? = T::choose(single, double);
            entry($($arg),*)
        }
    )*};
}

/// `f` as the type that it has: lets [`dispatch!`](crate::dispatch) call the entry of `f32` where `T` is `f32`.
#[doc(hidden)]
#[inline(always)]
pub fn as_type<F: Copy + 'static, G: Copy + 'static>(f: F) -> G {
    *(&f as &dyn Any).downcast_ref().expect("the entry that is chosen is the one of the type")
}
