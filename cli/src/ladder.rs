//! The ladder as a table, and the sentence that says where a model stands on it.

use weft_model::ngram::{Ladder, OrderLoss};
use weft_model::text::{Dataset, Split};

/// The highest rung.
const MAX_ORDER: usize = 5;
/// Cells of the longest bar.
const BAR: f64 = 32.0;

/// The losses of the n-gram models, fitted to the training split of `data`, on `split`.
pub(crate) fn losses(data: &Dataset, split: &Split) -> Vec<OrderLoss> {
    Ladder::fit(data.train(), data.vocab().len(), MAX_ORDER).loss(split)
}

fn name(order: usize) -> String {
    match order {
        0 => "uniform".into(),
        1 => "unigram".into(),
        2 => "bigram".into(),
        3 => "trigram".into(),
        n => format!("{n}-gram"),
    }
}

/// A line for each rung and for the model, losses in nats per token.
pub(crate) fn table(rungs: &[OrderLoss], loss: f64) -> String {
    let longest = rungs.iter().map(|rung| rung.loss).fold(loss, f64::max);
    let line = |name: &str, loss: f64, mark: &str| {
        let cells = if longest > 0.0 { (loss / longest * BAR).round() as usize } else { 0 };
        format!("  {name:<10} {loss:>7.4}  {}{mark}\n", "█".repeat(cells.min(BAR as usize)))
    };
    let mut table: String = rungs.iter().map(|rung| line(&name(rung.order), rung.loss, "")).collect();
    table += &line("this model", loss, " ◀");
    table
}

/// Is the loss normal?
pub(crate) fn verdict(rungs: &[OrderLoss], loss: f64) -> String {
    let beaten = rungs.iter().rfind(|rung| loss < rung.loss);
    let best = rungs.iter().min_by(|a, b| a.loss.total_cmp(&b.loss));
    let (Some(best), Some(beaten)) = (best, beaten) else {
        return "That is worse than guessing evenly: something is wrong, or the training has hardly begun."
            .into();
    };
    if loss < best.loss {
        let gain = 100.0 * (1.0 - loss / best.loss);
        return format!(
            "That is normal for a trained transformer: {gain:.1} % below the {}, the best that counting finds here.",
            name(best.order)
        );
    }
    let above = name(beaten.order);
    if beaten.order < 2 {
        return format!(
            "That is high: only the {above} is worse. Train longer, or with another --learning-rate."
        );
    }
    // The best rung is not beaten, so there is one after this.
    let below = rungs.iter().find(|rung| rung.loss <= loss).map_or_else(String::new, |rung| name(rung.order));
    format!(
        "That is between the {above} and the {below}: normal for a short run or a small model; training longer lowers it."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_follows_the_rungs() {
        let rungs: Vec<OrderLoss> = [3.3, 2.8, 2.4, 2.2, 2.1]
            .into_iter()
            .enumerate()
            .map(|(order, loss)| OrderLoss { order, loss })
            .collect();
        assert!(verdict(&rungs, 2.0).contains("below the 4-gram"));
        assert!(verdict(&rungs, 2.15).contains("between the trigram and the 4-gram"));
        assert!(verdict(&rungs, 3.0).contains("only the uniform"));
        assert!(verdict(&rungs, 4.0).contains("worse than guessing"));
        assert!(verdict(&rungs, f64::NAN).contains("worse than guessing"));
        assert_eq!(table(&rungs, 2.0).lines().count(), 6);
    }
}
