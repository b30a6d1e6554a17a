//! What is done with a trained model.

mod common;

use common::Place;
use serde_json::Value;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[test]
fn samples_depend_on_the_seed_and_their_number_only() {
    let place = Place::new();
    place.tiny_run("run");
    let twenty = place.weft("sample run").ok().out;
    assert_eq!(twenty.lines().count(), 20);
    let five = place.weft("sample run/best.safetensors -n 5 --threads 1").ok().out;
    assert!(twenty.starts_with(&five), "{five:?} does not begin {twenty:?}");
    assert_ne!(place.weft("sample run --seed 2").ok().out, twenty);
    assert_eq!(place.weft("sample run -n 0").ok().out, "");
    let prompted = place.weft("sample run -n 3 --prompt em --top-k 3 --temperature 0").ok().out;
    assert!(prompted.lines().all(|line| line.starts_with("em")), "{prompted}");

    let lines = place.weft("sample run --json -n 20").ok().out;
    for (line, text) in lines.lines().zip(twenty.lines()) {
        let line = json(line);
        assert_eq!(line["text"], text);
        assert!(line["logprob"].as_f64().unwrap() < 0.0, "{line}");
        assert_eq!(line.as_object().unwrap().len(), 2, "{line}");
    }
}

#[test]
fn evaluation_as_json_has_its_keys_and_agrees_with_the_run() {
    let place = Place::new();
    place.tiny_run("run");
    let report = json(&place.weft("eval run --json --split val").ok().out);
    let keys: Vec<&String> = report.as_object().unwrap().keys().collect();
    assert_eq!(keys.len(), 5, "{keys:?}");
    let (loss, bits) = (report["loss"].as_f64().unwrap(), report["bits_per_char"].as_f64().unwrap());
    assert!((bits - loss / std::f64::consts::LN_2).abs() < 1e-12);
    assert!((report["perplexity"].as_f64().unwrap() - loss.exp()).abs() < 1e-9);
    let orders: Vec<u64> =
        report["ladder"].as_array().unwrap().iter().map(|rung| rung["order"].as_u64().unwrap()).collect();
    assert_eq!(orders, [1, 2, 3, 4, 5]);

    let metrics = String::from_utf8(place.read("run/metrics.jsonl")).unwrap();
    let losses = metrics.lines().map(|line| json(line)["val_loss"].as_f64().unwrap());
    assert_eq!(loss, losses.fold(f64::INFINITY, f64::min), "not the best validation loss of the run");

    // All three splits together are the file.
    let tokens =
        |args: &str| json(&place.weft(&format!("eval run {args} --json")).ok().out)["tokens"].as_u64();
    let parts = ["train", "val", "test"].map(|split| tokens(&format!("--split {split}")).unwrap());
    assert_eq!(tokens("tiny.txt"), Some(parts.iter().sum()));
    assert!(place.weft("eval run").ok().out.contains("this model"));
}

#[test]
fn inspection_shows_every_tensor_and_the_nearest_characters() {
    let place = Place::new();
    place.tiny_run("run");
    let report = json(&place.weft("inspect run --json").ok().out);
    let sum: u64 =
        report["tensors"].as_array().unwrap().iter().map(|t| t["parameters"].as_u64().unwrap()).sum();
    assert_eq!(report["parameters"].as_u64(), Some(sum));
    assert_eq!(report["model"]["n_embd"], 8);
    assert_eq!(report["vocab"].as_array().unwrap().len(), report["neighbours"].as_array().unwrap().len());
    for row in report["neighbours"].as_array().unwrap() {
        let near: Vec<f64> =
            row["nearest"].as_array().unwrap().iter().map(|n| n["cosine"].as_f64().unwrap()).collect();
        assert!(near.is_sorted_by(|a, b| a >= b) && near.iter().all(|c| c.abs() <= 1.000001), "{row}");
    }
    let text = place.weft("inspect run").ok().out;
    assert!(text.contains("wte.weight") && text.contains("nearest"), "{text}");
}

#[test]
fn attention_rows_sum_to_one_and_look_back_only() {
    let place = Place::new();
    place.tiny_run("run");
    let report = json(&place.weft("attend run emma --json").ok().out);
    assert_eq!(report["tokens"], serde_json::json!(["⏎", "e", "m", "m", "a"]));
    let layers = report["layers"].as_array().unwrap();
    assert_eq!((layers.len(), layers[0].as_array().unwrap().len()), (1, 2));
    for head in layers[0].as_array().unwrap() {
        for (from, row) in head.as_array().unwrap().iter().enumerate() {
            let row: Vec<f64> = row.as_array().unwrap().iter().map(|w| w.as_f64().unwrap()).collect();
            assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-5, "{row:?}");
            assert!(row[from + 1..].iter().all(|w| *w == 0.0), "token {from} sees the future: {row:?}");
        }
    }
    let picture = place.weft("attend run emma").ok().out;
    assert!(picture.contains("layer 1 head 2") && !picture.contains('\u{1b}'), "{picture}");
}

#[test]
fn gradients_are_right() {
    let place = Place::new();
    place.tiny_run("run");
    let table = place.weft("gradcheck run").ok().out;
    assert!(table.contains("attention") && table.contains("direction 3"), "{table}");
    assert!(!table.contains("MISS"), "{table}");
}

#[test]
fn every_shell_gets_its_completions() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = place.weft(&format!("completions {shell}")).ok().out;
        assert!(script.contains("n-layer"), "{shell}");
    }
}

#[test]
fn help_names_defaults_units_and_an_example() {
    let place = Place::new();
    for verb in ["train", "sample", "eval", "inspect", "attend", "gradcheck", "bench", "completions"] {
        let help = place.weft(&format!("{verb} --help")).ok().out;
        assert!(help.contains("Examples:") && help.contains(&format!("weft {verb}")), "{help}");
    }
    let help = place.weft("train --help").ok().out;
    for expected in ["[default: 4]", "for lines", "for text", "seconds"] {
        assert!(help.contains(expected), "no `{expected}`: {help}");
    }
    assert!(place.weft("--version").ok().out.starts_with("weft "));
}
