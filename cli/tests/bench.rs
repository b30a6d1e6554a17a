//! `weft bench`, with as little of everything as there can be.

mod common;

use std::collections::BTreeSet;

use common::Place;
use serde_json::Value;

#[test]
fn figures_as_json_have_their_keys_and_every_section() {
    let report = Place::new().weft("bench --json --tiny --threads 2 --quiet").ok();
    assert_eq!(report.err, "", "a quiet bench with nothing left out says nothing");
    let report: Value = serde_json::from_str(&report.out).unwrap();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(keys(&report), ["figures", "machine", "quick", "weft"].map(String::from).into());

    let roofs = report["machine"]["roofs"].as_array().unwrap();
    assert_eq!(roofs.iter().map(|roofs| roofs["threads"].as_u64()).collect::<Vec<_>>(), [Some(1), Some(2)]);
    for roofs in roofs {
        assert!(roofs["fma_gflops"].as_f64().unwrap() > 0.0, "{roofs}");
        let levels = roofs["levels"].as_array().unwrap();
        assert_eq!(levels.last().unwrap()["level"], "DRAM");
        for level in levels {
            assert!(level["read_gbps"].as_f64().unwrap() > 0.0, "{level}");
            assert!(level["update_gbps"].as_f64().unwrap() > 0.0, "{level}");
        }
    }

    let always = [
        "section",
        "name",
        "threads",
        "runs",
        "median_s",
        "best_s",
        "work",
        "roof",
        "roof_rate",
        "fraction",
        "best_fraction",
    ];
    let figures = report["figures"].as_array().unwrap();
    for figure in figures {
        for key in always {
            assert!(!figure[key].is_null(), "no {key}: {figure}");
        }
        let [work, median, rate] = ["work", "median_s", "roof_rate"].map(|key| figure[key].as_f64().unwrap());
        let fraction = figure["fraction"].as_f64().unwrap();
        assert!((fraction - work / median / rate * 1e-9).abs() <= 1e-9 * fraction, "{figure}");
        assert!(figure["best_s"].as_f64().unwrap() <= median, "{figure}");
        let of_model = ["step", "sample"].iter().any(|section| figure["section"] == *section);
        assert_eq!(of_model, !figure["tokens_per_s"].is_null(), "{figure}");
        assert_eq!(of_model && cfg!(target_os = "linux"), !figure["peak_bytes"].is_null(), "{figure}");
    }
    let sections: BTreeSet<&str> = figures.iter().map(|figure| figure["section"].as_str().unwrap()).collect();
    assert_eq!(sections, ["attention", "matmul", "rows", "sample", "step"].into());
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let place = Place::new();
    place.weft("bench --only step nothing").refused(2, "no such shape");
    place.weft("bench --only nothing names").refused(2, "step, sample or together");
    place.weft("bench names").refused(2, "unexpected argument");
}
