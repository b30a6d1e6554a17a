//! Everything that is refused is refused with its exit code and a message, never with a panic.

mod common;

use std::fs;

use common::{Place, Run, TINY};

/// What is wrong on the command line or in a configuration: exit code 2.
#[test]
fn wrong_usage_is_refused_before_any_work() {
    let place = Place::new();
    place.tiny_run("run");
    place.write("unknown.toml", "[model]\nn_lyer = 2\n");
    place.write("section.toml", "[modle]\nn_layer = 2\n");
    place.write("twice.toml", "[model]\nn_layer = 2\nn_layer = 3\n");
    place.write("type.toml", "[model]\nn_layer = \"two\"\n");
    place.write("value.toml", "[model]\nnorm = \"batch\"\n");
    place.write("negative.toml", "[train]\nbatch_size = -1\n");
    place.write("divide.toml", "[model]\nn_head = 3\n");
    place.write("broken.toml", "[model\n");
    place.write("binary.toml", [0xff, 0xfe, 0]);
    fs::File::create(place.path("huge.toml")).unwrap().set_len(1 << 30).unwrap();
    let cases = [
        ("", "name what to do"),
        ("tarin", "train"),
        ("train --n-lyer 3", "--n-layer"),
        ("train --n-layer", "--n-layer"),
        ("train --n-layer two", "whole number"),
        ("train --n-layer 1.5", "whole number"),
        ("train --n-layer -1", "at least 0"),
        ("train --n-layer 0", "n_layer is 0"),
        ("train --n-layer 18446744073709551616", "at most"),
        ("train --n-layer 99999999", "n_layer"),
        ("train --n-head 3", "n_head 3 does not divide n_embd"),
        ("train --n-head 4 --n-kv-head 3", "n_kv_head 3 does not divide"),
        ("train --n-embd 12 --n-head 4 --position rotary", "odd"),
        ("train --norm batch", "layer, rms"),
        ("train --position sine", "rotary"),
        ("train --optimizer adam", "adamw"),
        ("train --dropout 1", "dropout is 1"),
        ("train --dropout nan", "finite"),
        ("train --dropout -0.1", "dropout is -0.1"),
        ("train --lr inf", "finite"),
        ("train --lr -1", "learning_rate is -1"),
        ("train --lr 1e-3 --min-lr 1", "min_lr 1 is above learning_rate"),
        ("train --lr 1e999", "finite"),
        ("train --beta1 1", "beta1 is 1"),
        ("train --eps 0", "eps is 0"),
        ("train --max-iters 0", "max_iters is 0"),
        ("train --eval-interval 0", "eval_interval is 0"),
        ("train --batch-size 0", "batch_size is 0"),
        ("train --grad-accum 0", "grad_accum is 0"),
        ("train --max-time soon", "time"),
        ("train --max-time -1", "max_time is -1"),
        ("train --seed -1", "at least 0"),
        ("train --threads 0", "between 1 and"),
        ("train --threads 9999999", "between 1 and"),
        ("train --split 0.8/0.2", "0.8/0.1/0.1"),
        ("train --split 0.8/0.1/0.2", "0.8/0.1/0.1"),
        ("train --split a/b/c", "0.8/0.1/0.1"),
        ("train --format csv", "lines, text"),
        ("train --format text", "built-in names"),
        ("train --tied --no-tied", "cannot be used with"),
        ("train --gated=perhaps", "true, false"),
        ("train --resume run -o other", "cannot be used with"),
        ("train tiny.txt more.txt", "more.txt"),
        ("train --config missing.toml", "missing.toml"),
        ("train --config unknown.toml", "line 2: unknown key `n_lyer`\n  did you mean `n_layer`?"),
        ("train --config section.toml", "did you mean `model`?"),
        ("train --config twice.toml", "line 3"),
        ("train --config type.toml", "line 2"),
        ("train --config value.toml", "line 2"),
        ("train --config negative.toml", "line 2"),
        ("train --config divide.toml", "n_head 3 does not divide"),
        ("train --config broken.toml", "line 1"),
        ("train --config binary.toml", "UTF-8"),
        ("train --config huge.toml", "bytes"),
        ("train --config .", "not a file"),
        ("train --resume run --n-layer 3", "n_layer is 3 here and 1 in the run"),
        ("train --resume run --seed 7", "seed is 7 here and 1337 in the run"),
        ("train --resume run --lr 1 --beta1 0.5", "(and 1 more)"),
        ("sample", "MODEL|DIR"),
        ("sample run --temperature -1", "temperature is -1"),
        ("sample run --temperature nan", "finite"),
        ("sample run --top-p 0", "top_p is 0"),
        ("sample run --top-p 1.1", "top_p is 1.1"),
        ("sample run --min-p 2", "min_p is 2"),
        ("sample run --top-k -1", "at least 0"),
        ("sample run -n -1", "at least 0"),
        ("eval run --split dev", "train, val, test"),
        ("attend run", "TEXT"),
        ("completions tcsh", "bash"),
    ];
    for (line, expected) in cases {
        eprintln!("weft {line}");
        place.weft(line).refused(2, expected);
    }
    assert!(!place.path("runs").exists(), "a run was begun");
}

/// What is well-formed and cannot be done: exit code 1.
#[test]
fn what_cannot_be_done_is_named() {
    let place = Place::new();
    place.tiny_run("run");
    place.write("empty.txt", "");
    place.write("white.txt", " \n\t\n");
    place.write("nul.txt", "anna\nbe\0rta\n");
    place.write("latin.txt", b"anna\nb\xe9rta\n");
    place.write("utf16.txt", "anna\nberta\n".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>());
    place.write("one.txt", "a");
    place.write("strange.txt", "zoë\n");
    fs::create_dir(place.path("empty")).unwrap();
    place.write("file-in-the-way", "");
    place.write("pickle.safetensors", b"\x80\x02}q\x00.");
    place.write("gguf.safetensors", b"GGUF\x03\0\0\0");
    place.write("page.safetensors", "<!DOCTYPE html><html></html>");
    place.write("lfs.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n");
    place.write("nothing.safetensors", "");
    let best = place.read("run/best.safetensors");
    place.write("short.safetensors", &best[..best.len() - 1]);
    let mut flipped = best.clone();
    *flipped.last_mut().unwrap() ^= 1;
    place.write("flipped.safetensors", flipped);
    place.write("alone/best.safetensors", &best);
    let cases = [
        ("train missing.txt", "missing.txt"),
        ("train .", "directory"),
        ("train /dev/zero", "device"),
        ("train empty.txt", "empty"),
        ("train white.txt", "white space"),
        ("train nul.txt", "NUL byte at offset 7"),
        ("train latin.txt", "offset 6"),
        ("train utf16.txt", "UTF-16"),
        ("train one.txt --format text", "1 character"),
        ("train tiny.txt -o run", "already holds a run"),
        ("train tiny.txt -o file-in-the-way", "file-in-the-way"),
        ("train tiny.txt -o file-in-the-way/run", "file-in-the-way"),
        ("train tiny.txt --n-embd 1048576 --n-inner 1048576 --n-layer 1000", "memory"),
        ("train tiny.txt --n-embd 65536 --n-inner 65536", "memory"),
        ("train --resume missing", "missing"),
        ("train --resume empty", "holds no run"),
        ("train --resume run/best.safetensors", "run/best.safetensors"),
        ("train strange.txt --resume run", "not the file that the run was trained on"),
        ("sample missing", "missing"),
        ("sample empty", "holds no run"),
        ("sample /dev/zero", "device"),
        ("sample pickle.safetensors", "not a safetensors file"),
        ("sample gguf.safetensors", "GGUF"),
        ("sample page.safetensors", "HTML"),
        ("sample lfs.safetensors", "Git LFS"),
        ("sample nothing.safetensors", "empty"),
        ("sample short.safetensors", "end is missing"),
        ("sample flipped.safetensors", "checksum"),
        ("sample run --prompt Emma", "'E' (U+0045) at position 1"),
        ("eval run strange.txt", "'z'"),
        ("eval run missing.txt", "missing.txt"),
        ("eval alone", "data of `alone/best.safetensors` are not known"),
        ("eval alone/best.safetensors", "are not known"),
        ("attend run emmaolivia", "reads 8 at most"),
        ("attend run eXa", "'X' (U+0058) at position 2"),
        ("gradcheck alone", "are not known"),
        ("inspect tiny.txt", "not a safetensors file"),
    ];
    for (line, expected) in cases {
        eprintln!("weft {line}");
        place.weft(line).refused(1, expected);
    }
}

#[test]
fn control_characters_in_arguments_are_escaped() {
    let place = Place::new();
    place.run(["train", "--\u{1b}[31mred\nline"]).refused(2, "\\u{1b}[31m");
    place.run(["train", "--n-layer=\u{1b}[2J"]).refused(2, "\\u{1b}[2J");
    place.run(["train", "a\u{1b}[2J\nb.txt"]).refused(1, "a\\u{1b}[2J\\nb.txt");
    place.tiny_run("run");
    place.run(["sample", "run", "--prompt", "a\u{7}"]).refused(1, "U+0007");
}

#[cfg(unix)]
#[test]
fn arguments_that_are_not_utf_8_are_refused_or_paths() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStringExt as _;
    let place = Place::new();
    let strange = std::ffi::OsString::from_vec(b"na\xffmes".to_vec());
    place.run([OsStr::new("train"), OsStr::new("--n-layer"), &strange]).refused(2, "UTF-8");
    place.run([OsStr::new("train"), &strange]).refused(1, "na");
}

#[cfg(unix)]
#[test]
fn a_pipe_as_data_is_refused_without_waiting() {
    let place = Place::new();
    let made = std::process::Command::new("mkfifo").arg(place.path("pipe")).status().unwrap();
    assert!(made.success(), "mkfifo");
    place.weft("train pipe").refused(1, "pipe");
    place.weft("train --config pipe").refused(2, "not a file");
}

#[test]
fn an_unknown_simd_level_is_refused() {
    let place = Place::new();
    let mut command = place.command(["sample", "run"]);
    command.env("WEFT_SIMD", "sse9");
    Run::of(command).refused(2, "scalar, avx2, avx512");
}

#[test]
fn small_data_work_from_one_line_up() {
    for text in ["a\n", "a", "ab\ncd\n", "only one line without end", "👩‍👩‍👧\nשלום\ne\u{301}\n"]
    {
        let place = Place::new();
        place.write("data.txt", text);
        let run = place.weft(&format!("train data.txt --format lines --max-iters 3 {TINY}")).ok();
        assert_eq!(run.out.lines().count(), 20, "{text:?}: {run:?}");
    }
    let place = Place::new();
    place.write("data.txt", "ab");
    let run = place.weft(&format!("train data.txt --format text --max-iters 3 {TINY}")).ok();
    assert!(run.err.contains("warning"), "{run:?}");
}
