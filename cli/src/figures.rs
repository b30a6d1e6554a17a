//! Figures of `weft bench` as tables: a line for each thing measured, a group of columns for each number of threads.

use weft_model::bench::{Figure, Machine, Roof, Section};

use crate::bar::short;
use crate::output::grouped;

/// Width of the names, and of a group of columns.
const NAME: usize = 30;
const GROUP: usize = 29;
/// Columns between groups.
const GAP: &str = "  ";

/// How a terminal shows that an aim is reached, that it is not, a title, and nothing of these.
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const BOLD: &str = "\x1b[1m";
const PLAIN: &str = "\x1b[0m";

/// What a table is made for.
pub(crate) struct Look {
    /// The groups of columns.
    pub(crate) threads: Vec<usize>,
    /// The output may be coloured.
    pub(crate) colours: bool,
}

impl Look {
    fn title(&self, title: &str) -> String {
        let name = format!("{title:<NAME$}");
        if self.colours { format!("{BOLD}{name}{PLAIN}") } else { name }
    }

    /// A title, and what stands above each group of columns.
    fn heading(&self, title: &str) -> String {
        let mut line = self.title(title);
        for &threads in &self.threads {
            let plural = if threads == 1 { "" } else { "s" };
            line += GAP;
            line += &format!("{:>GROUP$}", format!("{threads} thread{plural} "));
        }
        line
    }

    /// The limits of the machine.
    pub(crate) fn machine(&self, machine: &Machine) -> String {
        let mut table = format!("{}, {}\n\n", machine.processor, machine.simd);
        table += &format!("{}\n", self.heading("the limits of this machine"));
        let mut line = |name: String, cells: &mut dyn Iterator<Item = String>| {
            table += &format!("  {name:<width$}", width = NAME - 2);
            cells.for_each(|cell| table += &format!("{GAP}{cell:>GROUP$}"));
            table.push('\n');
        };
        line(
            "multiply-adds, f32".into(),
            &mut machine.roofs.iter().map(|roofs| format!("{:.0} GFLOP/s ", roofs.fma_gflops)),
        );
        for i in 0..machine.roofs[0].levels.len() {
            let first = machine.roofs[0].levels[i];
            let name = format!("{:<5}{:>8}  read, update", first.level.name(), size(first.bytes));
            line(
                name,
                &mut machine.roofs.iter().map(|roofs| {
                    let level = roofs.levels[i];
                    format!("{:.0}, {:>3.0} GB/s    ", level.read_gbps, level.update_gbps)
                }),
            );
        }
        table
    }

    /// The figures of one section, in the order of their names' first.
    pub(crate) fn section(&self, section: Section, figures: &[Figure]) -> String {
        let (title, rate) = match section {
            Section::Step => ("training step", "tok/s"),
            Section::Sample => ("sampled token", "tok/s"),
            Section::Matmul => ("matrix product, m × n × k", "GFLOP/s"),
            Section::Attention => ("attention (B, H, T, D)", "GFLOP/s"),
            Section::Rows => ("kernel on rows", "GB/s"),
        };
        let mut table = self.title(title);
        let columns = format!("{:>8}{rate:>8}{:>4}{:>5}{:>4}", "time", "%", "best", "aim");
        self.threads.iter().for_each(|_| table += &format!("{GAP}{columns}"));
        let has_memory = figures.iter().any(|figure| figure.peak_bytes.is_some());
        table += if has_memory { "  memory\n" } else { "\n" };
        for (i, figure) in figures.iter().enumerate() {
            if figures[..i].iter().any(|earlier| earlier.name == figure.name) {
                continue;
            }
            let of_threads = |threads: &usize| {
                figures.iter().find(|other| other.name == figure.name && other.threads == *threads)
            };
            let name = match (section, figure.roof) {
                (Section::Sample, roof) if roof != Roof::Fma => {
                    format!("{}, from {}", figure.name, roof.name())
                }
                _ => figure.name.clone(),
            };
            let mut line = format!("  {name:<width$}", width = NAME - 2);
            for threads in &self.threads {
                line += GAP;
                line += &of_threads(threads).map_or_else(|| " ".repeat(GROUP), |figure| self.cells(figure));
            }
            if let Some(bytes) =
                figures.iter().rfind(|other| other.name == figure.name).and_then(|f| f.peak_bytes)
            {
                line += &format!("{:>8}", size(bytes as usize));
            }
            table += line.trim_end();
            table.push('\n');
        }
        table
    }

    fn cells(&self, figure: &Figure) -> String {
        let rate = match figure.tokens_per_s {
            Some(tokens) if tokens < 10_000.0 => grouped(tokens.round() as usize),
            Some(tokens) => short(tokens),
            None => format!("{:.0}", figure.rate()),
        };
        let percent = |x: f64| (100.0 * x).round();
        let reached = format!("{:>4}", percent(figure.fraction));
        let reached = match figure.aim {
            Some(aim) if self.colours => {
                let colour = if percent(figure.fraction) >= percent(aim) { GREEN } else { YELLOW };
                format!("{colour}{reached}{PLAIN}")
            }
            _ => reached,
        };
        let aim = figure.aim.map_or_else(String::new, |aim| percent(aim).to_string());
        format!(
            "{:>8}{rate:>8}{reached}{:>5}{aim:>4}",
            duration(figure.median_s),
            percent(figure.best_fraction)
        )
    }
}

/// Seconds as `1.23 µs`, `45.6 ms` or `7.89 s`.
pub(crate) fn duration(seconds: f64) -> String {
    let (x, unit) = match seconds {
        s if s < 1e-6 => (s * 1e9, "ns"),
        s if s < 1e-3 => (s * 1e6, "µs"),
        s if s < 1.0 => (s * 1e3, "ms"),
        s => (s, "s"),
    };
    let decimals = if x < 9.995 { 2 } else { usize::from(x < 99.95) };
    format!("{x:.decimals$} {unit}")
}

/// Bytes as `16 KiB`, `38 MiB` or `2.4 GiB`.
fn size(bytes: usize) -> String {
    let bytes = bytes as f64;
    let (kib, mib, gib) = (1024.0, 1048576.0, 1073741824.0);
    match bytes {
        b if b < mib => format!("{:.0} KiB", b / kib),
        b if b < gib => format!("{:.0} MiB", b / mib),
        b => format!("{:.1} GiB", b / gib),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_are_shown() {
        assert_eq!(
            [1.234e-8, 9.994e-6, 1.2345e-5, 0.1234, 1.5].map(duration),
            ["12.3 ns", "9.99 µs", "12.3 µs", "123 ms", "1.50 s"]
        );
        assert_eq!([16 << 10, 38 << 20, 5 << 29].map(size), ["16 KiB", "38 MiB", "2.5 GiB"]);
    }

    #[test]
    fn a_line_holds_what_belongs_to_one_name() {
        let figure = |name: &str, threads: usize, aim: Option<f64>| -> Figure {
            let figure = serde_json::json!({
                "section": "step", "name": name, "threads": threads, "runs": 3, "median_s": 0.004, "best_s": 0.002,
                "work": 4e8, "roof": "FMA", "roof_rate": 200.0, "fraction": 0.5, "best_fraction": 1.0, "aim": aim,
                "tokens_per_s": 128000.0, "peak_bytes": 38 << 20,
            });
            serde_json::from_value(figure).unwrap()
        };
        let figures =
            [figure("names", 1, Some(0.8)), figure("names", 2, None), figure("shakes", 2, Some(0.5))];
        let mut look = Look { threads: vec![1, 2], colours: false };
        let table = look.section(Section::Step, &figures);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(
            lines[1..],
            [
                "  names                          4.00 ms    128k  50  100  80   4.00 ms    128k  50  100      38 MiB",
                "  shakes                                                        4.00 ms    128k  50  100  50  38 MiB",
            ]
        );
        assert!(lines.iter().all(|line| line.chars().count() <= 100), "{table}");
        look.colours = true;
        let coloured = look.section(Section::Step, &figures);
        assert!(coloured.contains(YELLOW) && coloured.contains(GREEN), "{coloured}");
    }
}
