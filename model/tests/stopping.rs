//! What ends a run before its time: a wish to stop in the middle of an evaluation, and weights that have left the numbers.

use weft_autograd::Params;
use weft_model::Error;
use weft_model::checkpoint::hash_weights;
use weft_model::config::{ModelConfig, TrainConfig};
use weft_model::model::Model;
use weft_model::run::{DataConfig, RunDir, describe_data};
use weft_model::text::{Corpus, Dataset, Format, SplitFractions};
use weft_model::train::{Event, Trainer};

fn trainer(config: TrainConfig) -> Trainer {
    spoiled(config, |_| {})
}

/// A trainer whose weights are not as they were made.
fn spoiled(config: TrainConfig, spoil: impl FnOnce(&mut Params)) -> Trainer {
    let words = "warp\nweft\nloom\nyarn\nreed\nheddle\nshuttle\nselvage\ntwill\nsatin\n";
    let corpus = Corpus::from_str("words", words, Some(Format::Lines)).unwrap();
    let data = Dataset::new(&corpus, 1, SplitFractions::default()).unwrap();
    let model = ModelConfig {
        vocab_size: data.vocab().len(),
        n_layer: 1,
        n_embd: 16,
        n_inner: 32,
        ..Default::default()
    };
    let (model, mut params) = Model::new(&model, 1).unwrap();
    spoil(&mut params);
    Trainer::new(TrainConfig { batch_size: 4, warmup_iters: 0, ..config }, model, params, data).unwrap()
}

#[test]
fn an_evaluation_can_be_stopped_and_is_then_still_due() {
    let mut trainer = trainer(TrainConfig { max_iters: 4, eval_interval: 2, ..TrainConfig::default() });
    let steps: Vec<_> = trainer.by_ref().take(2).collect();
    assert!(matches!(steps[..], [Ok(Event::Step(_)), Ok(Event::Step(_))]), "{steps:?}");
    trainer.stop_when(|| true);
    assert!(trainer.next().is_none(), "the evaluation was not stopped");
    assert_eq!(trainer.progress().best, None, "a stopped evaluation has a result");
    trainer.stop_when(|| false);
    let event = trainer.next();
    assert!(matches!(event, Some(Ok(Event::Evaluated { step: 2, best: true, .. }))), "{event:?}");
}

#[test]
fn weights_that_left_the_numbers_are_never_the_best() {
    // No clipping and an absurd learning rate: the first update already overflows.
    let config = TrainConfig {
        learning_rate: 1e38,
        min_lr: 0.0,
        grad_clip: 0.0,
        max_iters: 9,
        eval_interval: 1,
        ..Default::default()
    };
    let mut trainer = trainer(config);
    let end = trainer.by_ref().find_map(|event| match event {
        Ok(Event::Evaluated { val, .. }) => {
            let loss = val.expect("there is a validation split").loss;
            assert!(loss.is_finite(), "an evaluation of {loss} was reported as good");
            None
        }
        Ok(_) => None,
        Err(error) => Some(error),
    });
    assert!(
        matches!(end, Some(Error::NotFinite { .. } | Error::NotFiniteValidation { .. })),
        "the run did not end with its divergence: {end:?}"
    );
}

/// One weight so large that its products overflow; everything else is as usual.
fn overflow(params: &mut Params) {
    let id = params.layout().ids().find(|id| params.layout().name(*id).contains("mlp")).unwrap();
    params.get_mut(id).fill(3e38);
}

#[test]
fn a_step_that_is_not_finite_is_not_applied_and_three_end_the_run() {
    let mut trainer = spoiled(TrainConfig::default(), overflow);
    let before = hash_weights(trainer.params());
    for n in 1..=2 {
        let event = trainer.next().unwrap().unwrap();
        let Event::Skipped { step, parameter } = event else { panic!("step {n} was applied: {event:?}") };
        assert_eq!(step.step, n);
        assert!(!step.train_loss.is_finite() || !step.grad_norm.is_finite(), "{step:?}");
        assert_eq!(parameter.as_deref(), Some("wte.weight"), "the first parameter of all");
    }
    let error = trainer.next().unwrap().unwrap_err().to_string();
    for part in ["step 3: loss", "gradient norm", "third in a row", "`wte.weight`", "--detect-anomaly"] {
        assert!(error.contains(part), "no {part:?}: {error}");
    }
    assert_eq!(hash_weights(trainer.params()), before, "the weights have changed");
}

#[test]
fn an_anomaly_is_traced_to_its_op_its_inputs_and_its_text() {
    let mut trainer = spoiled(TrainConfig::default(), overflow);
    trainer.detect_anomalies();
    let error = trainer.next().unwrap().unwrap_err();
    let Error::Anomaly { step: 1, anomaly, text } = &error else { panic!("{error:?}") };
    assert_eq!((anomaly.op, anomaly.backward), ("linear", false));
    let weight = anomaly.inputs.iter().find(|input| input.name.is_some()).expect("the weight is named");
    assert!(weight.name.as_ref().unwrap().contains("mlp"), "{weight:?}");
    assert_eq!(weight.n_not_finite, 0, "{weight:?}");
    assert!((weight.range.unwrap().1 - 3e38).abs() < 1e32, "{weight:?}");
    let words = text.split(", ").filter(|word| word.starts_with('"') && word.ends_with('"'));
    assert!(words.count() >= 1, "{text}");
    let message = error.to_string();
    assert!(message.starts_with("step 1: not finite from `linear` (forward) of"), "{message}");
    assert_eq!(message.lines().count(), 2, "{message}");
}

#[test]
fn looking_for_anomalies_changes_no_bit() {
    let config = || TrainConfig { max_iters: 5, ..TrainConfig::default() };
    let hashes = [false, true].map(|detect| {
        let mut trainer = trainer(config());
        if detect {
            trainer.detect_anomalies();
        }
        trainer.by_ref().for_each(|event| drop(event.unwrap()));
        hash_weights(trainer.params())
    });
    assert_eq!(hashes[0], hashes[1]);
}

#[test]
fn weights_that_are_not_finite_are_not_saved() {
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("not_finite");
    let _ = std::fs::remove_dir_all(&path);
    let dir = RunDir::create(&path, false).unwrap();
    let corpus = Corpus::from_str("words", "warp\nweft\n", Some(Format::Lines)).unwrap();
    let data =
        DataConfig { file: None, format: Format::Lines, lossy: false, split: SplitFractions::default() };
    let description = describe_data(&data, &corpus, 1);
    dir.save_last(&trainer(TrainConfig::default()), &description).unwrap();
    let saved = std::fs::read(path.join("last.safetensors")).unwrap();
    let spoil = |params: &mut Params| params.flat_mut()[3] = f32::NAN;
    let spoiled = spoiled(TrainConfig::default(), spoil);
    for error in [dir.save_last(&spoiled, &description), dir.save_best(&spoiled, &description, None)] {
        let error = error.unwrap_err();
        assert!(matches!(error, Error::NotFiniteTensor { at: 3, .. }), "{error:?}");
    }
    assert_eq!(std::fs::read(path.join("last.safetensors")).unwrap(), saved, "the good one was replaced");
    assert!(!path.join("best.safetensors").exists());
}
