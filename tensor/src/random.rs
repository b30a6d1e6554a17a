//! Random numbers that depend on where they are used and on nothing else.
//!
//! The generator is Philox4x32-10 (Salmon, Moraes, Dror and Shaw, *Parallel Random Numbers: As Easy as 1, 2, 3*, SC 2011):
//! a function from a counter and a key to 128 random bits. A [`Key`] names a stream by (seed, purpose, step, index), so
//! nothing is carried from one step to the next: a resumed run draws what the uninterrupted one would have drawn, and
//! threads need not agree on who draws first. Integers only, so every platform draws the same.

use std::convert::Infallible;

use rand::TryRng;

/// What a stream of random numbers is for: two purposes never share numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Purpose {
    /// Initial parameters.
    Init = 1,
    /// The order in which training examples are visited.
    DataOrder = 2,
    /// Dropout masks.
    Dropout = 3,
    /// Sampling tokens.
    Sampling = 4,
    /// Which documents are held out.
    Split = 5,
    /// Which examples an evaluation looks at.
    Evaluation = 6,
    /// Inputs of tests and benches.
    Test = 7,
}

/// Philox4x32 with ten rounds: 128 random bits as a function of the counter and the key.
#[inline]
pub fn philox(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let [[a], [b], [c], [d]] = philox_lanes(counter.map(|word| [word]), key);
    [a, b, c, d]
}

/// [`philox`] of `N` counters at once, word by word: array `w` holds word `w` of every counter.
#[inline(always)] // into kernels, which compile it for their instruction set
pub fn philox_lanes<const N: usize>(counter: [[u32; N]; 4], key: [u32; 2]) -> [[u32; N]; 4] {
    // The multipliers and the Weyl increments of the key (the golden ratio and √3 − 1) are the paper's.
    const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
    const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
    let ([mut c0, mut c1, mut c2, mut c3], [mut k0, mut k1]) = (counter, key);
    for _ in 0..10 {
        for i in 0..N {
            let p = u64::from(MULTIPLIERS[0]) * u64::from(c0[i]);
            let q = u64::from(MULTIPLIERS[1]) * u64::from(c2[i]);
            c0[i] = (q >> 32) as u32 ^ c1[i] ^ k0;
            c1[i] = q as u32;
            c2[i] = (p >> 32) as u32 ^ c3[i] ^ k1;
            c3[i] = p as u32;
        }
        k0 = k0.wrapping_add(WEYL[0]);
        k1 = k1.wrapping_add(WEYL[1]);
    }
    [c0, c1, c2, c3]
}

/// The name of a stream of 2³⁴ random words.
///
/// The seed is Philox's key; purpose, step and index fill the counter beside the number of the block of four words, so
/// different names of one seed never share a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Philox's key.
    pub(crate) key: [u32; 2],
    /// The last three words of the counter; the first is the block.
    pub(crate) stream: [u32; 3],
}

impl Key {
    /// The stream of `seed` for `purpose` at `step`; `index` tells apart what happens within a step.
    ///
    /// # Panics
    /// If `step` is 2⁵⁶ or more.
    #[track_caller]
    pub fn new(seed: u64, purpose: Purpose, step: u64, index: u32) -> Self {
        assert!(step >> 56 == 0, "random: step {step} does not fit 56 bits");
        let high = (purpose as u32) << 24 | (step >> 32) as u32;
        Key { key: [seed as u32, (seed >> 32) as u32], stream: [index, step as u32, high] }
    }

    /// Words 4 · `block` to 4 · `block` + 3 of the stream.
    #[inline]
    pub fn block(&self, block: u32) -> [u32; 4] {
        let [index, low, high] = self.stream;
        philox([block, index, low, high], self.key)
    }

    /// Word `i` of the stream, for i < 2³⁴.
    #[inline]
    pub fn u32_at(&self, i: u64) -> u32 {
        self.block((i / 4) as u32)[(i % 4) as usize]
    }

    /// A number uniform in [0, 1) from word `i`: a multiple of 2⁻²⁴.
    #[inline]
    pub fn f32_at(&self, i: u64) -> f32 {
        (self.u32_at(i) >> 8) as f32 * (1.0 / (1 << 24) as f32)
    }

    /// A number uniform in [0, 1) from words 2`i` and 2`i` + 1: a multiple of 2⁻⁵³.
    #[inline]
    pub fn f64_at(&self, i: u64) -> f64 {
        let words = self.block((i / 2) as u32);
        let (low, high) = (words[2 * (i % 2) as usize], words[2 * (i % 2) as usize + 1]);
        ((u64::from(high) << 32 | u64::from(low)) >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }
}

/// The words of a [`Key`]'s stream one after another: a generator for `rand` and `rand_distr`.
///
/// ```
/// use rand_distr::{Distribution, StandardNormal};
/// use weft_tensor::random::{Purpose, Random};
///
/// let mut random = Random::new(1337, Purpose::Test, 0, 0);
/// let x: f64 = StandardNormal.sample(&mut random);
/// assert_eq!(x, StandardNormal.sample(&mut Random::new(1337, Purpose::Test, 0, 0)));
/// ```
#[derive(Clone, Debug)]
pub struct Random {
    key: Key,
    block: [u32; 4],
    /// The number of the next word.
    next: u64,
}

impl Random {
    /// The generator of the stream [`Key::new`] names.
    ///
    /// # Panics
    /// If `step` is 2⁵⁶ or more.
    #[track_caller]
    pub fn new(seed: u64, purpose: Purpose, step: u64, index: u32) -> Self {
        Key::new(seed, purpose, step, index).into()
    }
}

impl From<Key> for Random {
    fn from(key: Key) -> Self {
        Random { key, block: [0; 4], next: 0 }
    }
}

impl TryRng for Random {
    type Error = Infallible;

    #[inline]
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let word = (self.next % 4) as usize;
        if word == 0 {
            self.block = self.key.block((self.next / 4) as u32);
        }
        self.next += 1;
        Ok(self.block[word])
    }

    /// Two words, the low half first.
    #[inline]
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let low = self.try_next_u32()?;
        Ok(u64::from(self.try_next_u32()?) << 32 | u64::from(low))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for chunk in bytes.chunks_mut(4) {
            let word = self.try_next_u32()?.to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
        Ok(())
    }
}
