//! What ends a run before its time: a wish to stop in the middle of an evaluation, and weights that have left the numbers.

use weft_model::Error;
use weft_model::config::{ModelConfig, TrainConfig};
use weft_model::model::Model;
use weft_model::text::{Corpus, Dataset, Format, SplitFractions};
use weft_model::train::{Event, Trainer};

fn trainer(config: TrainConfig) -> Trainer {
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
    let (model, params) = Model::new(&model, 1).unwrap();
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
