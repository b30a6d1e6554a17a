//! The console blocks of README.md, run as they stand there. CONTRIBUTING.md states the rules.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A command of a console block, and what it prints.
#[derive(Debug, PartialEq)]
struct Example {
    /// Line of the README, counted from 1.
    line: usize,
    command: String,
    output: Vec<String>,
}

/// The commands of all blocks that begin with ```` ```console ```` and nothing else, in order.
fn examples(readme: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    let (mut fence, mut runs, mut continued) = (false, false, false);
    for (number, line) in (1..).zip(readme.lines()) {
        if let Some(info) = line.strip_prefix("```") {
            fence = !fence;
            runs = fence && info.trim() == "console";
            continued = false;
            continue;
        }
        if !runs {
            continue;
        }
        if continued {
            let example = examples.last_mut().expect("a command is continued");
            example.command.push('\n');
            example.command.push_str(line);
        } else if let Some(command) = line.strip_prefix("$ ") {
            examples.push(Example { line: number, command: command.into(), output: Vec::new() });
        } else {
            let example = examples.last_mut();
            let example = example.unwrap_or_else(|| panic!("README.md:{number}: output before any command"));
            example.output.push(line.into());
            continue;
        }
        continued = line.ends_with('\\');
    }
    examples
}

/// Does the output match what stands in the README? A line `...` stands for any number of lines, `...` within a line for any text.
fn matches(wanted: &[String], got: &[&str]) -> bool {
    let Some((first, rest)) = wanted.split_first() else { return got.is_empty() };
    if first == "..." {
        return (0..=got.len()).any(|skipped| matches(rest, &got[skipped..]));
    }
    got.first().is_some_and(|line| line_matches(first, line)) && matches(rest, &got[1..])
}

fn line_matches(wanted: &str, got: &str) -> bool {
    match wanted.split_once("...") {
        None => wanted == got,
        Some((before, after)) => got.strip_prefix(before).is_some_and(|got| {
            let ends = got.char_indices().map(|(i, _)| i).chain([got.len()]);
            ends.into_iter().any(|i| line_matches(after, &got[i..]))
        }),
    }
}

/// An empty directory with a link to the repository's `data`.
fn directory(repository: &Path) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("readme-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("the target directory can be written");
    #[cfg(unix)]
    std::os::unix::fs::symlink(repository.join("data"), directory.join("data")).expect("a link can be made");
    directory
}

#[cfg(unix)]
#[test]
fn the_console_blocks_print_what_stands_there() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in a workspace");
    // A package of this crate alone has no README beside it, and nothing to check.
    let Ok(readme) = std::fs::read_to_string(repository.join("README.md")) else { return };
    let weft = Path::new(env!("CARGO_BIN_EXE_weft"));
    let before = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(weft.parent().expect("a file has a folder").into())
        .chain(std::env::split_paths(&before));
    let path = std::env::join_paths(folders).expect("no folder has a colon in its name");
    let directory = directory(repository);
    for Example { line, command, output } in examples(&readme) {
        let result = Command::new("sh")
            .args(["-c", &command])
            .current_dir(&directory)
            .env("PATH", &path)
            .stdin(Stdio::null())
            .output()
            .expect("sh runs");
        let (stdout, stderr) =
            (String::from_utf8_lossy(&result.stdout), String::from_utf8_lossy(&result.stderr));
        assert!(
            result.status.success(),
            "README.md:{line}: `{command}` ends with {}:\n{stderr}",
            result.status
        );
        let got: Vec<&str> = stdout.lines().collect();
        assert!(
            matches(&output, &got),
            "README.md:{line}: `{command}` prints\n{stdout}\nbut there stands\n{}",
            output.join("\n")
        );
    }
    std::fs::remove_dir_all(&directory).expect("the directory can be removed");
}

#[test]
fn blocks_become_commands_and_their_output() {
    let readme = "```console\n$ a \\\n  b\nout\n\n$ c\n```\n```console no-run\n$ d\n```\n```rust\n$ e\n```\n";
    let example = |line, command: &str, output: &[&str]| Example {
        line,
        command: command.into(),
        output: output.iter().map(|line| line.to_string()).collect(),
    };
    assert_eq!(examples(readme), [example(2, "a \\\n  b", &["out", ""]), example(6, "c", &[])]);
}

#[test]
fn dots_stand_for_anything_and_the_rest_for_itself() {
    let check = |wanted: &str, got: &str| {
        let wanted: Vec<String> = wanted.lines().map(String::from).collect();
        matches(&wanted, &got.lines().collect::<Vec<_>>())
    };
    assert!(check("a\nb", "a\nb") && check("", "") && check("a\n...\nd", "a\nb\nc\nd") && check("...", ""));
    assert!(check("took ... ms, ... tokens", "took 3.5 ms, 12 tokens"));
    assert!(!check("a", "b") && !check("a", "a\nb") && !check("a\nb", "a") && !check("a\n...\nd", "a\nb"));
    assert!(!check("took ... ms", "took 3 s") && !check("... ms", "3 ms or so"));
}
