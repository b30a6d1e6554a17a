//! Drawing a token from what the model expects.

use std::cmp::Ordering;

use weft_tensor::Real;

use crate::Error;

/// How tokens are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SampleConfig {
    /// Divides the logits: below 1 the likely tokens gain, above 1 the unlikely; 0 takes the likeliest.
    pub temperature: f64,
    /// Only the `top_k` likeliest tokens; 0 for all.
    pub top_k: usize,
    /// Only the likeliest tokens that together reach this probability (Holtzman et al. 2020, arXiv:1904.09751); 1 for all.
    pub top_p: f64,
    /// Only tokens at least this times as likely as the likeliest (Nguyen et al. 2024, arXiv:2407.01082); 0 for all.
    pub min_p: f64,
    /// The most tokens to add to the prompt.
    pub max_new_tokens: usize,
    /// What the random numbers follow from.
    pub seed: u64,
}

impl Default for SampleConfig {
    fn default() -> Self {
        SampleConfig { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, max_new_tokens: 500, seed: 1337 }
    }
}

/// A token and its weight: how likely it is in units of the likeliest.
type Weighted = (f64, u32);

impl SampleConfig {
    /// Refuses what no token can be drawn by, naming the setting.
    pub fn validate(&self) -> Result<(), Error> {
        let fail = |what: String| Err(Error::Config(what));
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return fail(format!("temperature is {}: it must be a number of at least 0", self.temperature));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return fail(format!("top_p is {}: it must be above 0 and at most 1", self.top_p));
        }
        if !(0.0..=1.0).contains(&self.min_p) {
            return fail(format!("min_p is {}: it must be between 0 and 1", self.min_p));
        }
        Ok(())
    }

    /// Draws a token; `uniform` in [0, 1) decides: the probabilities are added up, the largest first, until they reach it.
    /// Returns the token with the logarithm of its probability before any cut.
    ///
    /// Not a number anywhere among the logits makes every token as likely as that. `tokens` is work space.
    pub fn draw<T: Real>(&self, logits: &[T], uniform: f64, tokens: &mut Vec<(f64, u32)>) -> (u32, f64) {
        let largest = logits.iter().map(|x| x.to_f64()).fold(f64::NEG_INFINITY, f64::max);
        let total = weigh(logits, largest, 1.0, tokens);
        if total.is_nan() {
            return (0, f64::NAN);
        }
        let id = if self.temperature == 0.0 {
            // The first of the likeliest.
            logits.iter().position(|x| x.to_f64() == largest).map_or(0, |id| id as u32)
        } else {
            let mass = match self.temperature {
                1.0 => total,
                temperature => weigh(logits, largest, temperature, tokens),
            };
            let mass = self.cut(tokens, mass);
            let rank = reach(tokens, uniform * mass) - 1;
            tokens[rank].1
        };
        (id, logits[id as usize].to_f64() - largest - libm::log(total))
    }

    /// Leaves the tokens that may be drawn of those that together weigh `mass`, and returns what they weigh together.
    fn cut(&self, tokens: &mut Vec<Weighted>, mut mass: f64) -> f64 {
        if self.top_k > 0 && self.top_k < tokens.len() {
            tokens.select_nth_unstable_by(self.top_k, likelier_first);
            tokens.truncate(self.top_k);
            mass = sum(tokens);
        }
        if self.top_p < 1.0 {
            let nucleus = reach(tokens, self.top_p * mass);
            tokens.truncate(nucleus);
            mass = sum(tokens);
        }
        if self.min_p > 0.0 {
            tokens.retain(|(weight, _)| *weight >= self.min_p);
            mass = sum(tokens);
        }
        mass
    }
}

/// Fills `tokens` with those of a weight above zero, e^((logit − largest) / temperature), and returns their sum.
fn weigh<T: Real>(logits: &[T], largest: f64, temperature: f64, tokens: &mut Vec<Weighted>) -> f64 {
    tokens.clear();
    let mut sum = 0.0;
    for (x, id) in logits.iter().zip(0..) {
        let weight = libm::exp((x.to_f64() - largest) / temperature);
        sum += weight;
        if weight > 0.0 {
            tokens.push((weight, id));
        }
    }
    sum
}

fn sum(tokens: &[Weighted]) -> f64 {
    tokens.iter().map(|(weight, _)| weight).sum()
}

/// The likelier first, equals in the order of their ids.
fn likelier_first(a: &Weighted, b: &Weighted) -> Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

/// How many of the likeliest tokens it takes, at least one, for a weight of `wanted` together; they come first afterwards.
///
/// The range that holds the last of them is halved until it is short, so that a vocabulary of 50,000 is never sorted as a whole;
/// from a short range the likeliest are picked one by one, mostly a few.
fn reach(tokens: &mut [Weighted], mut wanted: f64) -> usize {
    const FEW: usize = 128;
    let (mut start, mut end) = (0, tokens.len());
    while end - start > FEW {
        let half = (end - start) / 2;
        let (likelier, ..) = tokens[start..end].select_nth_unstable_by(half, likelier_first);
        let weight = sum(likelier);
        if weight >= wanted {
            end = start + half;
        } else {
            wanted -= weight;
            start += half;
        }
    }
    for taken in start..end {
        let (mut likeliest, mut most) = (taken, tokens[taken].0);
        for other in taken + 1..end {
            let (weight, id) = tokens[other];
            // `likelier_first`, for weights above zero.
            if weight > most || weight == most && id < tokens[likeliest].1 {
                (likeliest, most) = (other, weight);
            }
        }
        tokens.swap(taken, likeliest);
        wanted -= most;
        if wanted <= 0.0 {
            return taken + 1;
        }
    }
    // Rounding may leave a rest.
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_leave_the_likeliest_tokens() {
        let logits = [0.0f64, 2.0, 1.0, -1.0];
        let mut tokens = Vec::new();
        let mut drawn = |config: SampleConfig| {
            let ids = (0..100).map(|i| config.draw(&logits, f64::from(i) / 100.0, &mut tokens).0);
            let mut ids: Vec<u32> = ids.collect();
            ids.sort_unstable();
            ids.dedup();
            ids
        };
        let all = SampleConfig::default();
        assert_eq!(drawn(all), [0, 1, 2, 3]);
        assert_eq!(drawn(SampleConfig { top_k: 2, ..all }), [1, 2]);
        assert_eq!(drawn(SampleConfig { top_k: 100, ..all }), [0, 1, 2, 3]);
        assert_eq!(drawn(SampleConfig { top_p: 0.7, ..all }), [1, 2]);
        assert_eq!(drawn(SampleConfig { min_p: 0.3, ..all }), [1, 2]);
        assert_eq!(drawn(SampleConfig { temperature: 0.0, ..all }), [1]);
        assert_eq!(drawn(SampleConfig { temperature: 0.01, ..all }), [1]);
    }

    /// [`SampleConfig::draw`] as its settings are defined: by sorting the whole vocabulary.
    fn draw_by_sorting(config: SampleConfig, logits: &[f64], uniform: f64) -> u32 {
        let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weight = |x: f64| libm::exp((x - largest) / config.temperature);
        let mut order: Vec<(f64, u32)> = logits.iter().zip(0..).map(|(x, id)| (weight(*x), id)).collect();
        order.sort_by(|a, b| b.0.total_cmp(&a.0));
        order.truncate(if config.top_k > 0 { config.top_k } else { order.len() });
        let mass: f64 = order.iter().map(|(weight, _)| weight).sum();
        let mut reached = 0.0;
        let nucleus = order.iter().position(|(weight, _)| {
            reached += weight;
            reached >= config.top_p * mass
        });
        order.truncate(nucleus.map_or(order.len(), |last| last + 1));
        order.retain(|(weight, _)| *weight >= config.min_p);
        let mut left = uniform * order.iter().map(|(weight, _)| weight).sum::<f64>();
        let drawn = order.iter().find(|(weight, _)| {
            left -= weight;
            left < 0.0
        });
        drawn.expect("the weights add up to their sum").1
    }

    #[test]
    fn what_is_drawn_is_what_sorting_would_draw() {
        let all = SampleConfig::default();
        let configs = [
            all,
            SampleConfig { temperature: 0.7, ..all },
            SampleConfig { top_k: 40, ..all },
            SampleConfig { top_p: 0.8, temperature: 1.3, ..all },
            SampleConfig { min_p: 0.05, ..all },
            SampleConfig { top_k: 100, top_p: 0.9, min_p: 0.01, ..all },
        ];
        let mut tokens = Vec::new();
        for n in [1, 2, 17, 65, 128, 129, 130, 257, 1000] {
            // Scattered, some of them equal, one impossible.
            let mut logits: Vec<f64> = (0..n).map(|i| f64::from((i * 7919 + 13) % 101) / 12.0).collect();
            logits[n as usize / 2] = if n > 1 { f64::NEG_INFINITY } else { 0.0 };
            for (config, i) in configs.iter().flat_map(|config| (0..50).map(move |i| (config, i))) {
                let uniform = (f64::from(i) + 0.37) / 50.0;
                let wanted = draw_by_sorting(*config, &logits, uniform);
                let (id, _) = config.draw(&logits, uniform, &mut tokens);
                assert_eq!(id, wanted, "{config:?}, {n} tokens, uniform {uniform}");
            }
        }
    }

    #[test]
    fn no_token_is_drawn_that_cannot_be() {
        let logits = [f64::NEG_INFINITY, 0.0, f64::NEG_INFINITY];
        for uniform in [0.0, 0.5, 1.0 - f64::EPSILON / 2.0] {
            assert_eq!(SampleConfig::default().draw(&logits, uniform, &mut Vec::new()), (1, 0.0));
        }
        let (_, logprob) = SampleConfig::default().draw(&[0.0, f64::NAN], 0.5, &mut Vec::new());
        assert!(logprob.is_nan(), "a logit that is no number gives {logprob}");
    }

    #[test]
    fn the_log_probability_is_that_of_the_model() {
        let config = SampleConfig { temperature: 0.0, top_k: 1, ..SampleConfig::default() };
        let (id, logprob) = config.draw(&[0.0f64, 0.0, 0.0, 0.0], 0.5, &mut Vec::new());
        assert_eq!(id, 0);
        assert!((logprob + 4.0f64.ln()).abs() < 1e-12, "{logprob}");
    }
}
