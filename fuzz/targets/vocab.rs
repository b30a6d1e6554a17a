//! The vocabulary: texts and ids there and back, stored lists, and what is shown of a token.
//!
//! The first byte of an input chooses, the second says how much of the rest makes the vocabulary; what follows is encoded.
#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use weft_model::text::Vocab;

fuzz_target!(|input: &[u8]| {
    let &[choice, n, ref rest @ ..] = input else { return };
    let boundary = choice & 1 != 0;
    let (known, bytes) = rest.split_at(usize::from(n).min(rest.len()));
    let chars: BTreeSet<char> = String::from_utf8_lossy(known).chars().collect();
    let list: Vec<String> =
        boundary.then(String::new).into_iter().chain(chars.iter().map(char::to_string)).collect();
    let vocab = Vocab::try_from(list.clone()).expect("characters in order");
    // It looks at every code point: too slow for all but a few inputs, whichever they are.
    let hash = input.iter().fold(0u32, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    if hash >> 20 == 0 {
        assert_eq!(Vocab::new(chars.iter().copied(), boundary), vocab);
    }
    assert_eq!(Vec::from(vocab.clone()), list);
    assert_eq!(vocab.len(), list.len());

    let text = String::from_utf8_lossy(bytes);
    match vocab.encode(&text) {
        Ok(ids) => {
            assert!(text.chars().all(|c| chars.contains(&c)));
            assert_eq!(vocab.decode(&ids).expect("ids that were given"), text);
        }
        Err(error) => {
            assert!(text.chars().any(|c| !chars.contains(&c)), "{error}");
            assert!(error.to_string().chars().all(|c| !c.is_control()), "{error}");
        }
    }

    let ids: Vec<u32> = bytes.as_chunks().0.iter().map(|pair| u32::from(u16::from_le_bytes(*pair))).collect();
    let end = ids.iter().skip(1).position(|&id| boundary && id == 0).map_or(ids.len(), |at| at + 1);
    let is_known = ids[..end].iter().all(|&id| (id as usize) < vocab.len());
    match vocab.decode(&ids) {
        Ok(text) => {
            let begins = usize::from(boundary && ids.first() == Some(&0));
            assert!(is_known);
            assert_eq!(vocab.encode(&text).expect("its own characters"), ids[begins..end]);
        }
        Err(error) => assert!(!is_known, "{error}"),
    }
    for id in 0..vocab.len() as u32 + 2 {
        assert!(vocab.label(id).chars().all(|c| !c.is_control()));
        assert_eq!(vocab.char_of(id).and_then(|c| vocab.id_of(c)), vocab.char_of(id).map(|_| id));
    }

    if let Ok(stored) = serde_json::from_slice::<Vocab>(bytes) {
        let json = serde_json::to_string(&stored).expect("a list of strings");
        assert_eq!(serde_json::from_str::<Vocab>(&json).expect("what was written is read"), stored);
    }
});
