//! The table of bad input: whatever is refused is refused with its exit code and a message, never with a panic.
//!
//! The cases are in `table`: every table is a row of the promise (flags, configuration, data, prompts, sampling, model files, runs),
//! every group in it an item. What is odd but right is accepted, and has its cases too.

mod common;
mod table;

use std::collections::BTreeSet;
use std::fs::{self, File};

use common::{Place, Run, TINY};
use table::*;

#[test]
fn flags() {
    let place = Place::new();
    place.tiny_run("run");
    refused(&place, 2, "flags", FLAGS);
    assert!(!place.path("runs").exists(), "a run was begun");
}

#[test]
fn configuration() {
    let place = Place::new();
    for (item, (toml, expected)) in cases(CONFIGURATION) {
        eprintln!("configuration, {item}: {toml:?}");
        place.write("c.toml", toml);
        // It is looked at first of all, before the data.
        place.weft("train missing.txt --config c.toml").refused(2, expected);
    }
    place.write("binary.toml", [0xff, 0xfe, 0]);
    place.write("long.toml", format!("[model]\n{} = 1\n", "n".repeat(1 << 19)));
    File::create(place.path("huge.toml")).unwrap().set_len(1 << 30).unwrap();
    for (file, expected) in [
        ("missing.toml", "missing.toml"),
        ("binary.toml", "UTF-8"),
        ("huge.toml", "it has 1073741824 bytes"),
        ("long.toml", "line 2: unknown key `nnn"),
        (".", "not a file"),
    ] {
        place.weft(&format!("train --config {file}")).refused(2, expected);
    }
    assert!(!place.path("runs").exists(), "a run was begun");
}

#[test]
fn data() {
    let place = Place::new();
    for (item, (flags, bytes, expected)) in cases(DATA) {
        eprintln!("data, {item}: {}", bytes.escape_ascii());
        place.write("data.txt", bytes);
        place.weft(&format!("train data.txt {flags}")).refused(1, expected);
    }
    assert!(!place.path("runs").exists(), "a run was begun");
}

#[test]
fn data_that_are_odd_and_accepted() {
    let place = Place::new();
    let train = |flags: &str| {
        let run = place.weft(&format!("train data.txt -o run --force --max-iters 2 {TINY} {flags}")).ok();
        assert!(!run.err.contains('\u{1b}'), "a control character: {run:?}");
        run
    };
    for (item, (flags, bytes, expected)) in cases(ODD_DATA) {
        eprintln!("data, {item}: {}", String::from_utf8_lossy(bytes));
        place.write("data.txt", bytes);
        let run = train(flags);
        assert!(run.err.contains(expected), "not `{expected}`: {run:?}");
        let n_samples = run.out.lines().count();
        assert!(n_samples == 20 || flags.contains("text") && n_samples > 0, "{n_samples} samples: {run:?}");
        let text = place.weft("inspect run").ok().out;
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "a control character: {text:?}");
    }
    place.write("data.txt", "ab".repeat(100_000));
    assert!(train("").err.contains("160,000 characters to train on"), "one line of 200,000 characters");
    place.write("data.txt", (0..600).filter_map(|i| char::from_u32(0x4e00 + i)).collect::<String>());
    assert!(train("").err.contains("600 tokens"), "six hundred characters");
    assert!(place.weft("inspect run").ok().out.contains("their embeddings, of the first 512:"));
    place.write("data.txt", "same\n".repeat(1_000_000));
    assert!(train("--format lines").err.contains("800,000 lines to train on"), "a million equal lines");
}

#[test]
fn prompts() {
    let place = trained();
    for (item, (args, expected)) in cases(PROMPTS) {
        eprintln!("prompts, {item}: {args:?}");
        place.run(args).refused(1, expected);
    }
    // As long as Linux passes one argument.
    let mut long = "emma".repeat(30_000);
    let run = place.run(["sample", "run", "-n", "1", "--max-new-tokens", "1", "--prompt", &long]).ok();
    assert!(run.out.starts_with(&long), "{} bytes", run.out.len());
    place.run(["attend", "run", &long]).refused(1, "the text has 120001 tokens");
    // A model that can read it, and that has far more to show than fits into any memory.
    let mut parts = Parts::of(&place.read("run/best.safetensors"));
    parts.set("/model/position", "none");
    parts.set("/model/block_size", 1 << 20);
    parts.remove("wpe.weight");
    parts.repeat_block(1024);
    place.write("deep.safetensors", parts.to_bytes());
    place.run(["attend", "deep.safetensors", &long]).refused(1, "the picture needs about 235933.5 GB");
    long.push('!');
    place.run(["sample", "run", "--prompt", &long]).refused(1, "'!' (U+0021) at position 120001");
}

#[test]
fn prompts_that_are_odd_and_accepted() {
    let place = trained();
    for (item, args) in cases(ODD_PROMPTS) {
        eprintln!("prompts, {item}: {args:?}");
        assert!(place.run(args).ok().out.lines().count() > 0, "{args:?}");
    }
}

#[test]
fn sampling() {
    let place = trained();
    refused(&place, 2, "sampling", SAMPLING);
    for (item, line) in cases(ODD_SAMPLING) {
        eprintln!("sampling, {item}: weft {line}");
        let n = if line.contains("-n 0") { 0 } else { 20 };
        assert_eq!(place.weft(line).ok().out.lines().count(), n, "{line}");
    }
}

#[test]
fn model_files() {
    let place = trained();
    let best = place.read("run/best.safetensors");
    let verbs = |file: &str| {
        [
            "inspect FILE",
            "sample FILE",
            "eval FILE tiny.txt",
            "attend FILE a",
            "gradcheck FILE",
            "verify run FILE",
        ]
        .map(|line| line.replace("FILE", file))
    };
    let refused = |item: &str, n: usize, bytes: &[u8], expected: &str| {
        eprintln!("model files, {item}, number {n}: {expected}");
        place.write("m.safetensors", bytes);
        // All verbs load alike: one each, in turn.
        let lines = verbs("m.safetensors");
        place.weft(&lines[n % lines.len()]).refused(1, expected);
    };
    let mut n = 0..;
    for (item, (bytes, expected)) in cases(OTHER_FILES) {
        refused(item, n.next().unwrap(), bytes, expected);
    }
    for (item, (damage, expected)) in cases(DAMAGE) {
        let mut bytes = best.clone();
        damage(&mut bytes);
        assert_ne!(bytes, best, "{item}: nothing is damaged");
        refused(item, n.next().unwrap(), &bytes, expected);
    }
    for (item, (change, expected)) in cases(MODEL_FILES) {
        let mut parts = Parts::of(&best);
        change(&mut parts);
        refused(item, n.next().unwrap(), &parts.to_bytes(), expected);
    }
    place.write("m.safetensors", Parts::of(&best).to_bytes());
    verbs("m.safetensors").iter().filter(|line| !line.starts_with("gradcheck")).for_each(|line| {
        place.weft(line).ok();
    });
}

#[test]
fn a_loss_that_is_no_number_is_no_result() {
    let place = trained();
    let mut parts = Parts::of(&place.read("run/best.safetensors"));
    parts.fill(3e38);
    place.write("wild.safetensors", parts.to_bytes());
    place.weft("eval wild.safetensors tiny.txt").refused(1, "the loss is NaN");
    place.weft("eval wild.safetensors tiny.txt --json").refused(1, "the loss is NaN");
}

#[test]
fn what_cannot_be_done() {
    let place = trained();
    place.write("strange.txt", "zoë\n");
    fs::create_dir(place.path("empty")).unwrap();
    place.write("file-in-the-way", "");
    place.write("alone/best.safetensors", place.read("run/best.safetensors"));
    File::create(place.path("gigabyte.txt")).unwrap().set_len((1 << 30) + 1).unwrap();
    place.weft(&format!("train tiny.txt -o whole --split 1/0/0 --max-iters 1 {TINY}")).ok();
    #[cfg(unix)]
    std::os::unix::fs::symlink("loop", place.path("loop")).unwrap();
    refused(&place, 1, "runs", RUNS);
}

#[test]
fn the_table_is_long_and_names_nothing_twice() {
    let lines: Vec<&str> =
        [FLAGS, SAMPLING, RUNS].into_iter().flat_map(cases).map(|(_, (line, _))| line).collect();
    let distinct: BTreeSet<&str> = lines.iter().copied().collect();
    assert_eq!(distinct.len(), lines.len(), "a command line stands there twice");
    let refused = lines.len()
        + cases(CONFIGURATION).count()
        + cases(DATA).count()
        + cases(PROMPTS).count()
        + cases(OTHER_FILES).count()
        + cases(DAMAGE).count()
        + cases(MODEL_FILES).count();
    let accepted = cases(ODD_DATA).count() + cases(ODD_PROMPTS).count() + cases(ODD_SAMPLING).count();
    eprintln!("{refused} cases are refused, {accepted} accepted");
    assert!(refused >= 240 && accepted >= 25, "{refused} cases are refused, {accepted} accepted");
}

#[test]
fn control_characters_in_arguments_are_escaped() {
    let place = Place::new();
    place.run(["train", "--\u{1b}[31mred\nline"]).refused(2, "\\u{1b}[31m");
    place.run(["train", "--n-layer=\u{1b}[2J"]).refused(2, "\\u{1b}[2J");
    place.run(["train", "a\u{1b}[2J\nb.txt"]).refused(1, "a\\u{1b}[2J\\nb.txt");
    place.run(["sample", "\u{202e}\u{7}"]).refused(1, "\\u{202e}\\u{7}");
    place.run(["train", "--resume", "a\rb"]).refused(1, "a\\rb");
    place.run(["train", &format!("--{}", "x".repeat(100_000))]).refused(2, "unexpected argument '--xxx");
    place.run(["sample", &"x".repeat(100_000)]).refused(1, "xxx…");
}

#[cfg(unix)]
#[test]
fn arguments_that_are_not_utf_8_are_refused_or_paths() {
    use std::ffi::{OsStr, OsString};
    use std::os::unix::ffi::OsStringExt as _;
    let place = Place::new();
    let strange = OsString::from_vec(b"na\xffmes".to_vec());
    place.run([OsStr::new("train"), OsStr::new("--n-layer"), &strange]).refused(2, "UTF-8");
    place
        .run([OsStr::new("sample"), OsStr::new("run"), OsStr::new("--prompt"), &strange])
        .refused(2, "UTF-8");
    place.run([&strange]).refused(2, "na");
    place.run([OsStr::new("train"), &strange]).refused(1, "na");
    place.run([OsStr::new("sample"), &strange]).refused(1, "na");
    place.run([OsStr::new("train"), OsStr::new("--config"), &strange]).refused(2, "na");
}

#[test]
fn empty_arguments_are_refused() {
    let place = Place::new();
    for args in [
        &["train", ""][..],
        &["sample", ""],
        &["train", "--resume", ""],
        &["train", "--config", ""],
        &["train", "-o", ""],
        &["train", "--n-layer", ""],
        &[""],
    ] {
        eprintln!("{args:?}");
        place.run(args).refused(2, "");
    }
}

#[test]
fn a_run_is_named_after_its_data_and_stays_below_runs() {
    let place = Place::new();
    for (file, run) in
        [("...txt", "data"), ("..txt", "data-2"), (".names.txt", "names"), ("a b:c.d.txt", "a_b_c.d")]
    {
        place.write(file, "anna\nberta\n");
        let run = format!("runs/{run}");
        place.run(["train", file, "--max-iters", "1", "--n-embd", "8"]).ok();
        assert!(place.path(&run).join("last.safetensors").exists(), "{file}: no {run}");
    }
}

#[cfg(unix)]
#[test]
fn a_pipe_is_refused_without_waiting() {
    let place = Place::new();
    let made = std::process::Command::new("mkfifo").arg(place.path("pipe")).status().unwrap();
    assert!(made.success(), "mkfifo");
    place.weft("train pipe").refused(1, "pipe");
    place.weft("train --config pipe").refused(2, "not a file");
    place.weft("sample pipe").refused(1, "is a pipe");
    place.weft("eval pipe").refused(1, "is a pipe");
    place.tiny_run("run");
    fs::rename(place.path("pipe"), place.path("run/metrics.jsonl")).unwrap();
    place.weft("train --resume run --max-iters 4").refused(1, "run/metrics.jsonl`: it is not a file");
}

#[test]
fn an_unknown_simd_level_is_refused() {
    let place = Place::new();
    for level in ["sse9", "", "AVX2", "\u{1b}[2J"] {
        let mut command = place.command(["sample", "run"]);
        command.env("WEFT_SIMD", level);
        Run::of(command).refused(2, "scalar, avx2, avx512");
    }
}

#[test]
fn odd_surroundings_change_nothing() {
    let place = trained();
    let expected = place.weft("sample run -n 3").ok().out;
    for (key, value) in [
        ("LC_ALL", "xx_YY.weird"),
        ("LANG", ""),
        ("TERM", "\u{1b}"),
        ("NO_COLOR", "\u{7}"),
        ("COLUMNS", "0"),
        ("RUST_LOG", "trace"),
    ] {
        let mut command = place.command("sample run -n 3".split(' '));
        command.env(key, value);
        assert_eq!(Run::of(command).ok().out, expected, "{key}={value:?}");
    }
    let mut command = place.command("sample run -n 3".split(' '));
    command.env_clear();
    assert_eq!(Run::of(command).ok().out, expected, "no environment");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_standard_output_is_an_error_of_every_verb() {
    let place = trained();
    for line in [
        "sample run",
        "eval run",
        "inspect run",
        "attend run emma",
        "verify run run",
        "completions bash",
        "--help",
        "--version",
    ] {
        eprintln!("weft {line}");
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = place.command(line.split(' ')).stdout(full).output().unwrap();
        Run::from(output).refused(1, "No space left on device");
    }
}

#[cfg(unix)]
#[test]
fn a_limit_on_the_size_of_files_is_an_error() {
    let place = Place::new();
    place.write("data.txt", "anna\nberta\n");
    let mut command = std::process::Command::new("sh");
    command.current_dir(place.path("")).env("RUST_BACKTRACE", "1");
    command.args(["-c", "ulimit -f 16; exec \"$0\" train data.txt -o run --max-iters 2"]);
    command.arg(env!("CARGO_BIN_EXE_weft"));
    Run::of(command).refused(1, "cannot save `run/best.safetensors`: File too large");
}

/// A transformer and a bigram of lines, and a model of running text.
fn trained() -> Place {
    let place = Place::new();
    place.tiny_run("run");
    place.weft(&format!("train tiny.txt -o prose --format text --max-iters 1 {TINY}")).ok();
    place.weft(&format!("train tiny.txt -o bigram --model bigram --max-iters 1 {TINY}")).ok();
    place
}

/// Every case with the name of its item.
fn cases<T: Copy>(row: &'static [Item<T>]) -> impl Iterator<Item = (&'static str, T)> {
    row.iter().flat_map(|(item, cases)| cases.iter().map(move |case| (*item, *case)))
}

fn refused(place: &Place, code: i32, row: &str, items: &'static [Item<Line>]) {
    for (item, (line, expected)) in cases(items) {
        eprintln!("{row}, {item}: weft {line}");
        place.weft(line).refused(code, expected);
    }
}
