//! The command line as a whole.

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, Command, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::output::escaped;
use crate::{failure, settings, values, verbs};

/// Trains and samples small transformers from a text file, on a CPU.
///
/// `weft train` without a file trains on 32,000 names that are built in.
#[derive(Debug, Parser)]
#[command(name = "weft", version, infer_long_args = false)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Verb,
    /// Threads to compute with; the results do not depend on it [default: one for each processor]
    #[arg(long, global = true, value_name = "N", value_parser = threads, help_heading = "Everywhere")]
    pub(crate) threads: Option<usize>,
    /// Only warnings and errors on standard error
    #[arg(long, short, global = true, help_heading = "Everywhere")]
    pub(crate) quiet: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Train a model on a text file, or on the built-in names
    #[command(after_help = verbs::train::EXAMPLES)]
    Train(Box<verbs::train::TrainArgs>),
    /// Generate text with a trained model
    #[command(after_help = verbs::sample::EXAMPLES)]
    Sample(verbs::sample::SampleArgs),
    /// Measure how well a model predicts a text, beside the n-gram models
    #[command(after_help = verbs::eval::EXAMPLES)]
    Eval(verbs::eval::EvalArgs),
    /// Show what a model file holds, and which characters are alike to the model
    #[command(after_help = verbs::inspect::EXAMPLES)]
    Inspect(verbs::inspect::InspectArgs),
    /// Show what each attention head looks at
    #[command(after_help = verbs::attend::EXAMPLES)]
    Attend(verbs::attend::AttendArgs),
    /// Check every gradient against central differences
    #[command(after_help = verbs::gradcheck::EXAMPLES)]
    Gradcheck(verbs::gradcheck::GradcheckArgs),
    /// Compare two models, bit by bit
    #[command(after_help = verbs::verify::EXAMPLES)]
    Verify(verbs::verify::VerifyArgs),
    /// Measure how fast this machine is, and how near to that training and sampling come
    #[command(after_help = verbs::bench::EXAMPLES)]
    Bench(verbs::bench::BenchArgs),
    /// Print a completion script for a shell
    #[command(after_help = verbs::completions::EXAMPLES)]
    Completions(verbs::completions::CompletionsArgs),
}

/// What a model is read from.
#[derive(Debug, Args)]
pub(crate) struct ModelArg {
    /// A model file (.safetensors), or a run directory for its best model
    #[arg(value_name = "MODEL|DIR")]
    pub(crate) model: std::path::PathBuf,
}

/// More would be a typing mistake.
const MAX_THREADS: usize = 1024;

fn threads(text: &str) -> Result<usize, String> {
    let n = values::size(text)?;
    if (1..=MAX_THREADS).contains(&n) {
        Ok(n)
    } else {
        Err(format!("it must be between 1 and {MAX_THREADS}"))
    }
}

/// The command with the defaults in its help, and with every flag also in its underscore form.
pub(crate) fn command() -> Command {
    let underscored = |command: Command| {
        command.mut_args(|arg| match arg.get_long().map(|long| long.replace('-', "_")) {
            Some(alias) if alias.contains('_') => arg.alias(alias),
            _ => arg,
        })
    };
    Cli::command().mut_subcommand("train", settings::with_defaults).mut_subcommands(underscored)
}

/// Parses the command line; `Err` is the exit code after a message or the help was printed.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, ExitCode> {
    let args: Vec<OsString> = args.into_iter().collect();
    let matches = command().try_get_matches_from(&args).map_err(|error| {
        // clap quotes arguments as they are. So that nothing in them acts on the terminal, the message is about their escaped form.
        let tame: Vec<String> = args.iter().map(|arg| escaped(&arg.to_string_lossy())).collect();
        let is_wild = args.iter().zip(&tame).any(|(arg, tame)| arg.to_str().is_some_and(|arg| arg != tame));
        if is_wild { command().try_get_matches_from(tame).err().unwrap_or(error) } else { error }
    });
    let parsed = matches.and_then(|matches| Cli::from_arg_matches(&matches));
    parsed.map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => match error.print() {
            Err(e) if e.kind() != io::ErrorKind::BrokenPipe => failure::report(&e.into()),
            _ => ExitCode::SUCCESS,
        },
        _ => {
            failure::print(&message(&error));
            ExitCode::from(2)
        }
    })
}

/// The message of clap without its summary of the usage.
fn message(error: &clap::Error) -> String {
    if error.kind() == ErrorKind::MissingSubcommand
        || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    {
        return "name what to do: train, sample, eval, inspect, attend, gradcheck, verify, bench or completions\n\
                `weft train` trains on the built-in names; `weft --help` says more"
            .into();
    }
    let text = error.to_string();
    // Of the two spellings of a flag, the one that the help shows.
    let shown = |line: &str| match line.starts_with("tip: a similar argument exists") {
        true => line.replace('_', "-"),
        false => line.to_string(),
    };
    let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let lines: Vec<String> = lines
        .filter(|line| !line.is_empty() && !line.starts_with("For more information"))
        .map(|line| shown(line.strip_prefix("error: ").unwrap_or(line)))
        .collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_well_formed() {
        command().debug_assert();
    }

    /// What is said about a command line that is wrong.
    fn refused(args: &[&str]) -> String {
        message(&command().try_get_matches_from(["weft"].iter().chain(args)).unwrap_err())
    }

    #[test]
    fn every_verb_and_flag_with_a_letter_left_out_leads_back_to_it() {
        for verb in command().get_subcommands() {
            let name = verb.get_name();
            let wrong = format!("{}{}", &name[..2], &name[3..]);
            let message = refused(&[&wrong]);
            assert!(
                message.contains("tip:") && message.ends_with(&format!("'{name}'")),
                "{wrong}: {message}"
            );
            for flag in verb.get_arguments().filter(|arg| !arg.is_hide_set()).filter_map(|arg| arg.get_long())
            {
                let wrong = format!("--{}{}", &flag[..2], &flag[3..]);
                let message = refused(&[name, &wrong]);
                assert!(
                    message.ends_with(&format!("similar argument exists: '--{flag}'")),
                    "{name} {wrong}: {message}"
                );
            }
        }
    }

    #[test]
    fn every_value_with_a_letter_left_out_leads_back_to_it() {
        let mut n_checked = 0;
        for verb in command().get_subcommands() {
            for arg in verb.get_arguments().filter(|arg| arg.get_action().takes_values()) {
                let Some(flag) = arg.get_long() else { continue };
                for value in arg.get_possible_values().iter().map(|value| value.get_name()) {
                    let wrong = &value[..value.len() - 1];
                    let message = refused(&[verb.get_name(), &format!("--{flag}={wrong}")]);
                    assert!(
                        message.ends_with(&format!("similar value exists: '{value}'")),
                        "{flag} {wrong}: {message}"
                    );
                    n_checked += 1;
                }
            }
        }
        assert!(n_checked > 30, "{n_checked} values");
    }

    #[test]
    fn underscores_are_accepted() {
        let cli = parse(["weft", "train", "--n_layer", "3", "--lr", "1e-3"].map(OsString::from));
        let Ok(Cli { verb: Verb::Train(args), .. }) = cli else { panic!("refused") };
        assert_eq!(args.settings.model.n_layer, Some(3));
        assert_eq!(args.settings.train.learning_rate, Some(1e-3));
    }
}
