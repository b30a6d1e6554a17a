//! The ladder: uniform, unigram, bigram … n-gram character models, the losses that a trained model has to beat.
//!
//! Interpolated Kneser–Ney smoothing with three discounts per order ("modified", Chen & Goodman 1999, *An empirical
//! study of smoothing techniques for language modeling*, §3). With h a context of k tokens and h′ the same without
//! its oldest,
//!
//! ```text
//! p(w | h) = (max(c(h w) − D(c(h w)), 0) + (D₁ N₁ + D₂ N₂ + D₃ N₃₊) p(w | h′)) / Σᵥ c(h v)
//! ```
//!
//! where Nᵢ tokens were seen i times after h. At the model's own order c counts occurrences; at the orders below it
//! counts the different tokens that precede h w, because a token that is frequent only after one context says little
//! elsewhere. Below the unigram lies the uniform distribution. Discounts come from the counts of counts,
//! Y = n₁ / (n₁ + 2 n₂), Dᵢ = i − (i + 1) Y nᵢ₊₁ / nᵢ; where these are too few or too odd for that, D = ½.
//!
//! A context ends at its document's boundary token. Nothing can precede that, so an n-gram that begins with the
//! boundary counts its occurrences at every order.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use serde::{Deserialize, Serialize};

use crate::text::{Format, Split};

/// The most targets of a split that are counted or evaluated: its first two million. That is half a second's work on
/// ordinary text, and below a gigabyte of memory even where hardly an n-gram occurs twice.
pub const MAX_TARGETS: usize = 1 << 21;

/// The mean loss of one rung.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct OrderLoss {
    /// Tokens that the model looks at, the predicted one included: 0 is uniform, 1 unigram, 2 bigram …
    pub order: usize,
    /// Nats per token.
    pub loss: f64,
}

/// All orders from uniform to `max_order`, fitted to the same tokens.
///
/// ```
/// use weft_model::{ngram::Ladder, text::{Corpus, Dataset, SplitFractions}};
/// let data = Dataset::new(&Corpus::embedded(), 1, SplitFractions::default())?;
/// let ladder = Ladder::fit(data.train(), data.vocab().len(), 5);
/// let losses = ladder.loss(data.val());
/// assert!(losses[5].loss < losses[2].loss && losses[2].loss < losses[0].loss);
/// # Ok::<(), weft_model::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Ladder {
    vocab_size: usize,
    max_order: usize,
    /// (context, next token) → the n-gram they make, which in turn is a context of the token after it.
    table: Table,
    grams: Vec<Gram>,
    /// By length of the context.
    discounts: Vec<[Discounts; 2]>,
}

/// Looked up only, never walked: its order cannot leak into a result.
type Table = HashMap<u64, u32, BuildHasherDefault<Mix>>;

/// The n-gram of no tokens.
const EMPTY: u32 = 0;

/// A run of tokens that occurs in training, and what follows it.
#[derive(Clone, Copy, Debug, Default)]
struct Gram {
    /// Number of tokens.
    len: u8,
    counts: Counts,
    /// In the two ways of counting.
    followers: [Followers; 2],
}

/// How often something was seen, in the two ways of counting.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    raw: u32,
    /// Different tokens before it; for what begins with a boundary, the same as `raw`.
    continuation: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Followers {
    /// The sum of their counts.
    total: u32,
    /// How many have a count of 1, of 2, of 3 and more.
    types: [u32; 3],
}

/// Index into `Gram::followers` and `Ladder::discounts`.
#[derive(Clone, Copy)]
enum Kind {
    Raw = 0,
    Continuation = 1,
}

impl Counts {
    fn of(self, kind: Kind) -> u32 {
        match kind {
            Kind::Raw => self.raw,
            Kind::Continuation => self.continuation,
        }
    }
}

/// What is taken from a count of 1, of 2, of 3 and more.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Discounts([f64; 3]);

impl Discounts {
    /// From n₁ … n₄, the numbers of n-grams with these counts.
    fn from_counts_of_counts(n: [u64; 4]) -> Discounts {
        let n = n.map(|n| n as f64);
        let y = n[0] / (n[0] + 2.0 * n[1]);
        let d = [1, 2, 3].map(|i| i as f64 - (i as f64 + 1.0) * y * n[i] / n[i - 1]);
        // Above 0, so that a token never seen keeps some probability; false for NaN.
        let sound = d.iter().zip([1.0, 2.0, 3.0]).all(|(&d, most)| d > 0.0 && d <= most);
        Discounts(if sound { d } else { [0.5; 3] })
    }

    fn of(&self, count: u32) -> f64 {
        if count == 0 { 0.0 } else { self.0[count.min(3) as usize - 1] }
    }
}

impl Ladder {
    /// Counts the targets of `train`, at most [`MAX_TARGETS`], in their contexts. Takes time in proportion to their
    /// number and `max_order`.
    ///
    /// # Panics
    /// If `max_order` is above 100, or a token is not below `vocab_size`.
    #[track_caller]
    pub fn fit(train: &Split, vocab_size: usize, max_order: usize) -> Ladder {
        assert!(max_order <= 100, "ladder: max_order {max_order} is above 100");
        let in_range = train.tokens().iter().all(|&t| (t as usize) < vocab_size);
        assert!(in_range, "ladder: a token is not below vocab_size {vocab_size}");
        let mut ladder = Ladder {
            vocab_size,
            max_order,
            table: Table::default(),
            grams: vec![Gram::default()],
            discounts: vec![],
        };
        // The gram that each one continues.
        let mut prefixes = vec![EMPTY];
        for_each_document(train, |first, targets| {
            let mut context = vec![EMPTY];
            if max_order > 1 {
                context.push(ladder.intern(EMPTY, first, &mut prefixes));
            }
            for (i, &token) in targets.iter().enumerate() {
                let from_boundary = train.format() == Format::Lines && i + 1 < max_order;
                ladder.count(&mut context, token, from_boundary, &mut prefixes);
            }
        });
        ladder.summarise(&prefixes);
        ladder
    }

    /// The largest order.
    pub fn max_order(&self) -> usize {
        self.max_order
    }

    /// The mean loss of each order, 0 to `max_order`, over the targets of `split` (at most [`MAX_TARGETS`]): the same
    /// as the model's in [`EvalBatches`](crate::text::EvalBatches), but each with its entire document before it as
    /// context, wherever windows are cut. Empty if the split is.
    pub fn loss(&self, split: &Split) -> Vec<OrderLoss> {
        let mut sums = vec![0.0; self.max_order + 1];
        let mut p = vec![0.0; self.max_order + 1];
        for_each_document(split, |first, targets| {
            let mut context = vec![EMPTY];
            self.step(&mut context, first, &mut p);
            for &token in targets {
                self.step(&mut context, token, &mut p);
                sums.iter_mut().zip(&p).for_each(|(sum, &p)| *sum -= libm::log(p));
            }
        });
        let n = split.n_targets().min(MAX_TARGETS);
        if n == 0 {
            return vec![];
        }
        sums.iter().enumerate().map(|(order, sum)| OrderLoss { order, loss: sum / n as f64 }).collect()
    }

    /// The probability of `token` after `context`, according to the model of this order. `context` is what precedes
    /// in the document, from its boundary token on where there is one, oldest first; only the last `order − 1`
    /// tokens matter.
    ///
    /// # Panics
    /// If `order` is above `max_order`.
    #[track_caller]
    pub fn probability(&self, order: usize, context: &[u32], token: u32) -> f64 {
        assert!(order <= self.max_order, "ladder: order {order} is above {}", self.max_order);
        let mut p = vec![0.0; self.max_order + 1];
        let mut known = vec![EMPTY];
        for &before in &context[context.len().saturating_sub(self.max_order)..] {
            self.step(&mut known, before, &mut p);
        }
        self.step(&mut known, token, &mut p);
        p[order]
    }

    /// Counts `token` after the last 0, 1, 2 … tokens, whose grams are in `context`, and moves `context` on.
    fn count(&mut self, context: &mut Vec<u32>, token: u32, from_boundary: bool, prefixes: &mut Vec<u32>) {
        let mut shorter = EMPTY;
        let longest = context.len();
        for (len, slot) in context.iter_mut().take(self.max_order).enumerate() {
            let known = self.grams.len();
            let gram = self.intern(*slot, token, prefixes);
            if len > 0 && gram as usize == known {
                // The oldest token was not seen before the rest until now.
                self.grams[shorter as usize].counts.continuation += 1;
            }
            let counts = &mut self.grams[gram as usize].counts;
            counts.raw += 1;
            counts.continuation += u32::from(from_boundary && len + 1 == longest);
            // Shorter by its oldest token, so as long as what was here: the context of the next token.
            *slot = std::mem::replace(&mut shorter, gram);
        }
        if longest < self.max_order {
            context.push(shorter);
        }
    }

    fn intern(&mut self, prefix: u32, token: u32, prefixes: &mut Vec<u32>) -> u32 {
        let next = self.grams.len() as u32;
        let gram = *self.table.entry(key(prefix, token)).or_insert(next);
        if gram == next {
            let len = self.grams[prefix as usize].len + 1;
            self.grams.push(Gram { len, ..Gram::default() });
            prefixes.push(prefix);
        }
        gram
    }

    /// Sums up what follows each context, and derives the discounts of each length.
    fn summarise(&mut self, prefixes: &[u32]) {
        let mut counts_of_counts = vec![[[0u64; 4]; 2]; self.max_order];
        for (gram, &prefix) in prefixes.iter().enumerate().skip(1) {
            let counts = self.grams[gram].counts;
            let context = &mut self.grams[prefix as usize];
            for kind in [Kind::Raw, Kind::Continuation] {
                let count = counts.of(kind);
                if count == 0 {
                    continue;
                }
                let followers = &mut context.followers[kind as usize];
                followers.total += count;
                followers.types[count.min(3) as usize - 1] += 1;
                if count <= 4 {
                    counts_of_counts[context.len as usize][kind as usize][count as usize - 1] += 1;
                }
            }
        }
        self.discounts =
            counts_of_counts.into_iter().map(|kinds| kinds.map(Discounts::from_counts_of_counts)).collect();
    }

    /// Writes p(token | context) of all orders at once, since they share what they fall back on, and moves `context`
    /// on: it holds the grams of the last 0, 1, 2 … tokens, as long as they occur in training.
    fn step(&self, context: &mut Vec<u32>, token: u32, p: &mut [f64]) {
        // The smoothed distribution given one token less.
        let mut below = 1.0 / self.vocab_size as f64;
        p[0] = below;
        let mut shorter = Some(EMPTY);
        let mut known = 0;
        for order in 1..=self.max_order {
            let Some(slot) = context.get_mut(order - 1) else {
                // The document begins here, or no context this long was seen: no order above knows more.
                p[order..].fill(below);
                break;
            };
            let gram = self.table.get(&key(*slot, token)).copied();
            let counts = gram.map(|gram| self.grams[gram as usize].counts).unwrap_or_default();
            p[order] = self.interpolate(*slot, counts, Kind::Raw, below);
            below = self.interpolate(*slot, counts, Kind::Continuation, below);
            if let Some(shorter) = shorter {
                *slot = shorter;
                known = order;
            }
            shorter = gram;
        }
        // What is unseen stays so with more in front of it.
        context.truncate(known);
        if context.len() < self.max_order {
            context.extend(shorter);
        }
    }

    fn interpolate(&self, context: u32, counts: Counts, kind: Kind, below: f64) -> f64 {
        let Gram { len, followers, .. } = &self.grams[context as usize];
        let Followers { total, types } = followers[kind as usize];
        if total == 0 {
            return below;
        }
        let discounts = &self.discounts[*len as usize][kind as usize];
        let count = counts.of(kind);
        let kept = f64::from(count) - discounts.of(count);
        let freed: f64 = discounts.0.iter().zip(types).map(|(d, n)| d * f64::from(n)).sum();
        (kept + freed * below) / f64::from(total)
    }
}

/// Calls `f(first, targets)` for each document: its boundary token (or the text's first character), and what is to be
/// predicted after it. Ends after [`MAX_TARGETS`].
fn for_each_document(split: &Split, mut f: impl FnMut(u32, &[u32])) {
    let mut left = MAX_TARGETS;
    for d in 0..split.n_documents() {
        let (&first, targets) = split.document(d).split_first().expect("a document begins with a token");
        let targets = &targets[..targets.len().min(left)];
        left -= targets.len();
        f(first, targets);
        if left == 0 {
            return;
        }
    }
}

fn key(context: u32, token: u32) -> u64 {
    u64::from(context) << 32 | u64::from(token)
}

/// One multiplication and a fold: the keys are already distinct integers, and nobody chooses them to collide.
#[derive(Clone, Copy, Debug, Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are u64");
    }

    fn write_u64(&mut self, x: u64) {
        let product = u128::from(x ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93;
        self.0 = product as u64 ^ (product >> 64) as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discounts_are_those_of_chen_and_goodman() {
        // Y = 4 / (4 + 2·2) = ½: D₁ = 1 − 2·½·2/4, D₂ = 2 − 3·½·1/2, D₃ = 3 − 4·½·1/1.
        assert_eq!(Discounts::from_counts_of_counts([4, 2, 1, 1]), Discounts([0.5, 1.25, 1.0]));
    }

    #[test]
    fn counts_of_counts_that_give_no_discount_fall_back() {
        for n in [[0, 0, 0, 0], [5, 0, 0, 0], [0, 3, 1, 1], [1, 1, 1, 9], [1, 2, 9, 1]] {
            assert_eq!(Discounts::from_counts_of_counts(n), Discounts([0.5; 3]), "{n:?}");
        }
    }
}
