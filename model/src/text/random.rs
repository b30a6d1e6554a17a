//! Counter-based randomness: a number is a pure function of where it is used, and nothing is carried between calls.

/// What a random number is for. Two purposes never share a stream.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    /// Which documents go to which split.
    Split = 1,
    /// The order of the documents within an epoch.
    Epoch = 2,
    /// Where a window of running text starts.
    Window = 3,
}

/// The random 64 bits at (`seed`, `purpose`, `step`, `index`).
pub(super) fn mix(seed: u64, purpose: Purpose, step: u64, index: u64) -> u64 {
    [purpose as u64, step, index].into_iter().fold(finalise(seed), |h, word| finalise(h ^ word))
}

/// splitmix64: advance by the golden ratio, then its finaliser (Steele, Lea & Flood 2014). A bijection on `u64`.
fn finalise(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// `bits` scaled to `0..n`. The bias is at most n / 2⁶⁴.
pub(super) fn below(bits: u64, n: u64) -> u64 {
    ((u128::from(bits) * u128::from(n)) >> 64) as u64
}

/// Shuffles in place (Fisher–Yates) with the numbers of (`seed`, `purpose`).
pub(super) fn shuffle<T>(items: &mut [T], seed: u64, purpose: Purpose) {
    for i in (1..items.len()).rev() {
        items.swap(i, below(mix(seed, purpose, 0, i as u64), i as u64 + 1) as usize);
    }
}

/// A pseudo-random permutation of `0..n` of which any element can be asked for directly.
///
/// A Feistel network (Luby & Rackoff 1988) permutes the smallest 4ᵇ ≥ n; a result outside `0..n` is permuted again
/// until it falls inside ("cycle walking", Black & Rogaway 2002), on average less than four times. No table, so an
/// epoch's order costs nothing to start and a step needs no history.
#[derive(Clone, Copy, Debug)]
pub(super) struct Permutation {
    n: u64,
    half_bits: u32,
    keys: [u64; ROUNDS],
}

/// Four rounds are indistinguishable from random on large domains; small ones (a handful of documents) need more.
const ROUNDS: usize = 8;

impl Permutation {
    /// The order of epoch number `epoch`.
    pub(super) fn new(n: u64, seed: u64, epoch: u64) -> Permutation {
        let bits = u64::BITS - n.saturating_sub(1).leading_zeros();
        let keys = std::array::from_fn(|round| mix(seed, Purpose::Epoch, epoch, round as u64));
        Permutation { n, half_bits: bits.div_ceil(2).max(1), keys }
    }

    /// Where `i` goes. Panics unless `i < n`.
    pub(super) fn at(&self, i: u64) -> u64 {
        assert!(i < self.n, "permutation: {i} is not below {}", self.n);
        let mut x = self.feistel(i);
        while x >= self.n {
            x = self.feistel(x);
        }
        x
    }

    fn feistel(&self, x: u64) -> u64 {
        let mask = (1 << self.half_bits) - 1;
        let (mut left, mut right) = (x >> self.half_bits, x & mask);
        for key in self.keys {
            (left, right) = (right, left ^ (finalise(key ^ right) & mask));
        }
        left << self.half_bits | right
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permutation_hits_everything_once() {
        for n in [1, 2, 3, 4, 5, 16, 17, 255, 1000, 4097] {
            for epoch in 0..3 {
                let order = Permutation::new(n, 7, epoch);
                let mut seen: Vec<u64> = (0..n).map(|i| order.at(i)).collect();
                seen.sort_unstable();
                assert!(seen.iter().copied().eq(0..n), "n {n}, epoch {epoch}: {seen:?}");
            }
        }
    }

    #[test]
    fn every_element_is_as_likely_at_every_place() {
        // χ² over 10 × 10 cells with 81 degrees of freedom exceeds 160 with probability below 10⁻⁶.
        const LIMIT: f64 = 160.0;
        const EPOCHS: u64 = 10_000;
        let mut counts = [[0u32; 10]; 10];
        for epoch in 0..EPOCHS {
            let order = Permutation::new(10, 1, epoch);
            for (i, row) in counts.iter_mut().enumerate() {
                row[order.at(i as u64) as usize] += 1;
            }
        }
        let expected = EPOCHS as f64 / 10.0;
        let chi2: f64 = counts.iter().flatten().map(|&c| (f64::from(c) - expected).powi(2) / expected).sum();
        assert!(chi2 < LIMIT, "χ² = {chi2}");
    }

    #[test]
    fn purposes_steps_and_indices_have_streams_of_their_own() {
        let base = mix(1, Purpose::Split, 2, 3);
        for other in [
            mix(2, Purpose::Split, 2, 3),
            mix(1, Purpose::Epoch, 2, 3),
            mix(1, Purpose::Split, 3, 3),
            mix(1, Purpose::Split, 2, 4),
            mix(1, Purpose::Split, 3, 2),
        ] {
            assert_ne!(base, other);
        }
    }
}
