//! Training by the binary: what it prints where, what it leaves behind, and that a stop or a thread changes nothing.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::process::Stdio;

use common::{Place, Run, TINY};

/// As [`TINY`], with dropout and accumulation, and a schedule that does not depend on where a run stops.
const EXACT: &str =
    "--n-layer 1 --n-head 2 --n-embd 8 --batch-size 8 --dropout 0.1 --grad-accum 2 --lr-decay-iters 60";

/// The model files of a run.
fn files(place: &Place, dir: &str) -> [Vec<u8>; 2] {
    ["last", "best"].map(|name| place.read(&format!("{dir}/{name}.safetensors")))
}

#[track_caller]
fn assert_same(place: &Place, a: &str, b: &str) {
    for (name, (a_bytes, b_bytes)) in
        ["last", "best"].iter().zip(files(place, a).iter().zip(&files(place, b)))
    {
        assert!(a_bytes == b_bytes, "{name} of {b} differs from that of {a}");
    }
}

#[test]
fn the_product_goes_to_standard_output_and_the_rest_to_standard_error() {
    let place = Place::new();
    let run = place.weft(&format!("train --max-iters 20 {TINY}")).ok();
    assert_eq!(run.out.lines().count(), 20, "{run:?}");
    for expected in
        ["runs/names", "validation loss", "unigram", "5-gram", "this model", "not in the training data"]
    {
        assert!(run.err.contains(expected), "no `{expected}`: {}", run.err);
    }
    assert!(!run.err.contains('\u{1b}') && !run.err.contains('\r'), "a bar in a pipe: {}", run.err);

    let quiet = place.weft(&format!("train -q --max-iters 20 {TINY}")).ok();
    assert_eq!((quiet.out, quiet.err.as_str()), (run.out, ""));
    assert_same(&place, "runs/names", "runs/names-2");
}

#[test]
fn running_text_gives_one_sample() {
    let place = Place::new();
    place.write(
        "text.txt",
        "It was a long line of running text, and it went on.\n\nThen it ended.\n".repeat(20),
    );
    let run = place.weft(&format!("train text.txt --max-iters 10 {TINY}")).ok();
    assert!(run.err.contains("runs/text"), "{run:?}");
    assert_eq!(run.out.chars().count(), 501, "500 characters and the end of the line: {run:?}");
}

#[test]
fn a_run_directory_holds_what_it_says() {
    let place = Place::new();
    place.tiny_run("run");
    let names: BTreeSet<String> = fs::read_dir(place.path("run"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    let expected = [
        ".lock",
        "best.safetensors",
        "config.toml",
        "last.safetensors",
        "metrics.jsonl",
        "previous.safetensors",
    ];
    assert_eq!(names, expected.map(String::from).into());

    let metrics = String::from_utf8(place.read("run/metrics.jsonl")).unwrap();
    let lines: Vec<serde_json::Value> =
        metrics.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "{metrics}");
    for (i, line) in lines.iter().enumerate() {
        assert_eq!(line["step"], i + 1);
        for key in ["train_loss", "val_loss", "lr", "grad_norm", "tokens_per_s"] {
            assert!(line[key].is_number(), "{key} in {line}");
        }
        assert!(line["weights"].as_str().is_some_and(|hash| hash.len() == 16), "{line}");
        assert_eq!(line.as_object().unwrap().len(), 7, "{line}");
    }

    // The resolved configuration gives the same run.
    place.weft("train tiny.txt --config run/config.toml -o again").ok();
    assert_same(&place, "run", "again");
    assert_eq!(place.read("run/config.toml"), place.read("again/config.toml"));
}

#[test]
fn threads_evaluations_and_names_do_not_show_in_the_model() {
    let place = Place::new();
    place.weft(&format!("train {EXACT} --max-iters 60 -o one --threads 1")).ok();
    for threads in [2, 4] {
        place.weft(&format!("train {EXACT} --max-iters 60 -o more/{threads} --threads {threads} -q")).ok();
        assert_same(&place, "one", &format!("more/{threads}"));
    }
    place.weft(&format!("train {EXACT} --max-iters 60 -o seldom --eval-interval 60")).ok();
    assert_eq!(files(&place, "one")[0], files(&place, "seldom")[0], "the evaluation interval shows");
}

#[test]
fn a_run_in_two_parts_is_the_same_run() {
    let place = Place::new();
    place.weft(&format!("train {EXACT} --max-iters 60 -o straight")).ok();
    place.weft(&format!("train {EXACT} --max-iters 30 -o parts --threads 1")).ok();
    let resumed = place.weft("train --resume parts --max-iters 60 --threads 2").ok();
    assert_eq!(resumed.out.lines().count(), 20, "{resumed:?}");
    assert_same(&place, "straight", "parts");
    let steps = String::from_utf8(place.read("parts/metrics.jsonl")).unwrap().lines().count();
    assert_eq!(steps, 60, "updates in metrics.jsonl");

    // Nothing is left to do: the same files, the same samples.
    let again = place.weft("train --resume parts").ok();
    assert_eq!(again.out, resumed.out);
    assert_same(&place, "straight", "parts");
}

#[test]
fn a_damaged_checkpoint_is_noticed_and_the_one_before_used() {
    let place = Place::new();
    place.weft(&format!("train {EXACT} --max-iters 60 -o run")).ok();
    let whole = files(&place, "run");
    let mut damaged = whole[0].clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 4;
    place.write("run/last.safetensors", &damaged);
    let run = place.weft("train --resume run --max-iters 54").ok();
    assert!(run.err.contains("warning") && run.err.contains("checksum"), "{run:?}");
    // It was saved once: had that failed, the checkpoint before would still be the only one to go on from.
    place.weft("inspect run/previous.safetensors").ok();
    place.weft("train --resume run --max-iters 60").ok();
    assert!(files(&place, "run") == whole, "not the same run");

    place.write("run/last.safetensors", &damaged);
    place.write("run/previous.safetensors", &damaged[..100]);
    place.weft("train --resume run").refused(1, "no checkpoint in `run` can be used");
}

#[test]
fn a_run_stopped_before_its_first_checkpoint_begins_again() {
    let place = Place::new();
    place.weft(&format!("train {EXACT} --max-iters 60 -o run")).ok();
    let whole = files(&place, "run");
    // What is there just after the configuration, and just before the first `last`.
    for names in [&["config.toml"][..], &["config.toml", "metrics.jsonl", "best.safetensors"]] {
        for name in names {
            place.write(&format!("stopped/{name}"), place.read(&format!("run/{name}")));
        }
        let run = place.weft("train --resume stopped").ok();
        assert!(run.err.contains("warning: stopped has no checkpoint yet"), "{run:?}");
        assert!(files(&place, "stopped") == whole, "not the same run");
        fs::remove_dir_all(place.path("stopped")).unwrap();
    }
}

#[test]
fn a_list_of_kept_files_that_cannot_be_read_is_not_taken_for_an_empty_one() {
    let place = Place::new();
    place.tiny_run("run");
    fs::create_dir(place.path("run/kept.json")).unwrap();
    place.weft("train --resume run --max-iters 3 --keep 1").refused(1, "run/kept.json");
}

#[test]
fn a_changed_configuration_is_refused() {
    let place = Place::new();
    place.tiny_run("run");
    let config = String::from_utf8(place.read("run/config.toml")).unwrap();
    for (line, changed, expected) in [
        ("n_layer = 1", "n_layer = 3", "n_layer is 3 in run/config.toml and 1 in the run"),
        ("seed = 1337", "seed = 7", "seed is 7 in run/config.toml and 1337 in the run"),
    ] {
        assert!(config.contains(line), "{config}");
        place.write("run/config.toml", config.replace(line, changed));
        place.weft("train --resume run").refused(2, expected);
    }
    place.write("run/config.toml", config.replace("max_iters = 2", "max_iters = 3"));
    place.weft("train --resume run").ok();
}

#[test]
fn a_run_is_not_overwritten_unasked() {
    let place = Place::new();
    place.tiny_run("run");
    let before = files(&place, "run");
    place.weft(&format!("train tiny.txt -o run {TINY}")).refused(1, "--force");
    assert!(files(&place, "run") == before, "overwritten");
    place.weft(&format!("train tiny.txt -o run --force --seed 7 --max-iters 2 {TINY}")).ok();
    assert!(files(&place, "run") != before, "not overwritten");
}

#[test]
fn changed_data_are_refused_unless_accepted() {
    let place = Place::new();
    place.tiny_run("run");
    place.write("tiny.txt", "emma\nolivia\nava\nmia\namelia\nnoah\nliam\nella\nleo\nnoel\n");
    place.weft("train --resume run --max-iters 4").refused(1, "--force");
    place.weft("train --resume run --max-iters 4 --force").ok();
    fs::remove_file(place.path("tiny.txt")).unwrap();
    place.weft("train --resume run --max-iters 6").refused(1, "tiny.txt");
}

/// Waits until training is under way, by the first line of its metrics or the first plain line of progress.
#[cfg(unix)]
fn interrupt(place: &Place, signal: &str, expected: i32) {
    use std::io::{BufRead as _, BufReader};
    let mut command =
        place.command(format!("train {EXACT} --max-iters 1M --eval-interval 1M -o run").split(' '));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(|line| line.unwrap());
    // The lock and the plan are there; the signals are caught a moment later, when the first files of training are.
    lines.find(|line| line.contains("run in")).expect("training begins");
    while !place.path("run/metrics.jsonl").exists() {
        std::thread::yield_now();
    }
    let kill = std::process::Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(kill.success(), "kill");
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().unwrap().code(), Some(expected), "{rest:?}");
    assert!(rest.iter().any(|line| line.contains("--resume run")), "{rest:?}");
    assert!(place.path("run/last.safetensors").exists(), "no checkpoint");
}

#[cfg(unix)]
#[test]
fn a_signal_stops_after_a_step_with_a_checkpoint() {
    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        let place = Place::new();
        interrupt(&place, signal, code);
        place.weft("train --resume run --max-time 0.01").ok();
    }
}

#[test]
fn a_profile_says_where_the_time_went() {
    let place = Place::new();
    place.write("tiny.txt", "emma\nolivia\nava\nmia\namelia\nnoah\nliam\nella\nleo\nnora\n");
    let run = place.weft(&format!("train tiny.txt --profile --quiet --max-iters 2 {TINY}")).ok();
    for expected in ["where the time of 2 updates went", "linear backward", "% of FMA"] {
        assert!(run.err.contains(expected), "no `{expected}`: {}", run.err);
    }
    assert!(!run.out.contains("linear"), "{}", run.out);
}

#[test]
fn two_trainers_do_not_share_a_directory() {
    let place = Place::new();
    place.tiny_run("run");
    let lock = weft_model::files::DirLock::acquire(place.path("run")).unwrap();
    place.weft("train --resume run").refused(1, &format!("process {}", std::process::id()));
    drop(lock);
    place.weft("train --resume run").ok();
}

#[cfg(unix)]
#[test]
fn a_reader_that_leaves_is_no_error_and_a_full_device_is() {
    let place = Place::new();
    place.tiny_run("run");
    let closed = {
        let mut child = place
            .command(["sample", "run", "-n", "5000"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        Run::from(child.wait_with_output().unwrap())
    };
    assert_eq!((closed.code, closed.err.as_str()), (Some(0), ""));
    if let Ok(full) = fs::File::options().write(true).open("/dev/full") {
        let output = place.command(["sample", "run"]).stdout(full).output().unwrap();
        Run::from(output).refused(1, "space");
    }
}

#[test]
fn keep_leaves_the_newest_and_touches_no_other_file() {
    let place = Place::new();
    place.tiny_run("warm-up");
    place.write("run/step-5.safetensors", "mine");
    place.write("run/step-notes.txt", "mine too");
    let train = |more: &str| place.weft(&format!("train tiny.txt -q -o run {TINY} --eval-interval 2 {more}"));
    train("--max-iters 8 --keep 2").ok();
    let kept = |name: &str| place.path(&format!("run/{name}.safetensors")).exists();
    assert_eq!(["step-2", "step-4", "step-6", "step-8"].map(kept), [false, false, true, true]);
    assert_eq!(place.read("run/step-8.safetensors"), place.read("run/last.safetensors"));
    // Kept files can be used, and are remembered: the run goes on keeping two.
    place.weft("sample run/step-6.safetensors -n 1").ok();
    place.weft("train -q --resume run --max-iters 10").ok();
    assert_eq!(["step-6", "step-8", "step-10"].map(kept), [false, true, true]);
    // Where a file of somebody else has the name, nothing is overwritten.
    place.write("run/step-12.safetensors", "mine");
    place.weft("train -q --resume run --max-iters 12").refused(1, "in the way");
    place.weft("train -q --resume run --max-iters 12 --keep 0").ok();
    // With the newer ones damaged, the run goes on from a kept one.
    for file in ["run/last.safetensors", "run/previous.safetensors"] {
        place.write(file, "damaged");
    }
    let resumed = place.weft("train --resume run --max-iters 14 --eval-interval 14").ok();
    assert!(resumed.err.contains("at step 10"), "{resumed:?}");
    // A new run in its place takes away what the old one made.
    train("--max-iters 2 --force").ok();
    assert_eq!(["step-8", "step-10"].map(kept), [false, false]);
    for (file, text) in
        [("step-5.safetensors", "mine"), ("step-12.safetensors", "mine"), ("step-notes.txt", "mine too")]
    {
        assert_eq!(place.read(&format!("run/{file}")), text.as_bytes(), "{file}");
    }
}

#[test]
fn a_limit_of_time_is_enough_however_many_updates_there_may_be() {
    let place = Place::new();
    place.tiny_run("warm-up");
    let run = place.weft(&format!("train tiny.txt -q -o run --max-iters 1e18 --max-time 0.3 {TINY}")).ok();
    assert_eq!(run.out.lines().count(), 20, "{run:?}");
}
