//! Reading files: the data sets of this repository, and everything that is not quite a text file.

use std::fs;
use std::path::{Path, PathBuf};

use weft_model::Error;
use weft_model::text::*;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../data").join(name)
}

/// Runs `check` with a path to a file of these bytes, and removes it.
fn with_file(name: &str, bytes: &[u8], check: impl FnOnce(&Path)) {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, bytes).unwrap();
    check(&path);
    fs::remove_file(&path).unwrap();
}

#[test]
fn the_data_sets_are_read_as_what_they_are() {
    for (name, format, n_documents, vocab_size) in [
        ("names.txt", Format::Lines, 32_000, 27),
        ("names_intl.txt", Format::Lines, 5_057, 1_129),
        ("shakespeare.txt", Format::Text, 1, 66),
    ] {
        let corpus = Corpus::read(data(name), None, false).unwrap();
        assert_eq!(corpus.format(), format, "{name}: {}", corpus.guess().unwrap());
        assert_eq!(corpus.documents().len(), n_documents, "{name}");
        assert!(corpus.notes().is_empty(), "{name}: {:?}", corpus.notes());
        let data = Dataset::new(&corpus, 1, SplitFractions::default()).unwrap();
        assert_eq!(data.vocab().len(), vocab_size, "{name}");
        let targets = data.train().n_targets() + data.val().n_targets() + data.test().n_targets();
        let chars: usize = corpus.documents().map(|d| d.chars().count()).sum();
        let expected = if format == Format::Lines { chars + n_documents } else { chars - 3 };
        assert_eq!(targets, expected, "{name}");
    }
}

#[test]
fn the_built_in_data_is_the_file() {
    let file = Corpus::read(data("names.txt"), None, false).unwrap();
    assert_eq!(Corpus::embedded().fingerprint(), file.fingerprint());
    assert!(Corpus::embedded().documents().eq(file.documents()));
}

#[test]
fn what_is_no_file_is_refused_before_it_is_read() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let error = Corpus::read(directory, None, false).unwrap_err();
    assert!(matches!(error, Error::NotAFile { kind: "directory", .. }), "{error:?}");
    let error = Corpus::read(directory.join("none"), None, false).unwrap_err();
    assert!(matches!(error, Error::Read { .. }), "{error:?}");
    #[cfg(unix)]
    {
        let error = Corpus::read("/dev/zero", None, false).unwrap_err();
        assert!(matches!(error, Error::NotAFile { kind: "device", .. }), "{error:?}");
        let fifo = directory.join("fifo");
        let _ = fs::remove_file(&fifo);
        let made = std::process::Command::new("mkfifo").arg(&fifo).status();
        assert!(made.is_ok_and(|status| status.success()), "mkfifo failed");
        let error = Corpus::read(&fifo, None, false).unwrap_err();
        assert!(matches!(error, Error::NotAFile { kind: "pipe", .. }), "{error:?}");
        fs::remove_file(&fifo).unwrap();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_too_large_is_refused_before_it_is_read() {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sparse");
    fs::File::create(&path).unwrap().set_len(MAX_BYTES + 1).unwrap();
    let error = Corpus::read(&path, None, false).unwrap_err();
    fs::remove_file(&path).unwrap();
    assert!(matches!(error, Error::TooLarge { limit: MAX_BYTES, .. }), "{error:?}");
}

#[test]
fn bytes_that_are_no_text_are_refused_and_told() {
    let cases: [(&[u8], &str); 5] = [
        (b"", "it is empty"),
        (b"\n \n", "only white space"),
        (b"ab\0c\n", "NUL byte at offset 2"),
        (b"ab\ncd\xe9\n", "0xe9 at offset 5 (line 2)"),
        (b"\xff\xfea\0n\0", "UTF-16 (little-endian)"),
    ];
    for (i, (bytes, expected)) in cases.into_iter().enumerate() {
        with_file(&format!("bad{i}"), bytes, |path| {
            let message = Corpus::read(path, None, false).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
            assert!(message.lines().count() <= 3, "{message}");
        });
    }
    with_file("lossy", b"ab\ncd\xe9\n", |path| {
        let corpus = Corpus::read(path, None, true).unwrap();
        assert!(corpus.documents().eq(["ab", "cd\u{fffd}"]));
        assert_eq!(corpus.notes(), [Note::Replaced { count: 1, first_offset: 5 }]);
    });
}

#[test]
fn odd_but_valid_text_goes_all_the_way_to_batches() {
    let long = "x".repeat(200_000);
    let equal = "same\n".repeat(1_000_000);
    let cases = [
        ("one byte", "a"),
        ("one line without end", "anna"),
        ("byte order mark and CRLF", "\u{feff}anna\r\nbert\r\n"),
        ("one line of 200,000 characters", &long),
        ("a million equal lines", &equal),
        ("emoji sequences", "👩‍👩‍👧‍👦\n🏳️‍🌈\n👍🏽\n"),
        ("right to left", "שלום\nمرحبا\n\u{202e}abc\n"),
        ("combining marks", "e\u{301}\nn\u{303}o\n\u{301}\n"),
    ];
    for (what, text) in cases {
        for format in [None, Some(Format::Lines), Some(Format::Text)] {
            if (what, format) == ("one byte", Some(Format::Text)) {
                continue; // nothing to predict: an error, tested beside `Dataset`
            }
            let corpus = Corpus::from_str(what, text, format).unwrap();
            let data = Dataset::new(&corpus, 1, SplitFractions::default()).unwrap();
            let shape = BatchShape { batch_size: 3, block_size: 8, trim: Trim::Off };
            for step in 0..3 {
                let batch = TrainBatches::new(data.train(), 1, shape, 1).batch(step, 0);
                assert!(batch.n_targets > 0, "{what}, {format:?}: a batch without targets");
                let vocab_size = data.vocab().len() as u32;
                assert!(batch.inputs.iter().all(|&id| id < vocab_size), "{what}, {format:?}");
                assert!(
                    batch.targets.iter().all(|&id| id < vocab_size || id == IGNORE),
                    "{what}, {format:?}"
                );
            }
            assert!(
                !EvalBatches::new(data.val(), shape).is_empty(),
                "{what}, {format:?}: nothing to validate on"
            );
        }
    }
}
