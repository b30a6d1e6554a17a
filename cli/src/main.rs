//! The `weft` binary: arguments, terminal, exit codes.
//!
//! Standard output carries the product only; everything else goes to standard error. Exit codes: 0 done, 1 could not be done,
//! 2 wrong usage or configuration, 130 after Ctrl-C and 143 after SIGTERM.
#![forbid(unsafe_code)]

mod args;
mod bar;
mod failure;
mod figures;
mod ladder;
mod load;
mod output;
mod profile;
mod settings;
mod signal;
mod values;
mod verbs;

use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match args::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    match run(cli) {
        Ok(code) => code,
        Err(error) => failure::report(&error),
    }
}

fn run(cli: args::Cli) -> anyhow::Result<ExitCode> {
    check_simd()?;
    output::set_quiet(cli.quiet);
    signal::let_large_files_fail()?;
    let threads = rayon::ThreadPoolBuilder::new().num_threads(cli.threads.unwrap_or(0)).build();
    // Its source says the same once more.
    let threads =
        threads.map_err(|error| anyhow::anyhow!("cannot start the threads: {error}\nmake --threads smaller"));
    threads?.install(|| match cli.verb {
        args::Verb::Train(args) => verbs::train::run(*args),
        args::Verb::Sample(args) => verbs::sample::run(&args),
        args::Verb::Eval(args) => verbs::eval::run(&args),
        args::Verb::Inspect(args) => verbs::inspect::run(&args),
        args::Verb::Attend(args) => verbs::attend::run(&args),
        args::Verb::Gradcheck(args) => verbs::gradcheck::run(&args),
        args::Verb::Verify(args) => verbs::verify::run(&args),
        args::Verb::Bench(args) => verbs::bench::run(&args),
        args::Verb::Completions(args) => verbs::completions::run(&args),
    })
}

/// Refuses a `WEFT_SIMD` that would be ignored.
fn check_simd() -> anyhow::Result<()> {
    let Some(wanted) = std::env::var_os("WEFT_SIMD") else { return Ok(()) };
    let names = weft_tensor::simd::Level::ALL.map(|level| level.name());
    if names.iter().any(|name| wanted == *name) {
        return Ok(());
    }
    let wanted = output::escaped(&wanted.to_string_lossy());
    Err(failure::usage(format!("WEFT_SIMD is `{wanted}`\nit can be {}", names.join(", "))))
}
