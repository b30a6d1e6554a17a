//! Where the time of training went, as a table.

use weft_model::profile::{Line, Profile};

use crate::bar::clock;
use crate::figures::duration;
use crate::output::grouped;

/// Shares below this are not worth a line.
const LEAST: f64 = 0.0005;

/// A line for each expense, the largest first.
pub(crate) fn table(profile: &Profile) -> String {
    let Profile { steps, threads, seconds, evaluation, lines } = profile;
    let steps = *steps as f64;
    let plural = if *threads == 1 { "" } else { "s" };
    let mut table = format!(
        "where the time of {} updates went, {} each on {threads} thread{plural}; {} more in evaluations\n",
        grouped(steps as usize),
        duration(seconds / steps),
        clock(*evaluation),
    );
    table += &format!(
        "  {:<28} {:>11} {:>10} {:>7} {:>16}\n",
        "", "calls each", "time each", "share", "of its limit"
    );
    for Line { name, backward, calls, seconds, share, of_roof } in lines {
        if share.abs() < LEAST {
            continue;
        }
        let name = match backward {
            Some(true) => format!("{name} backward"),
            _ => name.clone(),
        };
        let calls = if backward.is_some() { format!("{:.0}", *calls as f64 / steps) } else { String::new() };
        let limit = of_roof
            .map_or_else(String::new, |(roof, part)| format!("{:.0} % of {:<4}", 100.0 * part, roof.name()));
        let line = format!(
            "  {name:<28} {calls:>11} {:>10} {:>5.1} % {limit:>16}",
            duration(seconds / steps),
            100.0 * share
        );
        table += line.trim_end();
        table.push('\n');
    }
    table
}

#[cfg(test)]
mod tests {
    use weft_model::bench::Roof;

    use super::*;

    #[test]
    fn small_shares_are_left_out_and_times_are_for_one_update() {
        let line = |name: &str, backward, seconds, share, of_roof| Line {
            name: name.into(),
            backward,
            calls: 640,
            seconds,
            share,
            of_roof,
        };
        let lines = vec![
            line("linear", Some(true), 0.06, 0.6, Some((Roof::Fma, 0.912))),
            line("layer_norm", Some(false), 0.0399, 0.3999, Some((Roof::L2, 0.25))),
            line("making batches", None, 0.00001, 0.0001, None),
        ];
        let profile = Profile { steps: 10, threads: 2, seconds: 0.1, evaluation: 61.0, lines };
        assert_eq!(
            table(&profile),
            "where the time of 10 updates went, 10.0 ms each on 2 threads; 1:01 more in evaluations\n\
             \x20                               calls each  time each   share     of its limit\n\
             \x20 linear backward                       64    6.00 ms  60.0 %     91 % of FMA\n\
             \x20 layer_norm                            64    3.99 ms  40.0 %     25 % of L2\n"
        );
    }
}
