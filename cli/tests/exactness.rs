//! The same bits, whatever does not belong to a run: RELIABILITY "The same bits", through the binary.

mod common;

use std::thread;

use common::{Place, Run};

/// 300 updates with dropout and accumulation.
const CONFIG: &str = "
[model]
n_layer = 1
n_head = 2
n_embd = 8
dropout = 0.1
[train]
batch_size = 4
grad_accum = 2
max_iters = 300
lr_decay_iters = 300
warmup_iters = 20
eval_interval = 60
";

fn place() -> Place {
    let place = Place::new();
    let names: Vec<String> = (0..200).map(|i| format!("an{}da{}", "e".repeat(i % 5), i % 17)).collect();
    place.write("names.txt", names.join("\n"));
    place.write("run.toml", CONFIG);
    place
}

/// Trains into `dir`, with more arguments.
fn train(place: &Place, dir: &str, more: &str) -> Run {
    place.weft(&format!("train names.txt -q -o {dir} --config run.toml {more}")).ok()
}

/// That two runs left the same files.
#[track_caller]
fn same(place: &Place, a: &str, b: &str) {
    for file in ["last.safetensors", "best.safetensors"] {
        let verified = place.weft(&format!("verify {a}/{file} {b}/{file}")).ok();
        assert!(verified.out.starts_with("the same: "), "{verified:?}");
        let equal = place.read(&format!("{a}/{file}")) == place.read(&format!("{b}/{file}"));
        assert!(equal, "{file} of {a} and {b} differ outside of their tensors");
    }
}

#[test]
fn the_same_for_two_runs_and_any_number_of_threads_under_load() {
    let place = place();
    // All at once, on fewer processors.
    thread::scope(|scope| {
        for threads in [1, 2, 3, 4, 8] {
            let place = &place;
            scope.spawn(move || train(place, &format!("t{threads}"), &format!("--threads {threads}")));
        }
    });
    train(&place, "again", "");
    for other in ["t2", "t3", "t4", "t8", "again"] {
        same(&place, "t1", other);
    }
    let seeded = train(&place, "seeded", "--seed 7");
    place.weft("verify t1 seeded").refused(1, "first in `");
    assert_ne!(seeded.out, "", "no samples");
}

#[test]
fn the_same_stopped_and_resumed_anywhere() {
    let place = place();
    train(&place, "straight", "");
    // At step 1; at an evaluation; in the middle of an epoch; ten times. Each time with another number of threads.
    let cuts: [&[u32]; 4] = [&[1], &[60], &[137], &[1, 2, 3, 59, 60, 61, 100, 200, 298, 299]];
    for (i, cut) in cuts.iter().enumerate() {
        let dir = format!("cut{i}");
        train(&place, &dir, &format!("--max-iters {}", cut[0]));
        for (k, step) in cut[1..].iter().chain([&300]).enumerate() {
            let threads = 1 + k % 3;
            place.weft(&format!("train -q --resume {dir} --max-iters {step} --threads {threads}")).ok();
        }
        let last = format!("{dir}/last.safetensors");
        let verified = place.weft(&format!("verify straight/last.safetensors {last}")).ok();
        assert!(verified.out.starts_with("the same: "), "{cut:?}: {verified:?}");
        assert!(place.read("straight/last.safetensors") == place.read(&last), "{cut:?}: the files differ");
    }
}

#[test]
fn unchanged_by_what_is_watched_and_where_it_runs() {
    let place = place();
    train(&place, "plain", "");
    train(&place, "evaluated", "--eval-interval 7");
    train(&place, "kept", "--keep 3");
    train(&place, "profiled", "--profile");
    train(&place, "elsewhere/deep/down", "");
    place.weft("train names.txt -o talking --config run.toml").ok();
    let mut command = place.command("train names.txt -q -o abroad --config run.toml".split_whitespace());
    command.envs([
        ("LC_ALL", "tr_TR.UTF-8"),
        ("LANG", "de_DE"),
        ("TZ", "Pacific/Kiritimati"),
        ("HOME", "/nowhere"),
    ]);
    Run::of(command).ok();
    for other in ["kept", "profiled", "elsewhere/deep/down", "talking", "abroad"] {
        same(&place, "plain", other);
    }
    // How often it is evaluated decides which model is the best one, and nothing else.
    assert!(place.read("plain/last.safetensors") == place.read("evaluated/last.safetensors"));
    let text = |name: &str| String::from_utf8(place.read(name)).unwrap();
    // Evaluation lines say the same without any file.
    let hashes = |dir: &str| -> Vec<String> {
        let log = text(&format!("{dir}/metrics.jsonl"));
        let found = log
            .lines()
            .filter_map(|line| line.split_once("\"weights\":\"").map(|(_, rest)| rest[..16].into()));
        found.collect()
    };
    assert_eq!(hashes("plain").len(), 5);
    assert_eq!(hashes("plain"), hashes("talking"));
    let verified = place.weft("verify plain/last.safetensors kept/last.safetensors").ok();
    assert!(verified.out.contains(hashes("plain").last().unwrap()), "{verified:?}");
}

#[test]
fn files_hold_nothing_of_when_and_where() {
    let place = place();
    train(&place, "run", "--keep 1");
    let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    let here = place.path("").to_string_lossy().into_owned();
    let year = "\"20";
    for entry in std::fs::read_dir(place.path("run")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        for foreign in [host.trim(), here.trim_end_matches('/'), year] {
            let is_there = foreign.len() > 2 && text.contains(foreign);
            assert!(!is_there, "{} holds {foreign:?}", path.display());
        }
    }
}

#[test]
fn a_sample_depends_on_its_number_and_the_settings_alone() {
    let place = place();
    train(&place, "run", "");
    let all = place.weft("sample run -n 40 --threads 1").ok().out;
    for line in [
        "sample run -n 40 --threads 3",
        "sample run -n 40 -q",
        "sample run/best.safetensors -n 40 --threads 8",
    ] {
        assert_eq!(place.weft(line).ok().out, all, "{line}");
    }
    let few = place.weft("sample run -n 7").ok().out;
    assert!(all.starts_with(&few), "the first of many are not the few:\n{few}\n{all}");
    assert_ne!(place.weft("sample run -n 40 --seed 8").ok().out, all);
}

#[test]
fn verify_says_the_first_difference() {
    let place = place();
    train(&place, "a", "");
    place.weft("train names.txt -q -o short --config run.toml --max-iters 299").ok();
    let shorter = place.weft("verify a/last.safetensors short/last.safetensors");
    assert!(shorter.err.contains("is of step 300"), "{shorter:?}");
    shorter.refused(1, "first in `");
    place.tiny_run("other");
    place.weft("verify a other").refused(1, "different models");
    place.weft("verify a missing").refused(1, "missing");
    // The state of the optimiser is compared where both have it.
    let both = place.weft("verify a/last.safetensors a/best.safetensors");
    assert!(both.err.contains("only `a/last.safetensors` holds the state of the optimiser"), "{both:?}");
}
