//! Batches: pure functions of (seed, step) that hand out every target.

use std::sync::Arc;

use weft_model::text::*;

fn dataset(text: &str, format: Format) -> Dataset {
    let corpus = Corpus::from_str("t", text, Some(format)).unwrap();
    Dataset::new(&corpus, 5, SplitFractions { train: 1.0, val: 0.0, test: 0.0 }).unwrap()
}

fn words(n: usize) -> String {
    (0..n).map(|i| format!("{}{}\n", "x".repeat(i % 7), i)).collect()
}

fn shape(batch_size: usize, block_size: usize) -> BatchShape {
    BatchShape { batch_size, block_size, trim: Trim::Off }
}

fn trimmed(batch_size: usize, block_size: usize, multiple: usize) -> BatchShape {
    BatchShape { trim: Trim::ToMultiple(multiple), ..shape(batch_size, block_size) }
}

/// The (input, target) pairs of a batch, row by row, without padding.
fn rows(batch: &Batch) -> Vec<Vec<(u32, u32)>> {
    let pairs = |row: usize| {
        let at = row * batch.seq_len..(row + 1) * batch.seq_len;
        let pairs = batch.inputs[at.clone()].iter().copied().zip(batch.targets[at].iter().copied());
        pairs.filter(|&(_, target)| target != IGNORE).collect()
    };
    (0..batch.batch_size).map(pairs).collect()
}

/// The rows that a split has when cut every `block_size` targets, sorted.
fn expected_rows(split: &Split, block_size: usize) -> Vec<Vec<(u32, u32)>> {
    let mut rows = vec![];
    for d in 0..split.n_documents() {
        let document = split.document(d);
        let pairs: Vec<_> = document.windows(2).map(|pair| (pair[0], pair[1])).collect();
        rows.extend(pairs.chunks(block_size).map(<[_]>::to_vec));
    }
    rows.sort_unstable();
    rows
}

#[test]
fn a_row_is_a_document_between_boundaries() {
    let data = dataset("abc\n", Format::Lines);
    let batch = TrainBatches::new(data.train(), 1, shape(1, 6), 1).batch(0, 0);
    assert_eq!(*batch.inputs, [0, 1, 2, 3, 0, 0]);
    assert_eq!(*batch.targets, [1, 2, 3, 0, IGNORE, IGNORE]);
    assert_eq!((batch.batch_size, batch.seq_len, batch.n_targets), (1, 6, 4));

    let cut = TrainBatches::new(data.train(), 1, shape(2, 3), 1).batch(0, 0);
    let mut rows = rows(&cut);
    rows.sort_unstable();
    assert_eq!(
        rows,
        [vec![(0, 1), (1, 2), (2, 3)], vec![(3, 0)]],
        "a long document goes on in its next window"
    );
}

#[test]
fn an_epoch_has_every_window_once() {
    let data = dataset(&words(100), Format::Lines);
    for block_size in [3, 12] {
        let expected = expected_rows(data.train(), block_size);
        let n = expected.len();
        // One row per batch and two batches per step, so that epochs end within steps.
        let batches = TrainBatches::new(data.train(), 9, shape(1, block_size), 2);
        let row = |i: usize| rows(&batches.batch((i / 2) as u64, i % 2)).remove(0);
        let mut orders = vec![];
        for epoch in 0..3 {
            let order: Vec<_> = (epoch * n..(epoch + 1) * n).map(row).collect();
            let mut seen = order.clone();
            seen.sort_unstable();
            assert_eq!(seen, expected, "block_size {block_size}, epoch {epoch}");
            orders.push(order);
        }
        assert!(orders[0] != orders[1] && orders[1] != orders[2], "the order does not change");
        assert!((batches.epochs(n as u64) - 2.0).abs() < 1e-12, "{}", batches.epochs(n as u64));
    }
}

#[test]
fn how_a_step_is_divided_does_not_change_its_rows() {
    let data = dataset(&words(50), Format::Lines);
    let text = dataset(&words(50), Format::Text);
    for split in [data.train(), text.train()] {
        let whole = TrainBatches::new(split, 2, shape(12, 8), 1);
        let parts = TrainBatches::new(split, 2, shape(4, 8), 3);
        for step in [0, 1, 17] {
            let parts: Vec<_> = (0..3).flat_map(|micro| rows(&parts.batch(step, micro))).collect();
            assert_eq!(rows(&whole.batch(step, 0)), parts, "step {step}");
        }
    }
}

#[test]
fn a_batch_depends_on_seed_and_step_only() {
    for format in [Format::Lines, Format::Text] {
        let data = dataset(&words(200), format);
        let batches = |seed| TrainBatches::new(data.train(), seed, trimmed(8, 8, 1), 1);
        let mut reused = Batch::default();
        for step in [5, 0, 1_000_000, u64::MAX, 5] {
            batches(1).batch_into(step, 0, &mut reused);
            assert_eq!(reused, batches(1).batch(step, 0), "{format}, step {step}: something was carried");
        }
        assert_ne!(batches(1).batch(5, 0), batches(2).batch(5, 0), "{format}: the seed does nothing");
        assert_ne!(batches(1).batch(5, 0), batches(1).batch(6, 0), "{format}: the step does nothing");
    }
}

#[test]
fn windows_of_text_start_everywhere() {
    let data = dataset("abcdefghij", Format::Text);
    let batches = TrainBatches::new(data.train(), 1, shape(16, 4), 1);
    let mut starts = [0u32; 6];
    for step in 0..100 {
        for row in rows(&batches.batch(step, 0)) {
            assert_eq!(row.len(), 4);
            assert!(row.iter().all(|&(input, target)| target == input + 1), "{row:?}");
            starts[row[0].0 as usize] += 1;
        }
    }
    // 1600 draws over 6 starts: 267 ± 15; five standard deviations.
    assert!(starts.iter().all(|&n| (190..345).contains(&n)), "{starts:?}");
    assert!(batches.notes().is_empty());
}

#[test]
fn short_text_shortens_the_rows_and_says_so() {
    let data = dataset("abcde", Format::Text);
    let batches = TrainBatches::new(data.train(), 1, shape(2, 64), 1);
    assert_eq!(batches.notes(), [Note::ContextShortened { block_size: 64, seq_len: 4 }]);
    assert_eq!(*batches.batch(3, 0).inputs, [0, 1, 2, 3, 0, 1, 2, 3]);
}

#[test]
fn trimming_leaves_out_padding_only() {
    let data = dataset(&words(100), Format::Lines);
    let full = TrainBatches::new(data.train(), 1, shape(4, 32), 1);
    for multiple in [1, 4, 64] {
        let batches = TrainBatches::new(data.train(), 1, trimmed(4, 32, multiple), 1);
        for step in 0..20 {
            let (full, trimmed) = (full.batch(step, 0), batches.batch(step, 0));
            assert_eq!(rows(&full), rows(&trimmed), "step {step}, multiple {multiple}");
            let longest = rows(&full).iter().map(Vec::len).max().unwrap();
            assert_eq!(trimmed.seq_len, longest.next_multiple_of(multiple).min(32), "step {step}");
        }
    }
}

#[test]
fn evaluation_has_every_target_once() {
    for format in [Format::Lines, Format::Text] {
        let data = dataset(&words(300), format);
        for (batch_size, block_size) in [(1, 1), (3, 4), (8, 32), (1000, 7)] {
            for shape in [shape(batch_size, block_size), trimmed(batch_size, block_size, 2)] {
                let batches = EvalBatches::new(data.train(), shape);
                let mut seen: Vec<_> = batches.iter().flat_map(|batch| rows(&batch)).collect();
                seen.sort_unstable();
                assert_eq!(seen, expected_rows(data.train(), block_size), "{format}, {shape:?}");
                let counted: usize = batches.iter().map(|batch| batch.n_targets).sum();
                assert_eq!(
                    (counted, batches.n_targets()),
                    (data.train().n_targets(), data.train().n_targets())
                );
                assert_eq!(batches.iter().count(), batches.len());
            }
        }
        assert!(EvalBatches::new(data.val(), shape(4, 8)).is_empty());
        let sample = EvalBatches::sample(data.train(), shape(4, 2), 10);
        assert_eq!(sample.iter().map(|batch| batch.batch_size).collect::<Vec<_>>(), [4, 4, 2]);
    }
}

#[test]
fn buffers_are_reused_once_each_size_was_seen() {
    let data = dataset(&words(300), Format::Lines);
    let batches = TrainBatches::new(data.train(), 1, trimmed(2, 32, 1), 1);
    let mut batch = Batch::default();
    let mut buffers = std::collections::BTreeMap::new();
    for step in 0..200 {
        batches.batch_into(step, 0, &mut batch);
        let address = (batch.inputs.as_ptr(), batch.targets.as_ptr());
        let first = *buffers.entry(batch.inputs.len()).or_insert(address);
        assert_eq!(address, first, "step {step}: a buffer of a known size is new");
    }
    assert!(buffers.len() > 3, "the lengths do not vary");
}

#[test]
fn ids_that_someone_still_holds_are_not_overwritten() {
    let data = dataset(&words(300), Format::Lines);
    let batches = TrainBatches::new(data.train(), 1, shape(4, 16), 1);
    let mut batch = batches.batch(0, 0);
    let held = Arc::clone(&batch.inputs);
    batches.batch_into(1, 0, &mut batch);
    assert_eq!(held, batches.batch(0, 0).inputs);
    assert_eq!(batch, batches.batch(1, 0));
}

#[test]
#[should_panic(expected = "batch_size is 0")]
fn a_batch_of_nothing_is_misuse() {
    TrainBatches::new(dataset("ab\n", Format::Lines).train(), 1, shape(0, 4), 1);
}
