//! Settings as they are given: by flags, by a `--config` file, by a run's `config.toml`. All three have the same keys.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use clap::{Args, Command};
use serde::{Deserialize, Serialize};
use weft_model::config::{ActivationName, ModelKind, Norm, Position, Precision, Score};
use weft_model::optim::{OptimizerKind, ScheduleKind};
use weft_model::run::{DataConfig, RunConfig};
use weft_model::text::{Format, SplitFractions};

use crate::failure::usage;
use crate::output::escaped;
use crate::values::{choice, count, number, seconds, size};

/// What was given; whatever was not has a default that suits the data.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    #[command(flatten)]
    pub(crate) model: ModelSettings,
    #[command(flatten)]
    pub(crate) train: TrainSettings,
    #[command(flatten)]
    pub(crate) data: DataSettings,
}

/// `[model]`.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[command(next_help_heading = "Model")]
pub(crate) struct ModelSettings {
    /// Which model: bigram is a table of logits, the first that learns by gradient
    #[arg(long, value_name = "KIND", value_parser = choice::<ModelKind>(&["transformer", "bigram"]))]
    pub(crate) model: Option<ModelKind>,
    /// Blocks
    #[arg(long, value_name = "N", value_parser = size, allow_negative_numbers = true)]
    pub(crate) n_layer: Option<usize>,
    /// Attention heads
    #[arg(long, value_name = "N", value_parser = size, allow_negative_numbers = true)]
    pub(crate) n_head: Option<usize>,
    /// Key and value heads, a divisor of n-head
    #[arg(long, value_name = "N", value_parser = size, allow_negative_numbers = true)]
    pub(crate) n_kv_head: Option<usize>,
    /// Width: numbers per token
    #[arg(long, value_name = "N", value_parser = size, allow_negative_numbers = true)]
    pub(crate) n_embd: Option<usize>,
    /// Width of the feed-forward layer
    #[arg(long, value_name = "N", value_parser = size, allow_negative_numbers = true)]
    pub(crate) n_inner: Option<usize>,
    /// The longest context, in tokens
    #[arg(long, value_name = "N", value_parser = size, allow_negative_numbers = true)]
    pub(crate) block_size: Option<usize>,
    /// Normalisation
    #[arg(long, value_name = "KIND", value_parser = choice::<Norm>(&["layer", "rms"]))]
    pub(crate) norm: Option<Norm>,
    /// How a token knows its place
    #[arg(long, value_name = "KIND", value_parser = choice::<Position>(&["learned", "rotary", "none"]))]
    pub(crate) position: Option<Position>,
    /// Activation function
    #[arg(long, value_name = "KIND", value_parser = choice::<ActivationName>(&["gelu-tanh", "gelu-erf", "silu", "relu2"]))]
    pub(crate) activation: Option<ActivationName>,
    /// The activation gates a second product (GEGLU, SwiGLU)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) gated: Option<bool>,
    /// Attention score
    #[arg(long, value_name = "KIND", value_parser = choice::<Score>(&["dot", "cosine"]))]
    pub(crate) attention: Option<Score>,
    /// Biases in linear layers and layer norms
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) bias: Option<bool>,
    /// The output head is the token embedding
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) tied: Option<bool>,
    /// The same as --tied=false
    #[arg(long, conflicts_with = "tied")]
    #[serde(skip)]
    pub(crate) no_tied: bool,
    /// Probability of dropping an activation
    #[arg(long, value_name = "P", value_parser = number, allow_negative_numbers = true)]
    pub(crate) dropout: Option<f64>,
}

/// `[train]`.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[command(next_help_heading = "Training")]
pub(crate) struct TrainSettings {
    /// Rows of a batch
    #[arg(long, value_name = "N", value_parser = size, allow_negative_numbers = true)]
    pub(crate) batch_size: Option<usize>,
    /// Batches for one update
    #[arg(long, value_name = "N", value_parser = size, allow_negative_numbers = true)]
    pub(crate) grad_accum: Option<usize>,
    /// The highest learning rate
    #[serde(alias = "lr")]
    #[arg(long, visible_alias = "lr", value_name = "X", value_parser = number, allow_negative_numbers = true)]
    pub(crate) learning_rate: Option<f64>,
    /// The learning rate at the end of its fall
    #[arg(long, value_name = "X", value_parser = number, allow_negative_numbers = true)]
    pub(crate) min_lr: Option<f64>,
    /// Updates until the highest learning rate
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    pub(crate) warmup_iters: Option<u64>,
    /// The update at which min-lr is reached
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    pub(crate) lr_decay_iters: Option<u64>,
    /// How the learning rate falls
    #[arg(long, value_name = "KIND", value_parser = choice::<ScheduleKind>(&["cosine", "linear", "constant"]))]
    pub(crate) schedule: Option<ScheduleKind>,
    /// Updates in all
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    pub(crate) max_iters: Option<u64>,
    /// Stop after this time: 90 (seconds), 5m, 1.5h; 0 for no limit
    #[arg(long, value_name = "TIME", value_parser = seconds, allow_negative_numbers = true)]
    pub(crate) max_time: Option<f64>,
    /// Updates between two evaluations (and checkpoints)
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    pub(crate) eval_interval: Option<u64>,
    /// Keep the checkpoints of the newest N evaluations, as step-*.safetensors
    #[arg(long, value_name = "N", value_parser = size, allow_negative_numbers = true)]
    pub(crate) keep: Option<usize>,
    /// The update rule
    #[arg(long, value_name = "KIND", value_parser = choice::<OptimizerKind>(&["adamw", "sgd"]))]
    pub(crate) optimizer: Option<OptimizerKind>,
    /// Decay of matrices, per unit of learning rate
    #[arg(long, value_name = "X", value_parser = number, allow_negative_numbers = true)]
    pub(crate) weight_decay: Option<f64>,
    /// Decay of the first moment; momentum of sgd
    #[arg(long, value_name = "X", value_parser = number, allow_negative_numbers = true)]
    pub(crate) beta1: Option<f64>,
    /// Decay of the second moment
    #[arg(long, value_name = "X", value_parser = number, allow_negative_numbers = true)]
    pub(crate) beta2: Option<f64>,
    /// Keeps adamw's divisor from zero
    #[arg(long, value_name = "X", value_parser = number, allow_negative_numbers = true)]
    pub(crate) eps: Option<f64>,
    /// The largest norm of the gradient; 0 for no limit
    #[arg(long, value_name = "X", value_parser = number, allow_negative_numbers = true)]
    pub(crate) grad_clip: Option<f64>,
    /// Round the operands of matrix products: bf16 is up to twice as fast where the processor has it
    #[arg(long, value_name = "KIND", value_parser = choice::<Precision>(&["f32", "bf16"]))]
    pub(crate) precision: Option<Precision>,
    /// What every random number follows from
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    pub(crate) seed: Option<u64>,
}

/// `[data]`.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[command(next_help_heading = "Data")]
pub(crate) struct DataSettings {
    /// The file; [`BUILT_IN`] for the names. On the command line it has no flag.
    #[arg(skip)]
    pub(crate) file: Option<String>,
    /// One document a line, or running text [default: guessed from the file, and said]
    #[arg(long, value_name = "FORMAT", value_parser = choice::<Format>(&["lines", "text"]))]
    pub(crate) format: Option<Format>,
    /// Read U+FFFD for what is not UTF-8
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) lossy: Option<bool>,
    /// Fractions for training, validation and test
    #[arg(long, value_name = "A/B/C", value_parser = split)]
    pub(crate) split: Option<SplitFractions>,
}

/// How a configuration names the data that are built in.
pub(crate) const BUILT_IN: &str = "embedded names";

fn split(text: &str) -> Result<SplitFractions, String> {
    let error = "three fractions whose sum is 1, the first above 0, such as 0.8/0.1/0.1";
    text.parse().map_err(|_| error.to_string())
}

/// `fields!(macro)` calls `macro` with the names of all settings, so that none is forgotten in one place.
macro_rules! fields {
    ($f:ident) => {
        $f!(
            model: [model n_layer n_head n_kv_head n_embd n_inner block_size norm position activation gated
                    attention bias tied dropout];
            train: [batch_size grad_accum learning_rate min_lr warmup_iters lr_decay_iters schedule max_iters
                    max_time eval_interval keep optimizer weight_decay beta1 beta2 eps grad_clip precision seed];
            data: [format lossy split]
        )
    };
}

impl Settings {
    /// These settings, and those of `below` where there are none here.
    pub(crate) fn over(mut self, below: Settings) -> Settings {
        if self.model.no_tied {
            self.model.tied = Some(false);
            self.model.no_tied = false;
        }
        macro_rules! over {
            ($($section:ident: [$($key:ident)*]);*) => {$($(
                self.$section.$key = self.$section.$key.or(below.$section.$key);
            )*)*};
        }
        fields!(over);
        self.data.file = self.data.file.or(below.data.file);
        self
    }

    /// Everything filled in, for data of this description.
    ///
    /// Some defaults follow from other settings: the schedule ends with the run, `min_lr` is a tenth of `learning_rate`, a
    /// feed-forward layer is four times as wide as the rest (gated: with as many weights).
    pub(crate) fn resolve(&self, data: DataConfig, vocab_size: usize, longest: usize) -> RunConfig {
        let mut config = RunConfig::for_data(data, vocab_size, longest);
        macro_rules! fill {
            ($($section:ident: [$($key:ident)*]);*) => {$($(
                if let Some(value) = self.$section.$key {
                    config.$section.$key = value;
                }
            )*)*};
        }
        fields!(fill);
        let (given, model) = (&self.model, &mut config.model);
        model.n_kv_head = given.n_kv_head.unwrap_or(model.n_head);
        let n_inner = if model.gated {
            (model.n_embd.saturating_mul(8) / 3).next_multiple_of(16)
        } else {
            model.n_embd.saturating_mul(4)
        };
        model.n_inner = given.n_inner.unwrap_or(n_inner);
        let (given, train) = (&self.train, &mut config.train);
        if given.min_lr.is_none() && given.learning_rate.is_some() {
            train.min_lr = train.learning_rate / 10.0;
        }
        train.lr_decay_iters = given.lr_decay_iters.unwrap_or(train.max_iters);
        // By the schedule, not by `max_iters`: a run that is stopped and resumed has the same ones as one that is not.
        let tenth = train.lr_decay_iters / 10;
        train.warmup_iters = given.warmup_iters.unwrap_or(train.warmup_iters.min(tenth));
        train.eval_interval = given.eval_interval.unwrap_or(train.eval_interval.min(tenth).max(1));
        config
    }

    /// The settings that give this configuration.
    pub(crate) fn of(config: &RunConfig) -> Settings {
        let mut settings = Settings::default();
        macro_rules! take {
            ($($section:ident: [$($key:ident)*]);*) => {$($(
                settings.$section.$key = Some(config.$section.$key);
            )*)*};
        }
        fields!(take);
        settings.data.file = Some(config.data.file.clone().unwrap_or_else(|| BUILT_IN.into()));
        settings
    }

    /// As a `config.toml`.
    pub(crate) fn to_toml(&self) -> String {
        toml::to_string(self).expect("settings are numbers and strings")
    }

    /// Reads a configuration; a mistake in it is one of usage.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Settings> {
        /// Configurations are small; what is larger is another file.
        const MOST: u64 = 1 << 20;
        let name = escaped(&path.to_string_lossy());
        let refused =
            |why: &dyn std::fmt::Display| usage(format!("cannot read the configuration `{name}`: {why}"));
        let metadata = fs::metadata(path).map_err(|e| refused(&e))?;
        if !metadata.is_file() {
            return Err(refused(&"it is not a file"));
        }
        if metadata.len() > MOST {
            return Err(refused(&format!("it has {} bytes, more than a configuration can", metadata.len())));
        }
        let bytes = fs::read(path).map_err(|e| refused(&e))?;
        let text = std::str::from_utf8(&bytes).map_err(|_| refused(&"it is not UTF-8"))?;
        parse(text).map_err(|why| usage(format!("{name}{why}")))
    }

    /// The keys that are given here and have another value in `stored`: key, value here, value there.
    pub(crate) fn differences(&self, stored: &Settings) -> Vec<(String, String, String)> {
        let table =
            |settings: &Settings| toml::Table::try_from(settings).expect("settings are numbers and strings");
        let (given, stored) = (table(self), table(stored));
        let mut differences = Vec::new();
        for (section, keys) in given.iter().filter_map(|(section, keys)| Some((section, keys.as_table()?))) {
            for (key, value) in keys {
                let there = stored.get(section).and_then(|keys| keys.get(key));
                if there != Some(value) {
                    let there = there.map_or_else(|| "nothing".into(), ToString::to_string);
                    differences.push((key.clone(), value.to_string(), there));
                }
            }
        }
        differences
    }
}

/// Reads the text of a configuration; the error continues its name.
fn parse(text: &str) -> Result<Settings, String> {
    // An array would be read too, as the values of a section without their keys.
    let entries: BTreeMap<String, toml::Spanned<toml::Value>> =
        toml::from_str(text).map_err(|error| describe(&error, text))?;
    for section in SECTIONS {
        if let Some(value) = entries.get(section).filter(|value| !value.as_ref().is_table()) {
            let line = line_of(text, value.span().start);
            return Err(format!(" line {line}: `{section}` is a section: write [{section}] above its keys"));
        }
    }
    toml::from_str(text).map_err(|error| describe(&error, text))
}

/// The sections of a configuration.
const SECTIONS: [&str; 3] = ["model", "train", "data"];

/// Names less alike than this are not taken for one another.
const ALIKE: f64 = 0.7;

/// The line of a byte, counted from 1.
fn line_of(text: &str, at: usize) -> usize {
    1 + text.as_bytes().get(..at).unwrap_or_default().iter().filter(|b| **b == b'\n').count()
}

/// The place and the reason of a mistake in a configuration, with the nearest name for one that is unknown.
fn describe(error: &toml::de::Error, text: &str) -> String {
    let place = error.span().map_or_else(String::new, |span| format!(" line {}", line_of(text, span.start)));
    let message = error.message().replace('\n', " ");
    let mut names = message.split('`').skip(1).step_by(2);
    let unknown = names.next().unwrap_or_default();
    let nearest = names
        .map(|name| (strsim::jaro_winkler(unknown, name), name))
        .filter(|(alike, _)| *alike >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let advice = nearest.map_or_else(String::new, |(_, name)| format!("\ndid you mean `{name}`?"));
    if message.starts_with("unknown field") {
        let advice = section_of(unknown).map_or(advice, |section| format!("\nit belongs below [{section}]"));
        return format!("{place}: unknown key `{}`{advice}", escaped(unknown));
    }
    if let Some(rest) = message.strip_prefix("unknown variant") {
        return format!("{place}: unknown value{}{advice}", escaped(rest));
    }
    // The words of a person for the types of a program.
    let mut message = escaped(&message);
    for (is, says) in [("usize", "a whole number"), ("u64", "a whole number"), ("f64", "a number")] {
        message = message.replace(&format!("expected {is}"), &format!("expected {says}"));
    }
    format!("{place}: {message}")
}

/// The section that a key belongs to, if there is such a key.
fn section_of(key: &str) -> Option<&'static str> {
    macro_rules! find {
        ($($section:ident: [$($key:ident)*]);*) => {
            [$((stringify!($section), &[$(stringify!($key)),*][..])),*].into_iter().find(|(_, keys)| keys.contains(&key))
        };
    }
    fields!(find).map(|(section, _)| section)
}

/// Adds the defaults to the help of `train`, from the configurations they come from.
pub(crate) fn with_defaults(command: Command) -> Command {
    let defaults = |format| {
        let data = DataConfig { file: None, format, lossy: false, split: SplitFractions::default() };
        let config = RunConfig::for_data(data, 27, 16);
        toml::Table::try_from(Settings::of(&config)).expect("settings are numbers and strings")
    };
    let (lines, text) = (defaults(Format::Lines), defaults(Format::Text));
    command.mut_args(|arg| {
        let key = arg.get_id().as_str().to_string();
        let find = |table: &toml::Table| {
            let value = table.values().find_map(|keys| keys.as_table()?.get(&key));
            value.map(|value| value.as_str().map_or_else(|| value.to_string(), String::from))
        };
        let default = match key.as_str() {
            "file" | "format" => None,
            "n_kv_head" => Some("n-head".into()),
            "n_inner" => Some("4 · n-embd; gated: 8/3 · n-embd".into()),
            "block_size" => Some("lines: the longest line, at most 64; text: 64".into()),
            "min_lr" => Some("learning-rate / 10".into()),
            "lr_decay_iters" => Some("max-iters".into()),
            "max_time" => Some("0".into()),
            _ => find(&lines).zip(find(&text)).map(|(lines, text)| {
                let or_less = match key.as_str() {
                    "warmup_iters" | "eval_interval" => "; at most max-iters / 10",
                    _ => "",
                };
                let value = if lines == text { lines } else { format!("{lines} for lines, {text} for text") };
                value + or_less
            }),
        };
        match (default, arg.get_help().map(ToString::to_string)) {
            (Some(default), Some(help)) => arg.help(format!("{help} [default: {default}]")),
            _ => arg,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(settings: &Settings, format: Format) -> RunConfig {
        let data = DataConfig { file: None, format, lossy: false, split: SplitFractions::default() };
        settings.resolve(data, 27, 16)
    }

    #[test]
    fn a_written_configuration_reads_back_as_the_same_run() {
        for format in [Format::Lines, Format::Text] {
            let config = resolved(&Settings::default(), format);
            let read: Settings = toml::from_str(&Settings::of(&config).to_toml()).unwrap();
            assert_eq!(read, Settings::of(&config));
            assert_eq!(resolved(&read, format), config);
        }
    }

    #[test]
    fn defaults_follow_what_is_given() {
        let settings: Settings = toml::from_str(
            "[model]\nn_embd = 96\nn_head = 6\ngated = true\n[train]\nlearning_rate = 1\nmax_iters = 50",
        )
        .unwrap();
        let RunConfig { model, train, .. } = resolved(&settings, Format::Lines);
        assert_eq!((model.n_kv_head, model.n_inner), (6, 256));
        assert_eq!(
            (train.min_lr, train.lr_decay_iters, train.warmup_iters, train.eval_interval),
            (0.1, 50, 5, 5)
        );
    }

    #[test]
    fn flags_go_over_the_file() {
        let file: Settings = toml::from_str("[model]\nn_layer = 2\nn_head = 2").unwrap();
        let mut flags = Settings::default();
        flags.model.n_layer = Some(3);
        flags.model.no_tied = true;
        let both = flags.over(file);
        assert_eq!((both.model.n_layer, both.model.n_head, both.model.tied), (Some(3), Some(2), Some(false)));
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_the_nearest() {
        let message = parse("[model]\nn_layer = 2\nn_lyer = 2\n").unwrap_err();
        assert_eq!(message, " line 3: unknown key `n_lyer`\ndid you mean `n_layer`?");
        assert_eq!(parse("zzz = 2\n").unwrap_err(), " line 1: unknown key `zzz`");
        assert_eq!(parse("seed = 2\n").unwrap_err(), " line 1: unknown key `seed`\nit belongs below [train]");
        assert_eq!(
            parse("[model]\nnorm = \"lyer\"").unwrap_err(),
            " line 2: unknown value `lyer`, expected `layer` or `rms`\ndid you mean `layer`?"
        );
        assert_eq!(parse("[train]\nlr = 0.5").unwrap().train.learning_rate, Some(0.5));
    }

    #[test]
    fn every_key_with_a_letter_left_out_leads_back_to_it() {
        let all =
            toml::Table::try_from(Settings::of(&resolved(&Settings::default(), Format::Lines))).unwrap();
        for (section, keys) in all.iter().map(|(section, keys)| (section, keys.as_table().unwrap())) {
            for key in keys.keys() {
                let wrong = format!("{}{}", &key[..2], &key[3..]);
                let message = parse(&format!("[{section}]\n{wrong} = 1")).unwrap_err();
                assert!(message.ends_with(&format!("did you mean `{key}`?")), "{wrong}: {message}");
            }
        }
    }

    #[test]
    fn values_without_keys_are_no_section() {
        for text in ["model = 3", "[[train]]\nseed = 1", "data = [\"a.txt\", \"lines\"]"] {
            let message = parse(text).unwrap_err();
            assert!(message.contains("is a section: write ["), "{text}: {message}");
        }
    }

    #[test]
    fn differences_show_both_values() {
        let stored = Settings::of(&resolved(&Settings::default(), Format::Lines));
        let mut given = Settings::default();
        given.model.n_layer = Some(7);
        given.model.n_head = stored.model.n_head;
        assert_eq!(given.differences(&stored), [("n_layer".into(), "7".into(), "4".into())]);
    }
}
