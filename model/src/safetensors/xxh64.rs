//! XXH64, seed 0 (Collet 2012, the xxHash specification): the checksum inside a model file.
//!
//! Not cryptographic: it finds damage, not forgery. Of random damage it misses one case in 2⁶⁴. It was chosen over
//! FNV-1a, which takes a byte at a time, because a checkpoint is hashed on every save; and over a hash of our own
//! because any xxHash library can then check a file.

const PRIMES: [u64; 5] = [
    0x9e37_79b1_85eb_ca87,
    0xc2b2_ae3d_27d4_eb4f,
    0x1656_67b1_9e37_79f9,
    0x85eb_ca77_c2b2_ae63,
    0x27d4_eb2f_1656_67c5,
];

/// Bytes in a stripe: a word for each of the four lanes.
const STRIPE: usize = 32;

/// The hash of bytes that arrive in pieces; where they are cut does not matter.
pub(crate) struct Xxh64 {
    lanes: [u64; 4],
    /// The first `len % STRIPE` bytes wait here for the rest of their stripe.
    waiting: [u8; STRIPE],
    /// Bytes so far.
    len: u64,
}

impl Xxh64 {
    pub(crate) fn new() -> Xxh64 {
        let [p1, p2, ..] = PRIMES;
        let lanes = [p1.wrapping_add(p2), p2, 0, p1.wrapping_neg()];
        Xxh64 { lanes, waiting: [0; STRIPE], len: 0 }
    }

    /// As if the pieces were one run of bytes.
    pub(crate) fn of<const N: usize>(pieces: [&[u8]; N]) -> u64 {
        let mut hash = Xxh64::new();
        pieces.into_iter().for_each(|piece| hash.update(piece));
        hash.finish()
    }

    pub(crate) fn update(&mut self, mut bytes: &[u8]) {
        let filled = self.n_waiting();
        self.len += bytes.len() as u64;
        if filled > 0 {
            let (head, rest) = bytes.split_at(bytes.len().min(STRIPE - filled));
            self.waiting[filled..filled + head.len()].copy_from_slice(head);
            bytes = rest;
            if filled + head.len() < STRIPE {
                return;
            }
            let stripe = self.waiting;
            self.stripe(&stripe);
        }
        let (stripes, tail) = bytes.as_chunks::<STRIPE>();
        stripes.iter().for_each(|stripe| self.stripe(stripe));
        self.waiting[..tail.len()].copy_from_slice(tail);
    }

    #[inline]
    fn stripe(&mut self, stripe: &[u8; STRIPE]) {
        for (lane, word) in self.lanes.iter_mut().zip(stripe.as_chunks::<8>().0) {
            *lane = round(*lane, u64::from_le_bytes(*word));
        }
    }

    pub(crate) fn finish(self) -> u64 {
        let [p1, p2, p3, p4, p5] = PRIMES;
        let mut h = if self.len < STRIPE as u64 {
            p5
        } else {
            let [a, b, c, d] = self.lanes;
            let sum = a.rotate_left(1).wrapping_add(b.rotate_left(7));
            let sum = sum.wrapping_add(c.rotate_left(12)).wrapping_add(d.rotate_left(18));
            self.lanes.iter().fold(sum, |h, &lane| (h ^ round(0, lane)).wrapping_mul(p1).wrapping_add(p4))
        };
        h = h.wrapping_add(self.len);

        let (words, rest) = self.waiting[..self.n_waiting()].as_chunks::<8>();
        for word in words {
            h = (h ^ round(0, u64::from_le_bytes(*word))).rotate_left(27).wrapping_mul(p1).wrapping_add(p4);
        }
        let (half, rest) = rest.as_chunks::<4>();
        for word in half {
            let word = u64::from(u32::from_le_bytes(*word));
            h = (h ^ word.wrapping_mul(p1)).rotate_left(23).wrapping_mul(p2).wrapping_add(p3);
        }
        for &byte in rest {
            h = (h ^ u64::from(byte).wrapping_mul(p5)).rotate_left(11).wrapping_mul(p1);
        }

        h = (h ^ (h >> 33)).wrapping_mul(p2);
        h = (h ^ (h >> 29)).wrapping_mul(p3);
        h ^ (h >> 32)
    }

    fn n_waiting(&self) -> usize {
        (self.len % STRIPE as u64) as usize
    }
}

#[inline]
fn round(lane: u64, word: u64) -> u64 {
    lane.wrapping_add(word.wrapping_mul(PRIMES[1])).rotate_left(31).wrapping_mul(PRIMES[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with the `xxhash` package for Python.
    #[test]
    fn values_are_those_of_the_reference_implementation() {
        let counting: Vec<u8> = (0..1000).map(|i| (i % 251) as u8).collect();
        let cases: [(&[u8], u64); 7] = [
            (b"", 0xef46_db37_51d8_e999),
            (b"a", 0xd24e_c4f1_a98c_6e5b),
            (b"abc", 0x44bc_2cf5_ad77_0999),
            (b"Nobody inspects the spammish repetition", 0xfbce_a83c_8a37_8bf1),
            (&counting[..32], 0xcbf5_9c51_16ff_32b4),
            (&counting[..101], 0xe990_3849_5f85_381e),
            (&counting, 0xf306_f04a_a88b_54d3),
        ];
        for (bytes, expected) in cases {
            assert_eq!(Xxh64::of([bytes]), expected, "{} bytes", bytes.len());
        }
    }

    #[test]
    fn where_the_bytes_are_cut_does_not_matter() {
        let bytes: Vec<u8> = (0..150u8).map(|i| i.wrapping_mul(7)).collect();
        let whole = Xxh64::of([&bytes]);
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let cut = Xxh64::of([&bytes[..first], &bytes[first..second], &bytes[second..]]);
                assert_eq!(cut, whole, "cut at {first} and {second}");
            }
        }
    }
}
