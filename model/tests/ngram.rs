//! The n-gram ladder against the definition, and against what it must be whatever the definition.

use std::collections::{BTreeMap, BTreeSet};

use weft_model::ngram::{Ladder, OrderLoss};
use weft_model::text::*;

const MAX_ORDER: usize = 5;

/// Sums of a few hundred terms in f64, each within a few units of the last place.
const TOLERANCE: f64 = 1e-12;

fn dataset(text: &str, format: Format) -> Dataset {
    let corpus = Corpus::from_str("t", text, Some(format)).unwrap();
    Dataset::new(&corpus, 1, SplitFractions::default()).unwrap()
}

/// Three hundred names, or the same as running text.
fn small(format: Format) -> Dataset {
    let names: Vec<String> = Corpus::embedded().documents().step_by(107).map(String::from).collect();
    dataset(&names.join("\n"), format)
}

fn ladder(data: &Dataset) -> Ladder {
    Ladder::fit(data.train(), data.vocab().len(), MAX_ORDER)
}

/// Interpolated Kneser–Ney as the paper has it, with n-grams as keys and every sum taken anew.
struct Definition {
    /// Occurrences of every n-gram.
    raw: BTreeMap<Vec<u32>, u32>,
    /// Different tokens before it, or occurrences if it begins with the boundary.
    continuation: BTreeMap<Vec<u32>, u32>,
    vocab_size: u32,
}

impl Definition {
    fn new(train: &Split, vocab: &Vocab) -> Definition {
        let mut raw = BTreeMap::new();
        for d in 0..train.n_documents() {
            let document = train.document(d);
            for end in 1..document.len() {
                for start in (end + 1).saturating_sub(MAX_ORDER)..=end {
                    *raw.entry(document[start..=end].to_vec()).or_insert(0) += 1;
                }
            }
        }
        let boundary = vocab.boundary();
        let mut continuation = BTreeMap::new();
        for (gram, &count) in &raw {
            if gram.len() > 1 {
                *continuation.entry(gram[1..].to_vec()).or_insert(0) += 1;
                if Some(gram[0]) == boundary {
                    *continuation.entry(gram.clone()).or_insert(0) += count;
                }
            }
        }
        Definition { raw, continuation, vocab_size: vocab.len() as u32 }
    }

    fn discounts(counts: &BTreeMap<Vec<u32>, u32>, len: usize) -> [f64; 3] {
        let of_len: Vec<u32> = counts.iter().filter(|(g, _)| g.len() == len).map(|(_, &c)| c).collect();
        let n: Vec<f64> = (1..=4).map(|i| of_len.iter().filter(|&&c| c == i).count() as f64).collect();
        let y = n[0] / (n[0] + 2.0 * n[1]);
        let d = [1.0 - 2.0 * y * n[1] / n[0], 2.0 - 3.0 * y * n[2] / n[1], 3.0 - 4.0 * y * n[3] / n[2]];
        let sound = (0..3).all(|i| d[i] > 0.0 && d[i] <= i as f64 + 1.0);
        if sound { d } else { [0.5; 3] }
    }

    /// p(token | context) with the counts of the top order, or those of the orders below.
    fn p(&self, top: bool, context: &[u32], token: u32) -> f64 {
        let shorter = match context {
            [] => 1.0 / f64::from(self.vocab_size),
            _ => self.p(false, &context[1..], token),
        };
        let counts = if top { &self.raw } else { &self.continuation };
        let d = Definition::discounts(counts, context.len() + 1);
        let discount = |c: u32| if c == 0 { 0.0 } else { d[c.min(3) as usize - 1] };
        let count = |t: u32| counts.get(&[context, &[t]].concat()).copied().unwrap_or(0);
        let total: u32 = (0..self.vocab_size).map(count).sum();
        if total == 0 {
            return shorter;
        }
        let freed: f64 = (0..self.vocab_size).map(|t| discount(count(t))).sum();
        (f64::from(count(token)) - discount(count(token)) + freed * shorter) / f64::from(total)
    }

    fn probability(&self, order: usize, context: &[u32], token: u32) -> f64 {
        if order == 0 {
            return 1.0 / f64::from(self.vocab_size);
        }
        // The longest context there is, unless it was never seen. Only a full one is the top order's.
        let used = context.len().min(order - 1);
        let seen = |len: usize| {
            let h = &context[context.len() - len..];
            self.raw.keys().any(|g| g.len() == len + 1 && g.starts_with(h))
        };
        let known = (0..=used).rev().find(|&len| seen(len)).unwrap();
        self.p(known == order - 1, &context[context.len() - known..], token)
    }
}

#[test]
fn it_is_the_definition() {
    for format in [Format::Lines, Format::Text] {
        let data = small(format);
        let (ladder, definition) = (ladder(&data), Definition::new(data.train(), data.vocab()));
        let document = data.test().document(0);
        for i in 1..document.len().min(12) {
            for order in 0..=MAX_ORDER {
                let expected = definition.probability(order, &document[..i], document[i]);
                let got = ladder.probability(order, &document[..i], document[i]);
                assert!((got - expected).abs() < TOLERANCE, "{format}, order {order}, {i}: {got} {expected}");
            }
        }
    }
}

#[test]
fn probabilities_sum_to_one_in_any_context() {
    for format in [Format::Lines, Format::Text] {
        let data = small(format);
        let ladder = ladder(&data);
        let vocab_size = data.vocab().len() as u32;
        let mut contexts: BTreeSet<Vec<u32>> = (0..vocab_size).map(|t| vec![t]).collect();
        contexts.insert(vec![]);
        for d in 0..data.test().n_documents() {
            let document = data.test().document(d);
            contexts.extend((1..document.len().min(200)).map(|i| document[i.saturating_sub(6)..i].to_vec()));
        }
        // Nothing that was seen together.
        contexts.extend((0..vocab_size).map(|t| vec![t, t, t, t, t]));
        for context in &contexts {
            for order in 0..=MAX_ORDER {
                let p: Vec<f64> = (0..vocab_size).map(|t| ladder.probability(order, context, t)).collect();
                let sum: f64 = p.iter().sum();
                assert!((sum - 1.0).abs() < TOLERANCE, "{format}, order {order}, {context:?}: {sum}");
                assert!(
                    p.iter().all(|&p| p > 0.0),
                    "{format}, order {order}, {context:?}: a probability of 0"
                );
            }
        }
    }
}

#[test]
fn the_loss_is_the_mean_over_all_targets() {
    let data = small(Format::Lines);
    let ladder = ladder(&data);
    for OrderLoss { order, loss } in ladder.loss(data.val()) {
        let (mut sum, mut n) = (0.0, 0);
        for batch in
            EvalBatches::new(data.val(), BatchShape { batch_size: 4, block_size: 64, trim: Trim::Off }).iter()
        {
            for row in 0..batch.batch_size {
                let at = row * batch.seq_len..(row + 1) * batch.seq_len;
                let (inputs, targets) = (&batch.inputs[at.clone()], &batch.targets[at]);
                for t in (0..batch.seq_len).filter(|&t| targets[t] != IGNORE) {
                    sum -= ladder.probability(order, &inputs[..=t], targets[t]).ln();
                    n += 1;
                }
            }
        }
        assert!(
            (loss - sum / f64::from(n)).abs() < 1e3 * TOLERANCE,
            "order {order}: {loss} {}",
            sum / f64::from(n)
        );
    }
}

#[test]
fn names_give_the_losses_of_another_implementation() {
    // Modified Kneser–Ney written once more, in Python over dictionaries of strings, on the same split (seed 1).
    const EXPECTED: [f64; 6] = [3.2958, 2.8233, 2.4193, 2.1807, 2.0262, 1.9603];
    let data = Dataset::new(&Corpus::embedded(), 1, SplitFractions::default()).unwrap();
    let losses = ladder(&data).loss(data.test());
    for (OrderLoss { order, loss }, expected) in losses.into_iter().zip(EXPECTED) {
        // It printed four digits.
        assert!((loss - expected).abs() < 0.51e-4, "order {order}: {loss}, expected {expected}");
    }
}

#[test]
fn small_and_odd_data_give_finite_losses() {
    let equal = "same\n".repeat(1000);
    for text in ["a", "ab\n", "a\nb\nc\nd", &equal, "日本\n東京\n"] {
        let data = dataset(text, Format::Lines);
        for max_order in [0, 1, 5, 12] {
            let ladder = Ladder::fit(data.train(), data.vocab().len(), max_order);
            let losses = ladder.loss(data.test());
            assert_eq!(losses.len(), max_order + 1);
            assert!(losses.iter().all(|l| l.loss.is_finite() && l.loss >= 0.0), "{text:?}: {losses:?}");
            let uniform = (data.vocab().len() as f64).ln();
            assert!((losses[0].loss - uniform).abs() < TOLERANCE, "{text:?}: {losses:?}");
        }
    }
    let corpus = Corpus::from_str("t", "a\nb\n", Some(Format::Lines)).unwrap();
    let all = Dataset::new(&corpus, 1, SplitFractions { train: 1.0, val: 0.0, test: 0.0 }).unwrap();
    assert!(ladder(&all).loss(all.val()).is_empty(), "a loss over nothing");
}
