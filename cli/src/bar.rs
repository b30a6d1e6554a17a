//! Progress of training: a bar on a terminal, plain lines elsewhere.

use std::io::{IsTerminal as _, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use weft_model::train::Step;

use crate::output::{colours_on_stderr, is_quiet, say};

/// How much of the shown loss is the last step's.
const SMOOTHING: f64 = 0.02;
/// Plain lines in a whole run.
const LINES: u64 = 20;

/// Shows where the training stands.
pub(crate) struct Bar {
    bar: Option<ProgressBar>,
    first: u64,
    max_iters: u64,
    max_time: f64,
    loss: f64,
    steps: u64,
    tokens: usize,
    /// Spent in steps: evaluations do not make the rate look lower.
    time: Duration,
    began: Instant,
    has_forecast: bool,
}

/// Seconds of training after which the time that it will take is told.
const MEASURED: f64 = 2.0;

impl Bar {
    /// A run of `max_iters` updates that stands at `step`; `max_time` in seconds, 0 for none.
    pub(crate) fn new(step: u64, max_iters: u64, max_time: f64) -> Bar {
        let visible = stderr().is_terminal() && !is_quiet();
        let bar = visible.then(|| {
            let bar = ProgressBar::with_draw_target(Some(max_iters), ProgressDrawTarget::stderr_with_hz(10));
            let cells = if colours_on_stderr() { "{bar:24.cyan/238}" } else { "{bar:24}" };
            let template = format!("{{spinner}} {cells} {{pos}}/{{len}}  {{msg}}");
            bar.set_style(
                ProgressStyle::with_template(&template)
                    .expect("a template that is always the same")
                    .progress_chars("━╸─"),
            );
            bar.set_position(step);
            bar
        });
        Bar {
            bar,
            first: step,
            max_iters,
            max_time,
            loss: 0.0,
            steps: 0,
            tokens: 0,
            time: Duration::ZERO,
            began: Instant::now(),
            has_forecast: false,
        }
    }

    /// After two seconds, once: how long the rest is going to take, if that is worth saying.
    pub(crate) fn forecast(&mut self, step: &Step) -> Option<String> {
        if self.has_forecast || self.elapsed() < MEASURED {
            return None;
        }
        self.has_forecast = true;
        let left = self.left(step.step);
        let rate = short(self.tokens_per_s());
        (left > MEASURED).then(|| format!("time  about {} to the end, at {rate} tokens/s", clock(left)))
    }

    /// Shows an update.
    pub(crate) fn step(&mut self, step: &Step) {
        self.steps += 1;
        if step.train_loss.is_finite() {
            // The mean at first, then a moving one.
            let share = SMOOTHING.max(1.0 / self.steps as f64);
            self.loss += share * (step.train_loss - self.loss);
        }
        self.tokens += step.tokens;
        self.time += step.time;
        let message = || {
            format!(
                "loss {:.3}  {} tok/s  {} left",
                self.loss,
                short(self.tokens_per_s()),
                clock(self.left(step.step))
            )
        };
        match &self.bar {
            Some(bar) => {
                bar.set_position(step.step);
                bar.set_message(message());
            }
            None if is_quiet() => {}
            None => {
                if step.step.is_multiple_of((self.max_iters / LINES).max(1)) {
                    say!("step {}/{}  {}", step.step, self.max_iters, message());
                }
            }
        }
    }

    /// Tokens in a second of training.
    pub(crate) fn tokens_per_s(&self) -> f64 {
        self.tokens as f64 / self.time.as_secs_f64().max(1e-9)
    }

    /// Seconds since the beginning.
    pub(crate) fn elapsed(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    fn left(&self, step: u64) -> f64 {
        let elapsed = self.elapsed();
        let left = elapsed / (step - self.first).max(1) as f64 * self.max_iters.saturating_sub(step) as f64;
        if self.max_time > 0.0 { left.min((self.max_time - elapsed).max(0.0)) } else { left }
    }

    /// Writes a line above the bar.
    pub(crate) fn line(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| say!("{line}")),
            None if is_quiet() => {}
            None => say!("{line}"),
        }
    }

    /// Writes a line that `--quiet` does not silence.
    pub(crate) fn warn(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| say!("{line}")),
            None => say!("{line}"),
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Seconds as `7:05` or `1:02:03`.
pub(crate) fn clock(seconds: f64) -> String {
    let s = seconds.round().min(1e9) as u64;
    match s / 3600 {
        0 => format!("{}:{:02}", s / 60, s % 60),
        h => format!("{h}:{:02}:{:02}", s / 60 % 60, s % 60),
    }
}

/// A rate as `312k` or `1.2M`.
pub(crate) fn short(x: f64) -> String {
    match x {
        x if x >= 999_500.0 => format!("{:.1}M", x / 1e6),
        x if x >= 1000.0 => format!("{:.0}k", x / 1e3),
        x => format!("{x:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_rates_are_short() {
        assert_eq!([clock(5.2), clock(425.0), clock(3723.0)], ["0:05", "7:05", "1:02:03"]);
        assert_eq!([short(12.0), short(312_400.0), short(1_234_567.0)], ["12", "312k", "1.2M"]);
    }
}
