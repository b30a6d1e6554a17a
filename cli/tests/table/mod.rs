//! The promise about bad input, row by row and item by item.

use std::collections::BTreeMap;

use serde_json::Value;
use weft_model::safetensors::{Checksum, Data, SafeTensors, TensorView, to_bytes};

/// An item of a row: its name and its cases.
pub(crate) type Item<Case> = (&'static str, &'static [Case]);

/// A command line, and a part of its message.
pub(crate) type Line = (&'static str, &'static str);
/// The text of a configuration, and a part of the message.
pub(crate) type Toml = (&'static str, &'static str);
/// The flags behind a data file, its bytes, and a part of what is said about it.
pub(crate) type Text = (&'static str, &'static [u8], &'static str);
/// Arguments, and a part of the message.
pub(crate) type Args = (&'static [&'static str], &'static str);
/// The bytes of a file, and a part of the message.
pub(crate) type Bytes = (&'static [u8], &'static str);
/// What is done to the bytes of a model file, and a part of the message.
pub(crate) type Damage = (fn(&mut Vec<u8>), &'static str);
/// What is done to a model file that is then written anew, and a part of the message.
pub(crate) type Change = (fn(&mut Parts), &'static str);

/// What is wrong on the command line: exit code 2.
pub(crate) const FLAGS: &[Item<Line>] = &[
    (
        "unknown",
        &[
            ("", "name what to do"),
            ("tarin", "similar subcommand exists: 'train'"),
            ("evaluate run", "'eval'"),
            ("frobnicate", "unrecognized subcommand 'frobnicate'"),
            ("--thread 3 train", "similar argument exists: '--threads'"),
            ("train --n-lyer 3", "similar argument exists: '--n-layer'"),
            ("train --learningrate 3", "similar argument exists: '--learning-rate'"),
            ("train -x", "unexpected argument '-x'"),
            ("sample run --temprature 1", "'--temperature'"),
            ("eval run --splt val", "'--split'"),
            ("inspect run --jsn", "'--json'"),
            ("attend run emma --jsn", "'--json'"),
            ("gradcheck --quite", "'--quiet'"),
            ("bench --qick", "'--quick'"),
            ("verify run run --thread 1", "'--threads'"),
            ("train tiny.txt more.txt", "more.txt"),
        ],
    ),
    (
        "unknown value",
        &[
            ("train --norm lyer", "similar value exists: 'layer'"),
            ("train --norm batch", "layer, rms"),
            ("train --model gpt", "transformer, bigram"),
            ("train --position sine", "learned, rotary, none"),
            ("train --position rotry", "'rotary'"),
            ("train --activation gelu", "gelu-tanh, gelu-erf, silu, relu2"),
            ("train --attention dott", "'dot'"),
            ("train --schedule cos", "cosine, linear, constant"),
            ("train --optimizer adam", "'adamw'"),
            ("train --precision fp32", "'f32'"),
            ("train --format csv", "lines, text"),
            ("train --gated=perhaps", "true, false"),
            ("sample run --precision half", "f32, bf16"),
            ("eval run --split dev", "train, val, test"),
            ("bench --only walk small", "--only"),
            ("completions bsh", "'bash'"),
        ],
    ),
    (
        "missing value",
        &[
            ("train --n-layer", "--n-layer"),
            ("train --resume", "--resume"),
            ("train --config", "--config"),
            ("sample", "MODEL|DIR"),
            ("inspect", "MODEL|DIR"),
            ("eval", "MODEL|DIR"),
            ("attend run", "TEXT"),
            ("verify run", "MODEL|DIR"),
            ("sample run --prompt", "--prompt"),
        ],
    ),
    (
        "conflicting",
        &[
            ("train --tied --no-tied", "cannot be used with"),
            ("train --resume run -o other", "cannot be used with"),
            ("train --n-layer 1 --n-layer 2", "multiple times"),
            ("train --format text", "built-in names"),
            ("train --n-head 3", "n_head 3 does not divide n_embd"),
            ("train --n-head 4 --n-kv-head 3", "n_kv_head 3 does not divide"),
            ("train --n-embd 12 --n-head 4 --position rotary", "odd"),
            ("train --lr 1e-3 --min-lr 1", "min_lr 1 is above learning_rate"),
            ("train --resume run --n-layer 3", "n_layer is 3 here and 1 in the run"),
            ("train --resume run --seed 7", "seed is 7 here and 1337 in the run"),
            ("train --resume run --lr 1 --beta1 0.5", "(and 1 more)"),
        ],
    ),
    (
        "not a number",
        &[
            ("train --n-layer two", "whole number"),
            ("train --n-layer 1.5", "whole number"),
            ("train --n-layer 0x10", "whole number"),
            ("train --lr fast", "must be a number"),
            ("train --max-time soon", "time"),
            ("train --split a/b/c", "0.8/0.1/0.1"),
        ],
    ),
    (
        "NaN and infinite",
        &[
            ("train --dropout nan", "finite"),
            ("train --lr inf", "finite"),
            ("train --lr 1e999", "finite"),
            ("train --weight-decay=-inf", "finite"),
            ("train --max-time inf", "time"),
            ("train --max-time 1e308h", "max_time"),
            ("train --split nan/0.5/0.5", "0.8/0.1/0.1"),
            ("train --seed nan", "whole number"),
        ],
    ),
    (
        "negative",
        &[
            ("train --n-layer -1", "at least 0"),
            ("train --dropout -0.1", "dropout is -0.1"),
            ("train --lr -1", "learning_rate is -1"),
            ("train --max-time -1", "max_time is -1"),
            ("train --seed -1", "at least 0"),
            ("train --keep -1", "at least 0"),
            ("train --split 1.1/-0.1/0", "0.8/0.1/0.1"),
        ],
    ),
    (
        "zero",
        &[
            ("train --n-layer 0", "n_layer is 0"),
            ("train --n-head 0", "n_head is 0"),
            ("train --block-size 0", "block_size is 0"),
            ("train --eps 0", "eps is 0"),
            ("train --max-iters 0", "max_iters is 0"),
            ("train --eval-interval 0", "eval_interval is 0"),
            ("train --batch-size 0", "batch_size is 0"),
            ("train --grad-accum 0", "grad_accum is 0"),
            ("train --threads 0", "between 1 and"),
            ("train --split 0/0.5/0.5", "0.8/0.1/0.1"),
        ],
    ),
    (
        "too large",
        &[
            ("train --n-layer 18446744073709551616", "at most"),
            ("train --n-layer 99999999", "n_layer is 99999999"),
            ("train --n-layer 100000 --n-embd 8", "at most 1024"),
            ("train --block-size 1e9", "block_size is 1000000000"),
            ("train --batch-size 1M", "is 1000000 rows for one update: it must be at most 65536"),
            ("train --grad-accum 1M --batch-size 1", "is 1000000 rows for one update"),
            ("train --grad-accum 1e12", "grad_accum is 1000000000000"),
            ("train --n-embd 1M --n-head 1", "n_inner is 4000000"),
            ("train --position rotary --block-size 1M --n-head 1", "angles"),
            ("train --dropout 1", "dropout is 1"),
            ("train --beta1 1", "beta1 is 1"),
            ("train --threads 9999999", "between 1 and"),
            ("train --split 0.8/0.1/0.2", "0.8/0.1/0.1"),
            ("train --split 0.8/0.2", "0.8/0.1/0.1"),
            ("train --seed 2e19", "at most"),
        ],
    ),
];

/// What is wrong in a configuration: exit code 2.
pub(crate) const CONFIGURATION: &[Item<Toml>] = &[
    (
        "unknown key",
        &[
            ("[model]\nn_lyer = 2\n", "line 2: unknown key `n_lyer`\n  did you mean `n_layer`?"),
            ("[train]\n\nbatchsize = 2\n", "line 3: unknown key `batchsize`\n  did you mean `batch_size`?"),
            ("[data]\nfomat = \"lines\"\n", "did you mean `format`?"),
            ("[modle]\nn_layer = 2\n", "line 1: unknown key `modle`\n  did you mean `model`?"),
            ("n_layer = 2\n", "unknown key `n_layer`\n  it belongs below [model]"),
            ("[model]\nseed = 1\n", "unknown key `seed`\n  it belongs below [train]"),
            ("[model]\nzzz = 1\n", "line 2: unknown key `zzz`"),
            ("[model]\n\"n\\u001b[2J\" = 1\n", "n\\u{1b}[2J"),
        ],
    ),
    (
        "unknown value",
        &[
            ("[model]\nnorm = \"batch\"\n", "line 2: unknown value `batch`, expected `layer` or `rms`"),
            ("[model]\nposition = \"rotry\"\n", "did you mean `rotary`?"),
            ("[model]\nactivation = \"gelu\"\n", "did you mean `gelu-erf`?"),
            ("[train]\noptimizer = \"adam\"\n", "did you mean `adamw`?"),
            ("[data]\nformat = \"line\"\n", "did you mean `lines`?"),
            ("[model]\nnorm = \"\\u001b[2J\\n\"\n", "\\u{1b}[2J"),
        ],
    ),
    (
        "duplicate",
        &[
            ("[model]\nn_layer = 2\nn_layer = 3\n", "line 3: duplicate key"),
            ("[model]\nn_layer = 2\n[model]\nn_head = 2\n", "line 3: duplicate key"),
            ("[train]\nlr = 1\nlearning_rate = 1\n", "duplicate field"),
        ],
    ),
    (
        "wrong type",
        &[
            ("[model]\nn_layer = \"two\"\n", "line 2: invalid type: string \"two\", expected a whole number"),
            ("[model]\nn_layer = 1.5\n", "expected a whole number"),
            ("[model]\nn_layer = [1]\n", "line 2"),
            ("[model]\ngated = 1\n", "expected a boolean"),
            ("[model]\ndropout = \"0.1\"\n", "expected a number"),
            ("[data]\nsplit = 0.8\n", "line 2: invalid type"),
            ("[data]\nfile = 3\n", "expected a string"),
            ("model = 3\n", "line 1: `model` is a section: write [model] above its keys"),
            ("[[train]]\nseed = 1\n", "`train` is a section"),
            ("data = [\"tiny.txt\", \"lines\"]\n", "`data` is a section"),
        ],
    ),
    (
        "a value that cannot be",
        &[
            ("[model]\nn_head = 3\n", "n_head 3 does not divide n_embd 64"),
            ("[train]\nbatch_size = -1\n", "line 2"),
            ("[train]\nbatch_size = 1000000\n", "1000000 rows for one update"),
            ("[train]\nlearning_rate = nan\n", "learning_rate is NaN"),
            ("[train]\nlearning_rate = inf\n", "learning_rate is inf"),
            ("[train]\nmax_iters = 99999999999999999999\n", "line 2"),
            ("[data]\nsplit = \"0.8/0.3/0.1\"\n", "the sum 1"),
        ],
    ),
    (
        "not TOML",
        &[
            ("[model\n", "line 1"),
            ("n_layer: 2\n", "line 1"),
            ("{\"model\": {}}\n", "line 1"),
            ("\0\0\n", "line 1"),
        ],
    ),
];

/// Data that cannot be read: exit code 1.
pub(crate) const DATA: &[Item<Text>] = &[
    (
        "empty",
        &[("", b"", "it is empty"), ("", b"\xef\xbb\xbf", "white space"), ("", b" \n\t\r\n", "white space")],
    ),
    ("one byte", &[("--format text", b"a", "has 1 character")]),
    (
        "NULs",
        &[
            ("", b"anna\nbe\0rta\n", "NUL byte at offset 7 (line 2)"),
            ("", b"\0\0\0\0\0\0\0\0", "NUL byte at offset 0"),
            ("", b"ab\0", "--lossy"),
        ],
    ),
    (
        "invalid UTF-8",
        &[
            ("", b"anna\nb\xe9rta\n", "invalid byte 0xe9 at offset 6 (line 2)"),
            ("", b"ab\xc3", "offset 2"),
            ("", b"a\xc0\x80", "offset 1"),
            ("", b"a\xed\xa0\x80", "offset 1"),
            ("", b"\xf4\x90\x80\x80", "offset 0"),
            ("", b"\x89PNG\r\n\x1a\n\0\0", "invalid byte 0x89 at offset 0"),
        ],
    ),
    (
        "UTF-16",
        &[
            (
                "",
                b"\xff\xfea\0n\0\n\0",
                "UTF-16 (little-endian), not UTF-8\n  convert it first: iconv -f UTF-16",
            ),
            ("", b"\xfe\xff\0a\0n\0\n", "UTF-16 (big-endian)"),
            ("", b"a\0n\0n\0a\0\n\0", "UTF-16LE"),
            ("--lossy", b"a\0n\0n\0a\0\n\0", "UTF-16LE"),
            ("", b"\xff\xfe\0\0a\0\0\0", "UTF-32"),
        ],
    ),
];

/// Odd data that are trained on.
pub(crate) const ODD_DATA: &[Item<Text>] = &[
    ("byte order mark", &[("", "\u{feff}anna\nberta\n".as_bytes(), "skipped the byte order mark")]),
    (
        "CRLF",
        &[("", b"anna\r\nberta\r\n", "read 2 CR or CRLF line endings"), ("", b"anna\rberta\r", "read 2 CR")],
    ),
    (
        "--lossy",
        &[
            ("--lossy", b"anna\nb\xe9rta\n", "as U+FFFD, 1 times, first at offset 6"),
            ("--lossy", b"anna\nbe\0rta\n", "as U+FFFD, 1 times, first at offset 7"),
        ],
    ),
    ("emoji sequences", &[("", "👩‍👩‍👧\n🏳️‍🌈\n👍🏽\n".as_bytes(), "; 9 tokens")]),
    ("right to left", &[("", "שלום\nمرحبا\n\u{202e}abc\n".as_bytes(), "; 14 tokens")]),
    ("combining marks", &[("", "e\u{301}\nü\u{308}\u{304}\nz̴̧̢\n".as_bytes(), "tokens")]),
    ("control characters", &[("", b"\x1b[2J\x1b]0;x\x07\nabc\x1b[31m\n", "tokens")]),
    (
        "one line without end",
        &[
            ("", b"only one line without end", "only 1 document"),
            ("", b"a", "only 1 document"),
            ("", b"a\n", "only 1"),
        ],
    ),
    ("small", &[("", b"ab\ncd\n", "only 2 documents"), ("--format text", b"ab", "rows of 1 tokens")]),
];

/// Prompts and texts that are not for the model: exit code 1.
pub(crate) const PROMPTS: &[Item<Args>] = &[
    (
        "a character outside the vocabulary",
        &[
            (
                &["sample", "run", "--prompt", "Emma"],
                "character 'E' (U+0045) at position 1 is not in the vocabulary of 11; 'e' is",
            ),
            (&["sample", "run", "--prompt", "emmaß"], "'ß' (U+00DF) at position 5"),
            (&["sample", "run", "--prompt", "a\u{1b}[2J"], "'\\u{1b}' (U+001B) at position 2"),
            (&["sample", "run", "--prompt", "a\nb"], "'\\n' (U+000A) at position 2"),
            (&["sample", "run", "--prompt", "👩‍👧"], "(U+1F469) at position 1"),
            (&["sample", "run", "--prompt", "-5"], "'-' (U+002D)"),
            (&["attend", "run", "eXa"], "'X' (U+0058) at position 2"),
            (&["attend", "run", "-x"], "'-' (U+002D)"),
        ],
    ),
    (
        "longer than the context",
        &[(&["attend", "run", "emmaolivia"], "the text has 11 tokens, and the model reads 8 at most")],
    ),
    ("empty", &[(&["attend", "prose", ""], "the text is empty")]),
    ("no attention", &[(&["attend", "bigram", "emma"], "it is a bigram")]),
];

/// Odd prompts that are continued.
pub(crate) const ODD_PROMPTS: &[Item<&[&str]>] = &[
    (
        "empty",
        &[&["sample", "run", "--prompt", ""], &["sample", "prose", "--prompt="], &["attend", "run", ""]],
    ),
    ("longer than the context", &[&["sample", "run", "--prompt", "emmaoliviaemmaoliviaemmaolivia"]]),
];

/// Settings of sampling that cannot be: exit code 2.
pub(crate) const SAMPLING: &[Item<Line>] = &[
    (
        "temperature",
        &[
            ("sample run --temperature -1", "temperature is -1"),
            ("sample run --temperature nan", "finite"),
            ("sample run --temperature inf", "finite"),
            ("sample run --temperature hot", "must be a number"),
        ],
    ),
    (
        "top-p and min-p",
        &[
            ("sample run --top-p 0", "top_p is 0"),
            ("sample run --top-p 1.1", "top_p is 1.1"),
            ("sample run --top-p nan", "finite"),
            ("sample run --min-p 2", "min_p is 2"),
            ("sample run --min-p -1", "min_p is -1"),
        ],
    ),
    (
        "counts",
        &[
            ("sample run --top-k -1", "at least 0"),
            ("sample run --top-k 1.5", "whole number"),
            ("sample run -n -1", "at least 0"),
            ("sample run -n 18446744073709551616", "at most"),
            ("sample run --max-new-tokens -1", "at least 0"),
            ("sample run --seed x", "whole number"),
        ],
    ),
];

/// Odd settings of sampling that are taken as they are.
pub(crate) const ODD_SAMPLING: &[Item<&str>] = &[
    ("top-k above the vocabulary", &["sample run --top-k 1000", "sample run --top-k 9223372036854775807"]),
    (
        "temperature",
        &["sample run --temperature 0", "sample run --temperature 1e-300", "sample run --temperature 1e300"],
    ),
    ("top-p and min-p", &["sample run --top-p 1e-300", "sample run --top-p 1", "sample run --min-p 1"]),
    ("counts", &["sample run -n 0", "sample run --max-new-tokens 0", "sample run --max-new-tokens 1e18"]),
];

/// Files that are no models: exit code 1.
pub(crate) const OTHER_FILES: &[Item<Bytes>] = &[(
    "not safetensors",
    &[
        (b"", "it is empty"),
        (b"\x80\x02}q\x00.", "Python pickle"),
        (b"PK\x03\x04\0\0\x08\x08\0\0", "PyTorch checkpoint"),
        (b"GGUF\x03\0\0\0", "GGUF"),
        (b"<!DOCTYPE html><html></html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
        (b"\x1f\x8b\x08\0\0\0", "gzip"),
        (b"\x93NUMPY\x01\0", "NumPy"),
        (b"{\"n_layer\": 4}", "JSON"),
        (b"[model]\nn_layer = 4\n", "plain text"),
        (b"\x7fELF\x02\x01\x01\0\0\0\0\0", "not a safetensors file"),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff{", "it has 18446744073709551615 bytes, and at most 8388608"),
        (b"\x02\0\0\0\0\0\0\0{}", "holds weights but not the description of a model"),
        (b"\x40\0\0\0\0\0\0\0{}", "its end is missing"),
    ],
)];

/// Changes to the bytes of a model file, which then is refused: exit code 1.
pub(crate) const DAMAGE: &[Item<Damage>] = &[
    (
        "truncated",
        &[
            (|bytes| bytes.truncate(bytes.len() - 1), "its end is missing"),
            (|bytes| bytes.truncate(200), "its end is missing"),
            (|bytes| bytes.truncate(7), "its end is missing"),
            (|bytes| bytes.push(0), "something was added to it"),
        ],
    ),
    (
        "damaged",
        &[
            (|bytes| *bytes.last_mut().unwrap() ^= 1, "damaged: its checksum is"),
            (|bytes| replace(bytes, "\"n_layer", "\"n_leyer"), "checksum"),
            (|bytes| replace(bytes, "\"checksum\"", "\"chexksum\""), "has no checksum"),
            (|bytes| bytes[8] = b'[', "not a safetensors file"),
        ],
    ),
    (
        "sizes that lie",
        &[
            (|bytes| bytes[5] = 1, "at most 8388608 are read"),
            (|bytes| replace(bytes, "\"shape\":[11,8]", "\"shape\":[99,8]"), "needs 3168 bytes"),
            (|bytes| replace(bytes, "\"dtype\":\"F32\"", "\"dtype\":\"F64\""), "needs 704 bytes"),
        ],
    ),
];

/// Changes to what a model file says and holds. It then has the right checksum, and is refused all the same: exit code 1.
pub(crate) const MODEL_FILES: &[Item<Change>] = &[
    (
        "weights that are not finite",
        &[
            (|parts| parts.tensor("wte.weight").2[5] = f32::NAN, "`wte.weight` is NaN at element 5"),
            (
                |parts| parts.tensor("ln_f.weight").2[7] = f32::NEG_INFINITY,
                "`ln_f.weight` is -inf at element 7",
            ),
        ],
    ),
    (
        "wrong shapes",
        &[
            (
                |parts| parts.tensor("wte.weight").1 = vec![8, 11],
                "has shape [8, 11], the configuration wants [11, 8]",
            ),
            (
                |parts| parts.tensor("ln_f.weight").1 = vec![2, 4],
                "has shape [2, 4], the configuration wants [8]",
            ),
            (|parts| *parts.tensor("ln_f.weight") = ("ln_f.weight".into(), vec![0], vec![]), "has shape [0]"),
            (|parts| parts.set("/model/block_size", 1 << 20), "the configuration wants [1048576, 8]"),
        ],
    ),
    (
        "missing tensors",
        &[
            (|parts| parts.remove("wte.weight"), "1 tensors are missing: `wte.weight`"),
            (
                |parts| parts.tensors.clear(),
                "9 tensors are missing: `h.0.attn.c_attn.weight`, `h.0.attn.c_proj.weight`, `h.0.ln_1.weight`, `h.0.ln_2.weight`, `h.0.mlp.c_fc.weight`, …",
            ),
            (|parts| parts.set("/model/n_layer", 1024), "6138 tensors are missing: `h.1."),
        ],
    ),
    (
        "extra tensors",
        &[
            (|parts| parts.add("zzz"), "1 tensors do not belong to the model: `zzz`"),
            (
                |parts| (0..9).for_each(|i| parts.add(&format!("x{i}"))),
                "9 tensors do not belong to the model: `x0`, `x1`, `x2`, `x3`, `x4`, …",
            ),
            (|parts| parts.set("/model/model", "bigram"), "do not belong to the model"),
            (|parts| parts.add("optimizer.m.wte.weight"), "tensors are missing: `optimizer.m."),
        ],
    ),
    (
        "a newer format version",
        &[
            (|parts| parts.set("/format", 2), "has format version 2, and this weft reads up to 1"),
            (|parts| parts.description = serde_json::json!({ "format": 7, "future": [1] }), "version 7"),
            (|parts| parts.set("/format", u64::MAX), "version 18446744073709551615"),
        ],
    ),
    (
        "a description that cannot be",
        &[
            (|parts| parts.description = Value::Null, "does not describe a model"),
            (|parts| parts.set("/format", -1), "does not describe a model"),
            (|parts| parts.set("/model/n_head", 0), "n_head is 0"),
            (|parts| parts.set("/model/n_head", 3), "n_head 3 does not divide n_embd 8"),
            (|parts| parts.set("/model/n_layer", u64::MAX), "n_layer is 18446744073709551615"),
            (|parts| parts.set("/model/n_layer", 1.5), "does not describe a model"),
            (|parts| parts.set("/model/norm", "batch"), "unknown variant `batch`"),
            (|parts| parts.set("/model/\u{1b}[2J", 1), "unknown field `\\u{1b}[2J`"),
            (|parts| parts.set("/train/learning_rate", -1), "learning_rate is -1"),
            (|parts| parts.set("/vocab", Value::Array(vec![])), "the vocabulary has 0 tokens"),
            (|parts| parts.set("/vocab/2", "a"), "out of order"),
            (|parts| parts.set("/vocab/2", "ab"), "not a single character"),
            (|parts| parts.set("/data/format", "text"), "does not suit data of format text"),
            (|parts| parts.set("/data/split", "9/9/9"), "the sum 1"),
            (
                |parts| {
                    parts.set("/model/position", "rotary");
                    parts.set("/model/block_size", 1 << 20);
                    parts.set("/model/n_embd", 1 << 20);
                },
                "angles",
            ),
        ],
    ),
];

/// What is well-formed and cannot be done: exit code 1.
pub(crate) const RUNS: &[Item<Line>] = &[
    (
        "files that cannot be read",
        &[
            ("train missing.txt", "cannot read `missing.txt`: No such file"),
            ("train .", "directory"),
            ("train /dev/zero", "device"),
            ("train /dev/null", "device"),
            ("train loop", "cannot read `loop`"),
            ("train gigabyte.txt", "more than the 1073741824 that are read"),
            ("sample missing", "missing"),
            ("sample empty", "holds no run"),
            ("sample /dev/zero", "device"),
            ("sample loop", "cannot read `loop`"),
            ("inspect run/config.toml", "plain text"),
            ("inspect missing", "missing"),
            ("verify run missing", "missing"),
            ("gradcheck missing", "missing"),
        ],
    ),
    (
        "run directories",
        &[
            ("train tiny.txt -o run", "already holds a run"),
            ("train tiny.txt -o file-in-the-way", "file-in-the-way"),
            ("train tiny.txt -o file-in-the-way/run", "file-in-the-way"),
            ("train --resume missing", "missing"),
            ("train --resume empty", "holds no run"),
            ("train --resume run/best.safetensors", "run/best.safetensors"),
            ("train strange.txt --resume run", "not the file that the run was trained on"),
        ],
    ),
    (
        "data of a model",
        &[
            ("eval run strange.txt", "'z'"),
            ("eval run missing.txt", "missing.txt"),
            ("eval run --split test missing.txt", "missing.txt"),
            ("eval alone", "data of `alone/best.safetensors` are not known"),
            ("eval alone/best.safetensors", "are not known"),
            ("gradcheck alone", "are not known"),
            ("eval whole", "the test split is empty"),
        ],
    ),
    (
        "too little memory, disk or time",
        &[
            ("train tiny.txt --n-embd 1048576 --n-inner 1048576 --n-layer 1000", "GB are free"),
            ("train tiny.txt --n-embd 65536 --n-inner 65536", "the run needs about"),
            ("train tiny.txt -o kept --keep 1e18", "on the disk of `kept`"),
            ("train tiny.txt -o soon --max-time 1e-9", "the time was up before the first update"),
        ],
    ),
];

/// Puts `to` in the place of the first `from`, which is as long.
fn replace(bytes: &mut [u8], from: &str, to: &str) {
    assert_eq!(from.len(), to.len());
    let at = bytes.windows(from.len()).position(|window| window == from.as_bytes());
    let at = at.unwrap_or_else(|| panic!("there is no {from}"));
    bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
}

/// A model file taken apart.
pub(crate) struct Parts {
    /// Name, shape, elements.
    tensors: Vec<(String, Vec<usize>, Vec<f32>)>,
    description: Value,
}

impl Parts {
    pub(crate) fn of(bytes: &[u8]) -> Parts {
        let file = SafeTensors::from_bytes("m", bytes, Checksum::Required).unwrap();
        let tensors = file.tensors().iter();
        Parts {
            tensors: tensors.map(|t| (t.name.clone(), t.shape.clone(), file.to_f32(t).unwrap())).collect(),
            description: serde_json::from_str(&file.metadata()["weft"]).unwrap(),
        }
    }

    /// With the right checksum.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let tensors: Vec<TensorView<'_>> = self
            .tensors
            .iter()
            .map(|(name, shape, data)| TensorView { name, shape, data: Data::F32(data) })
            .collect();
        to_bytes(&tensors, &BTreeMap::from([("weft".to_string(), self.description.to_string())])).unwrap()
    }

    fn tensor(&mut self, name: &str) -> &mut (String, Vec<usize>, Vec<f32>) {
        self.tensors.iter_mut().find(|tensor| tensor.0 == name).unwrap()
    }

    fn add(&mut self, name: &str) {
        self.tensors.push((name.into(), vec![1], vec![0.0]));
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.tensors.retain(|tensor| tensor.0 != name);
    }

    /// Sets every number.
    pub(crate) fn fill(&mut self, value: f32) {
        self.tensors.iter_mut().for_each(|(_, _, data)| data.fill(value));
    }

    /// Makes it `n` times as deep: all blocks are like the first.
    pub(crate) fn repeat_block(&mut self, n: usize) {
        let first: Vec<_> =
            self.tensors.iter().filter(|tensor| tensor.0.starts_with("h.0.")).cloned().collect();
        for i in 1..n {
            let named = |name: &str| name.replace("h.0.", &format!("h.{i}."));
            self.tensors
                .extend(first.iter().map(|(name, shape, data)| (named(name), shape.clone(), data.clone())));
        }
        self.set("/model/n_layer", n);
    }

    /// Sets what is there, or adds a key.
    pub(crate) fn set(&mut self, pointer: &str, value: impl Into<Value>) {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        match self.description.pointer_mut(parent).unwrap() {
            Value::Array(items) => items[key.parse::<usize>().unwrap()] = value.into(),
            object => object[key] = value.into(),
        }
    }
}
