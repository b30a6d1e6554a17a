//! The reader of text: documents are what the file says and nothing else, and a data set has every character of them.
//!
//! The first byte of an input chooses format and strictness, the rest is the file.
#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use weft_model::text::{
    BatchShape, Corpus, Dataset, Format, IGNORE, SplitFractions, TrainBatches, Trim, Vocab,
};

fuzz_target!(|input: &[u8]| {
    let Some((&choice, bytes)) = input.split_first() else { return };
    let format = [None, Some(Format::Lines), Some(Format::Text)][usize::from(choice % 3)];
    let lossy = choice & 0x40 != 0;
    let read = |bytes: &[u8], lossy| Corpus::from_bytes("fuzz", bytes, format, lossy);
    let Ok(corpus) = read(bytes, lossy) else {
        // What is refused, says so in a message without control characters.
        let message = read(bytes, lossy).unwrap_err().to_string();
        assert!(message.chars().all(|c| c == '\n' || !c.is_control()), "{message:?}");
        return;
    };
    let documents: Vec<&str> = corpus.documents().collect();
    assert!(!documents.is_empty() && documents.iter().all(|document| !document.is_empty()));
    for document in &documents {
        assert!(!document.contains(['\0', '\r']));
        if corpus.format() == Format::Lines {
            assert!(!document.contains('\n') && document.trim_end() == *document);
        }
    }
    if !lossy {
        assert!(std::str::from_utf8(bytes).is_ok());
        let same: Vec<String> =
            read(bytes, true).expect("strict accepts less").documents().map(String::from).collect();
        assert_eq!(same, documents);
    }
    // Reading what was read changes nothing; a mark at its beginning would be taken for that of a file.
    let text = documents.join("\n");
    if !text.starts_with('\u{feff}') {
        let again = Corpus::from_bytes("again", text.as_bytes(), Some(corpus.format()), false);
        // Text with a NUL in every other place may look like UTF-16; without NULs none does.
        assert_eq!(again.expect("it is text").documents().collect::<Vec<_>>(), documents);
    }

    let data = Dataset::with_vocab(
        &corpus,
        vocab_of(&corpus),
        1,
        SplitFractions { train: 0.5, val: 0.25, test: 0.25 },
    );
    let Ok(data) = data else {
        assert!(
            corpus.format() == Format::Text && documents[0].chars().count() == 1,
            "a data set of so much is refused"
        );
        return;
    };
    let vocab = data.vocab();
    for document in &documents {
        let ids = vocab.encode(document).expect("every character has an id");
        assert_eq!(vocab.decode(&ids).expect("every id has a character"), *document);
    }
    if data.notes().is_empty() {
        let targets =
            [data.train(), data.val(), data.test()].map(|split| split.n_targets()).iter().sum::<usize>();
        let chars: usize = documents.iter().map(|document| document.chars().count()).sum();
        let expected = if corpus.format() == Format::Lines { chars + documents.len() } else { chars - 3 };
        assert_eq!(targets, expected, "characters were lost");
    }
    let shape = BatchShape { batch_size: 3, block_size: 5, trim: Trim::FEW_SHAPES };
    let batch = TrainBatches::new(data.train(), 1, shape, 2).batch(7, 1);
    assert!(batch.n_targets > 0 && batch.inputs.len() == batch.targets.len());
    assert!(batch.inputs.iter().all(|&id| (id as usize) < vocab.len()));
    assert!(batch.targets.iter().all(|&id| id == IGNORE || (id as usize) < vocab.len()));
});

/// As `Vocab::new`, which looks at every code point: too slow for every input.
fn vocab_of(corpus: &Corpus) -> Vocab {
    let chars: BTreeSet<char> = corpus.documents().flat_map(str::chars).collect();
    let boundary = (corpus.format() == Format::Lines).then(String::new);
    let list: Vec<String> = boundary.into_iter().chain(chars.iter().map(char::to_string)).collect();
    Vocab::try_from(list).expect("characters in order")
}
