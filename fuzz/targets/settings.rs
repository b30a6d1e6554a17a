//! Settings as TOML: what is read is written and read as the same, and a run that they describe has them again.
//!
//! The reader is the binary's, built from its source: no library has it, and no other needs it.
#![no_main]

#[allow(dead_code, reason = "the target uses a part of it")]
#[path = "../../cli/src/failure.rs"]
mod failure;
#[allow(dead_code, unused_macros, unused_imports, reason = "the target uses a part of it")]
#[path = "../../cli/src/output.rs"]
mod output;
#[allow(dead_code, reason = "the target uses a part of it")]
#[path = "../../cli/src/settings.rs"]
mod settings;
#[allow(dead_code, reason = "the target uses a part of it")]
#[path = "../../cli/src/values.rs"]
mod values;

use std::fs;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use settings::Settings;
use weft_fuzz::scratch_file;
use weft_model::run::{DataConfig, Needs};
use weft_model::text::{Corpus, Dataset, Format, SplitFractions};

/// Something to plan a run on, as lines and as text.
static DATA: LazyLock<[Dataset; 2]> = LazyLock::new(|| {
    [Format::Lines, Format::Text].map(|format| {
        let corpus = Corpus::from_str("data", &"anna\nbert\n".repeat(20), Some(format)).expect("it is text");
        Dataset::new(&corpus, 1, SplitFractions::default()).expect("there is enough of it")
    })
});

fuzz_target!(|input: &[u8]| {
    let path = scratch_file("settings.toml");
    fs::write(&path, input).expect("there is room");
    let settings = match Settings::read(&path) {
        Ok(settings) => settings,
        Err(error) => {
            let message = error.to_string();
            assert!(message.lines().count() <= 3, "more than a message: {message}");
            assert!(
                message.chars().all(|c| c == '\n' || !c.is_control()),
                "a control character: {message:?}"
            );
            return;
        }
    };
    let read = |text: &str| toml::from_str::<Settings>(text).expect("what was written is read");
    // As text, since NaN is not equal to itself.
    let written = settings.to_toml();
    assert_eq!(read(&written).to_toml(), written);
    assert_eq!(settings.clone().over(Settings::default()).to_toml(), written);

    for format in [Format::Lines, Format::Text] {
        let split = settings.data.split.unwrap_or(SplitFractions::default());
        let data = DataConfig { file: settings.data.file.clone(), format, lossy: false, split };
        let config = settings.resolve(data.clone(), 27, 16);
        if config.validate().is_err() {
            continue;
        }
        Needs::new(&config, &DATA[usize::from(format == Format::Text)]).memory();
        let stored = read(&Settings::of(&config).to_toml());
        assert_eq!(stored.resolve(data, 27, 16), config, "another run by its own config.toml");
        assert_eq!(stored.differences(&Settings::of(&config)), []);
    }
});
