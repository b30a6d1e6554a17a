//! The generator against its published vectors, and the streams against each other.

use rand::{Rng, RngExt};
use rand_distr::{Distribution, StandardNormal};
use weft_tensor::random::{Key, Purpose, Random, philox, philox_lanes};

/// `kat_vectors` of the Random123 distribution (Salmon et al. 2011), philox4x32 with 10 rounds: counter, key, output.
const KNOWN: [([u32; 4], [u32; 2], [u32; 4]); 3] = [
    ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
    ([!0; 4], [!0; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
    (
        [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
        [0xa409_3822, 0x299f_31d0],
        [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
    ),
];

#[test]
fn philox_gives_the_published_vectors() {
    for (counter, key, expected) in KNOWN {
        assert_eq!(philox(counter, key), expected, "counter {counter:x?}, key {key:x?}");
        let lanes = philox_lanes(counter.map(|word| [word; 16]), key);
        assert_eq!(lanes, expected.map(|word| [word; 16]), "sixteen lanes of counter {counter:x?}");
    }
}

#[test]
fn the_generator_walks_the_words_of_its_key() {
    let key = Key::new(0x0123_4567_89ab_cdef, Purpose::Test, (1 << 55) + 7, 3);
    let mut random = Random::from(key);
    for i in 0..11 {
        assert_eq!(random.next_u32(), key.u32_at(i), "word {i}");
    }
    let (low, high) = (u64::from(key.u32_at(11)), u64::from(key.u32_at(12)));
    assert_eq!(random.next_u64(), high << 32 | low);
    let mut bytes = [0; 6];
    random.fill_bytes(&mut bytes);
    assert_eq!(bytes[..4], key.u32_at(13).to_le_bytes());
    assert_eq!(bytes[4..], key.u32_at(14).to_le_bytes()[..2]);
}

#[test]
fn every_part_of_a_key_changes_the_stream() {
    let keys = [
        Key::new(1, Purpose::Test, 2, 3),
        Key::new(2, Purpose::Test, 2, 3),
        Key::new(1 | 1 << 32, Purpose::Test, 2, 3),
        Key::new(1, Purpose::Init, 2, 3),
        Key::new(1, Purpose::Test, 3, 3),
        Key::new(1, Purpose::Test, 2 | 1 << 32, 3),
        Key::new(1, Purpose::Test, 2, 4),
    ];
    for (i, a) in keys.iter().enumerate() {
        for b in &keys[..i] {
            assert_ne!(a.block(0), b.block(0), "{a:?} and {b:?} share their first words");
        }
    }
}

#[test]
fn uniform_numbers_stay_below_one_and_fill_the_interval() {
    let key = Key::new(5, Purpose::Test, 0, 0);
    let mut bins = [0; 10];
    for i in 0..20_000 {
        let (x, y) = (key.f32_at(i), key.f64_at(i));
        assert!((0.0..1.0).contains(&x) && (0.0..1.0).contains(&y), "number {i}: {x}, {y}");
        bins[(x * 10.0) as usize] += 1;
    }
    // Six standard deviations of a count with mean 2000.
    assert!(bins.iter().all(|n| (1744..2256).contains(n)), "{bins:?}");
}

#[test]
fn rand_and_rand_distr_take_the_generator() {
    let mut random = Random::new(9, Purpose::Test, 0, 0);
    let picked: usize = random.random_range(0..10);
    assert!(picked < 10);
    let numbers: Vec<f64> = (0..10_000).map(|_| StandardNormal.sample(&mut random)).collect();
    let mean = numbers.iter().sum::<f64>() / 1e4;
    let variance = numbers.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 1e4;
    // Five standard deviations: 0.01 of the mean, 0.0141 of the variance.
    assert!(mean.abs() < 0.05 && (variance - 1.0).abs() < 0.071, "mean {mean}, variance {variance}");
}

#[test]
#[should_panic(expected = "does not fit 56 bits")]
fn a_step_too_large_is_refused() {
    Key::new(0, Purpose::Test, 1 << 56, 0);
}
