//! The same bits for any number of threads, at any SIMD level, stopped and resumed or not; the same samples however they are
//! made.

use weft_autograd::{Params, Pool, Tape};
use weft_model::config::{ActivationName, ModelConfig, Norm, Position, Precision, Score, TrainConfig};
use weft_model::generate::{Sample, SampleConfig, context_start, generate, tokens};
use weft_model::layers::Pass;
use weft_model::model::Model;
use weft_model::text::{Corpus, Dataset, Format, SplitFractions, Vocab};
use weft_model::train::{Event, Step, Trainer};
use weft_tensor::random::{Key, Purpose};
use weft_tensor::simd::at_every_level;

const VERSE: &str =
    "the cloth is woven from the threads of the tape\nand every thread is counted\nbefore the loom begins\n";

fn data(format: Format) -> Dataset {
    let corpus = Corpus::from_str("verse", &VERSE.replace(' ', "\n").repeat(12), Some(format)).unwrap();
    Dataset::new(&corpus, 1, SplitFractions::default()).unwrap()
}

/// Dropout, and accumulation over two batches of four parts each.
fn trainer(format: Format, model: &ModelConfig) -> Trainer {
    let data = data(format);
    let config = ModelConfig { vocab_size: data.vocab().len(), dropout: 0.1, ..model.clone() };
    let (model, params) = Model::new(&config, 1).unwrap();
    resumable(model, params, data)
}

fn resumable(model: Model, params: Params, data: Dataset) -> Trainer {
    let config = TrainConfig {
        batch_size: 16,
        grad_accum: 2,
        warmup_iters: 5,
        lr_decay_iters: 30,
        max_iters: 30,
        eval_interval: 10,
        ..TrainConfig::default()
    };
    Trainer::new(config, model, params, data).unwrap()
}

fn small() -> ModelConfig {
    ModelConfig { block_size: 32, n_layer: 2, n_embd: 16, n_inner: 32, bias: true, ..ModelConfig::default() }
}

/// FNV-1a over the bits of every parameter.
fn hash(params: &Params) -> u64 {
    let bytes = params.flat().iter().flat_map(|x| x.to_bits().to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// An event without the time it took.
fn timeless(event: Event) -> Event {
    let still = |step: Step| Step { time: std::time::Duration::ZERO, ..step };
    match event {
        Event::Step(step) => Event::Step(still(step)),
        Event::Skipped { step, parameter } => Event::Skipped { step: still(step), parameter },
        evaluated => evaluated,
    }
}

/// Trains for at most `events` events.
fn run(trainer: &mut Trainer, events: usize) -> Vec<Event> {
    trainer.take(events).map(|event| timeless(event.unwrap())).collect()
}

fn on_threads<R: Send>(threads: usize, f: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(f)
}

#[test]
fn the_number_of_threads_does_not_show() {
    // Large enough that sums over all gradients and matrix products are cut, too.
    let large = ModelConfig { n_layer: 1, n_embd: 128, n_inner: 512, ..small() };
    for (format, model, events) in
        [(Format::Lines, small(), 33), (Format::Text, small(), 33), (Format::Text, large, 4)]
    {
        let trained = [1, 2, 3, 7].map(|threads| {
            on_threads(threads, || {
                let mut trainer = trainer(format, &model);
                let events = run(&mut trainer, events);
                (hash(trainer.params()), events)
            })
        });
        for (threads, other) in [2, 3, 7].iter().zip(&trained[1..]) {
            assert_eq!(*other, trained[0], "{format}, {} wide: {threads} threads and 1 differ", model.n_embd);
        }
    }
}

#[test]
fn the_simd_level_does_not_show() {
    let switches = ModelConfig {
        norm: Norm::Rms,
        position: Position::Rotary,
        activation: ActivationName::Silu,
        attention: Score::Cosine,
        n_kv_head: 2,
        gated: true,
        tied: false,
        ..small()
    };
    for model in [small(), switches] {
        let mut hashes = Vec::new();
        at_every_level(|level| {
            let mut trainer = trainer(Format::Lines, &model);
            run(&mut trainer, 20);
            hashes.push((level, hash(trainer.params())));
        });
        assert!(hashes.iter().all(|(_, hash)| *hash == hashes[0].1), "levels differ: {hashes:x?}");
    }
}

#[test]
fn an_update_changes_the_hash() {
    let mut trainer = trainer(Format::Lines, &small());
    let before = hash(trainer.params());
    run(&mut trainer, 1);
    assert_ne!(hash(trainer.params()), before, "the hash does not see an update");
}

#[test]
fn a_profile_does_not_show() {
    let mut plain = trainer(Format::Lines, &small());
    let mut profiled = trainer(Format::Lines, &small());
    profiled.start_profile();
    for trainer in [&mut plain, &mut profiled] {
        assert!(trainer.by_ref().take(5).all(|event| event.is_ok()));
    }
    assert_eq!(hash(plain.params()), hash(profiled.params()));
    assert!(plain.profile().is_none());
    let profile = profiled.profile().expect("it was started");
    let shares: f64 = profile.lines.iter().map(|line| line.share).sum();
    assert!(profile.steps > 0 && (shares - 1.0).abs() < 1e-9, "{profile:?}");
    for (name, backward) in
        [("linear", false), ("linear", true), ("attention", true), ("cross_entropy", false)]
    {
        let found = profile.lines.iter().any(|line| line.name == name && line.backward == Some(backward));
        assert!(found, "no {name}, backward: {backward}: {profile:?}");
    }
}

#[test]
fn a_run_that_is_stopped_and_resumed_is_the_same_run() {
    for format in [Format::Lines, Format::Text] {
        let mut straight = trainer(format, &small());
        let events = run(&mut straight, usize::MAX);
        assert_eq!(events.len(), 33, "30 steps and 3 evaluations");
        // After the first step, in between, before an evaluation, after it, several times.
        for stops in [&[1][..], &[10], &[3, 4, 5, 10, 11, 12, 20, 21, 29, 32]] {
            let mut trainer = trainer(format, &small());
            let mut seen = Vec::new();
            for (i, stop) in stops.iter().enumerate() {
                seen.extend(run(&mut trainer, stop - seen.len()));
                let (params, progress) = (trainer.params().clone(), trainer.progress());
                let (model, _) = Model::new::<f32>(trainer.model().config(), 1).unwrap();
                let mut next = resumable(model, params, data(format));
                next.resume(
                    progress,
                    &trainer.optimizer().moments().iter().map(|m| m.to_vec()).collect::<Vec<_>>(),
                );
                trainer = next;
                // What was evaluated last is evaluated again: it may not have been seen.
                if let Some(last @ Event::Evaluated { .. }) = seen.last() {
                    let again = on_threads(1 + i % 3, || run(&mut trainer, 1));
                    assert_eq!(again, std::slice::from_ref(last), "stops {stops:?}: the evaluation changed");
                }
            }
            seen.extend(on_threads(3, || run(&mut trainer, usize::MAX)));
            assert_eq!(seen, events, "{format}, stops {stops:?}: events differ");
            assert_eq!(hash(trainer.params()), hash(straight.params()), "{format}, stops {stops:?}");
            assert_eq!(trainer.progress(), straight.progress(), "{format}, stops {stops:?}");
        }
    }
}

/// Models of every kind that changes generation, with weights large enough for opinions.
fn samplers() -> Vec<(String, Vocab, Model, Params)> {
    let mut all = Vec::new();
    for format in [Format::Lines, Format::Text] {
        for position in [Position::Learned, Position::Rotary, Position::None] {
            for (attention, n_kv_head) in [(Score::Dot, 4), (Score::Dot, 2), (Score::Cosine, 1)] {
                let vocab = data(format).vocab().clone();
                let config = ModelConfig {
                    vocab_size: vocab.len(),
                    block_size: 12,
                    n_layer: 2,
                    n_embd: 16,
                    n_inner: 32,
                    position,
                    attention,
                    n_kv_head,
                    ..ModelConfig::default()
                };
                let (model, mut params) = Model::new::<f32>(&config, 3).unwrap();
                params.flat_mut().iter_mut().for_each(|x| *x *= if x.abs() < 0.5 { 8.0 } else { 1.0 });
                all.push((
                    format!("{format}, {position:?}, {attention:?}, {n_kv_head}"),
                    vocab,
                    model,
                    params,
                ));
            }
        }
    }
    all
}

const SAMPLE: SampleConfig =
    SampleConfig { temperature: 0.9, top_k: 8, top_p: 0.95, min_p: 0.01, max_new_tokens: 30, seed: 11 };

#[test]
fn a_sample_depends_on_its_number_alone() {
    for (name, vocab, model, params) in samplers() {
        let prompt = vocab.encode("th").unwrap();
        let sample = |first, n| generate(&model, &params, &vocab, &prompt, first, n, &SAMPLE).unwrap();
        let all = on_threads(1, || sample(0, 20));
        assert_eq!(on_threads(3, || sample(0, 20)), all, "{name}: threads show");
        assert!(
            all.windows(2).any(|pair| pair[0].tokens != pair[1].tokens),
            "{name}: all samples are the same"
        );
        for (i, alone) in all.iter().enumerate().step_by(4) {
            assert_eq!(sample(i, 1), std::slice::from_ref(alone), "{name}: sample {i} alone and among 20");
        }
        assert_eq!(sample(3, 9), all[3..12], "{name}: another batch");
        let mut prepared = params.clone();
        model.prepare_for_inference(&mut prepared, Precision::F32);
        let packed = generate(&model, &prepared, &vocab, &prompt, 0, 20, &SAMPLE).unwrap();
        assert_eq!(packed, all, "{name}: prepared weights show");
        for (i, sample) in all.iter().enumerate().take(3) {
            let one_by_one = tokens(&model, &prepared, &vocab, &prompt, i, &SAMPLE).unwrap();
            let text: Vec<u32> = prompt.iter().copied().chain(one_by_one).collect();
            assert_eq!(text, sample.tokens, "{name}: sample {i} token by token");
        }
    }
}

#[test]
fn many_samples_are_the_same_as_few() {
    // More than the batches of all threads hold: finished texts make room for others, at every length.
    const MANY: usize = 300;
    for (name, vocab, model, params) in samplers().into_iter().step_by(5) {
        for prompt in ["", "theloom"] {
            let prompt = vocab.encode(prompt).unwrap();
            let sample = |first, n| generate(&model, &params, &vocab, &prompt, first, n, &SAMPLE).unwrap();
            let all = on_threads(1, || sample(0, MANY));
            for threads in [2, 3, 7] {
                assert_eq!(
                    on_threads(threads, || sample(0, MANY)),
                    all,
                    "{name}: {threads} threads and 1 differ"
                );
            }
            for i in [0, 63, 64, 150, 299] {
                assert_eq!(sample(i, 1), all[i..=i], "{name}: sample {i} alone and among {MANY}");
            }
        }
    }
}

#[test]
fn a_sample_of_no_tokens_is_its_prompt() {
    let (_, vocab, model, params) = samplers().swap_remove(0);
    let prompt = vocab.encode("the").unwrap();
    let config = SampleConfig { max_new_tokens: 0, ..SAMPLE };
    let samples = generate(&model, &params, &vocab, &prompt, 0, 2, &config).unwrap();
    assert_eq!(samples, vec![Sample { tokens: prompt.clone(), logprob: 0.0 }; 2]);
    assert_eq!(tokens(&model, &params, &vocab, &prompt, 0, &config).unwrap().next(), None);
}

/// Sample number `index` with every logit computed from the start of the context.
fn without_cache(model: &Model, params: &Params, vocab: &Vocab, prompt: &[u32], index: u32) -> Sample {
    let end = vocab.boundary();
    let mut text: Vec<u32> = end.into_iter().chain(prompt.iter().copied()).collect();
    let (hidden, vocab_size) = (text.len() - prompt.len(), vocab.len());
    let (pool, mut order, mut logprob) = (Pool::new(), Vec::new(), 0.0);
    for new in 0..SAMPLE.max_new_tokens {
        let context = &text[context_start(text.len(), model.config().block_size)..];
        let tape = Tape::inference(params, &pool);
        let logits = model.logits(&tape, &context.into(), context.len(), Pass::default()).to_vec();
        let uniform = Key::new(SAMPLE.seed, Purpose::Sampling, new as u64, index).f64_at(0);
        let (id, its) = SAMPLE.draw(&logits[logits.len() - vocab_size..], uniform, &mut order);
        logprob += its;
        text.push(id);
        if Some(id) == end {
            text.pop();
            break;
        }
    }
    Sample { tokens: text.split_off(hidden), logprob }
}

#[test]
fn the_cache_does_not_show() {
    // Sums of 30 logarithms of single precision.
    const LOGPROB: f64 = 1e-4;
    for (name, vocab, model, params) in samplers() {
        let prompt = vocab.encode("the").unwrap();
        let cached = generate(&model, &params, &vocab, &prompt, 0, 6, &SAMPLE).unwrap();
        for (i, cached) in cached.iter().enumerate() {
            let fresh = without_cache(&model, &params, &vocab, &prompt, i as u32);
            assert_eq!(fresh.tokens, cached.tokens, "{name}: sample {i}");
            let difference = (fresh.logprob - cached.logprob).abs();
            assert!(difference < LOGPROB, "{name}: sample {i}: {} and {}", fresh.logprob, cached.logprob);
        }
    }
}
