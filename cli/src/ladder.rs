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
    let beaten = name(beaten.order);
    match beaten.as_str() {
        "uniform" | "unigram" => {
            format!(
                "That is high: only the {beaten} is worse. Train longer, or with another --learning-rate."
            )
        }
        _ => format!(
            "It has passed the {beaten} and not the {}: normal for a short run or a small model; train longer to get below it.",
            name(best.order)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_follows_the_rungs() {
        let rungs: Vec<OrderLoss> = [3.3, 2.8, 2.4, 2.2]
            .into_iter()
            .enumerate()
            .map(|(order, loss)| OrderLoss { order, loss })
            .collect();
        assert!(verdict(&rungs, 2.0).contains("below the trigram"));
        assert!(verdict(&rungs, 2.3).contains("passed the bigram and not the trigram"));
        assert!(verdict(&rungs, 3.0).contains("only the uniform"));
        assert!(verdict(&rungs, 4.0).contains("worse than guessing"));
        assert!(verdict(&rungs, f64::NAN).contains("worse than guessing"));
        assert_eq!(table(&rungs, 2.0).lines().count(), 5);
    }
}
