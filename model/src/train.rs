//! Training: an iterator of events. The caller draws the progress bar, writes the files and decides when to stop.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use rayon::prelude::*;
use weft_autograd::{Anomaly, Grads, Packing, Params, Pool, Tape};
use weft_tensor::kernels::gradient::sum_of_squares;

use crate::Error;
use crate::config::{Precision, TrainConfig};
use crate::evaluate::{Evaluation, evaluate_unless};
use crate::layers::{DropoutKey, Pass};
use crate::model::Model;
use crate::optim::{Optimizer, clip_scale};
use crate::profile::{Part, Profile, Watch};
use crate::text::{Batch, BatchShape, Dataset, IGNORE, TrainBatches, Trim, Vocab};

/// The most parts of a batch that compute side by side, each with a gradient of its own.
const MAX_REPLICAS: usize = 4;
/// Non-finite steps in a row after which training gives up.
const MAX_BAD_STEPS: u32 = 3;

/// What happens while training.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// An update was made.
    Step(Step),
    /// An update was left out, because the loss or the gradient is not finite.
    Skipped {
        /// The update that was not made.
        step: Step,
        /// The first parameter with a gradient that is not finite, if there is one.
        parameter: Option<String>,
    },
    /// The validation split was evaluated.
    Evaluated {
        /// Updates made so far.
        step: u64,
        /// On the whole validation split; `None` if it is empty.
        val: Option<Evaluation>,
        /// The validation loss is the lowest so far (or there is none to go by).
        best: bool,
    },
}

/// One update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Updates made, this one included.
    pub step: u64,
    /// Mean loss of the batch before the update, in nats per token.
    pub train_loss: f64,
    /// The learning rate.
    pub lr: f64,
    /// The norm of the gradient of all parameters, before clipping.
    pub grad_norm: f64,
    /// Tokens predicted.
    pub tokens: usize,
    /// How long it took.
    pub time: Duration,
}

/// Where a run stands: with the parameters and the moments of the optimiser, all that is needed to go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Updates made.
    pub step: u64,
    /// Tokens seen.
    pub tokens: u64,
    /// The lowest validation loss so far, and the step it was found at.
    pub best: Option<(f64, u64)>,
}

/// Parts of the batch that add to one gradient.
struct Replica {
    grads: Grads,
    parts: Vec<Batch>,
    loss: f64,
}

impl Replica {
    /// Adds the loss and the gradient of part `a`.
    fn pass(
        &mut self,
        a: usize,
        model: &Model,
        params: &Params,
        pool: &Pool,
        scale: f64,
        dropout: DropoutKey,
    ) {
        let tape = Tape::new(params, pool);
        let loss = model.loss(&tape, &self.parts[a], scale, Pass { dropout: Some(dropout) });
        self.loss += f64::from(loss.item());
        loss.backward(&mut self.grads);
    }
}

/// A training run. Iterate over it to train.
pub struct Trainer {
    config: TrainConfig,
    model: Model,
    params: Params,
    optimizer: Optimizer,
    data: Dataset,
    batches: TrainBatches,
    replicas: Vec<Replica>,
    /// Memory for tapes, the one that was used last on top: a thread finds its own again, and there are as many as threads.
    pools: Mutex<Vec<Pool>>,
    progress: Progress,
    /// An evaluation is due before the next step.
    evaluate_next: bool,
    /// The step of the last evaluation.
    evaluated: u64,
    bad_steps: u32,
    started: Instant,
    watch: Watch,
    profiled_from: u64,
    /// Look for the origin of the first number that is not finite.
    detects_anomalies: bool,
    /// Whether to end an evaluation early.
    stop: Box<dyn Fn() -> bool + Send + Sync>,
}

impl Trainer {
    /// A run of `model` from `params` on, from its first step.
    pub fn new(config: TrainConfig, model: Model, params: Params, data: Dataset) -> Result<Trainer, Error> {
        config.validate()?;
        let block_size = model.config().block_size;
        let cut = Cut::new(config.batch_size, block_size, params.layout().elements());
        let parts = config.grad_accum * config.batch_size / cut.rows;
        let shape = BatchShape { batch_size: cut.rows, block_size, trim: Trim::FEW_SHAPES };
        let batches = TrainBatches::new(data.train(), config.seed, shape, parts);
        let replica = || Replica {
            grads: Grads::new(&params),
            parts: (0..parts / cut.replicas).map(|_| Batch::default()).collect(),
            loss: 0.0,
        };
        Ok(Trainer {
            pools: Mutex::default(),
            replicas: (0..cut.replicas).map(|_| replica()).collect(),
            optimizer: Optimizer::new(config.optimizer(), &params),
            batches,
            config,
            model,
            params,
            data,
            progress: Progress::default(),
            evaluate_next: false,
            evaluated: 0,
            bad_steps: 0,
            started: Instant::now(),
            watch: Watch::default(),
            profiled_from: 0,
            detects_anomalies: false,
            stop: Box::new(|| false),
        })
    }

    /// Goes on where a run stood.
    ///
    /// If that was at an evaluation, it is made again: it may not have been made before, and its result is the same.
    pub fn resume(&mut self, progress: Progress, moments: &[impl AsRef<[f32]>]) {
        for (to, from) in self.optimizer.moments_mut().iter_mut().zip(moments) {
            to.copy_from_slice(from.as_ref());
        }
        self.progress = progress;
        self.evaluated = progress.step;
        self.evaluate_next = is_evaluation_due(&self.config, progress.step);
    }

    /// Lets `stop` end the iteration in the middle of an evaluation, which is then made again after a resume. Between updates
    /// the caller decides by itself whether to ask for the next event.
    pub fn stop_when(&mut self, stop: impl Fn() -> bool + Send + Sync + 'static) {
        self.stop = Box::new(stop);
    }

    /// When a step is not finite, runs it again with every op watched, and ends with [`Error::Anomaly`]. Until then nothing is
    /// different.
    pub fn detect_anomalies(&mut self) {
        self.detects_anomalies = true;
    }

    /// The numbers of the run.
    pub fn config(&self) -> &TrainConfig {
        &self.config
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The parameters as they stand.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// The optimiser as it stands.
    pub fn optimizer(&self) -> &Optimizer {
        &self.optimizer
    }

    /// The data.
    pub fn data(&self) -> &Dataset {
        &self.data
    }

    /// Where the run stands.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// The data alone: everything that training needs memory for is given back.
    pub fn into_data(self) -> Dataset {
        self.data
    }

    /// What the batches had to say about the data.
    pub fn notes(&self) -> &[crate::text::Note] {
        self.batches.notes()
    }

    /// Times all that follows, by op; the results stay the same.
    pub fn start_profile(&mut self) {
        self.watch.turn_on();
        self.pools.get_mut().expect("no thread panics while it holds the lock").clear();
        self.profiled_from = self.progress.step;
    }

    /// Where the time went since [`Trainer::start_profile`]; `None` without that. Takes a moment, to measure the machine.
    pub fn profile(&self) -> Option<Profile> {
        let pools = self.pools.lock().expect("no thread panics while it holds the lock");
        let steps = self.progress.step - self.profiled_from;
        self.watch.is_on().then(|| Profile::new(&self.watch, pools.iter(), steps))
    }

    /// One update.
    fn step(&mut self) -> Result<Event, Error> {
        let began = Instant::now();
        self.watch.start();
        let step = self.progress.step;
        let n = self.replicas.len();
        let mut tokens = 0;
        for (r, replica) in self.replicas.iter_mut().enumerate() {
            for (a, batch) in replica.parts.iter_mut().enumerate() {
                self.batches.batch_into(step, a * n + r, batch);
                tokens += batch.n_targets;
            }
        }
        self.watch.end(Part::Batches);
        let scale = 1.0 / tokens as f64;
        let is_used_once = n * self.replicas[0].parts.len() == 1;
        let packing = if is_used_once { Packing::None } else { Packing::Both };
        self.model.prepare(&mut self.params, self.config.precision, packing);
        self.watch.end(Part::Weights);
        let new_pool = || if self.watch.is_on() { Pool::new().profiled() } else { Pool::new() };
        let (model, params, pools, seed) = (&self.model, &self.params, &self.pools, self.config.seed);
        self.replicas.par_iter_mut().enumerate().for_each(|(r, replica)| {
            let lock = || pools.lock().expect("no thread panics while it holds the lock");
            let pool = lock().pop().unwrap_or_else(new_pool);
            replica.loss = 0.0;
            replica.grads.reset();
            for a in 0..replica.parts.len() {
                let part = (a * n + r) as u32;
                replica.pass(a, model, params, &pool, scale, DropoutKey { seed, step, part });
            }
            lock().push(pool);
        });
        self.watch.end(Part::Passes);
        let train_loss: f64 = self.replicas.iter().map(|replica| replica.loss).sum();
        if let Some(name) = self.replicas[0].grads.missing().next() {
            return Err(Error::NoGradient { name: name.into() });
        }
        let mut grads: [&[f32]; MAX_REPLICAS] = [&[]; MAX_REPLICAS];
        for (grads, replica) in grads.iter_mut().zip(&self.replicas) {
            *grads = replica.grads.flat();
        }
        let grads = &grads[..n];
        let grad_norm = sum_of_squares(grads).sqrt();
        let lr = self.config.schedule().at(step);
        let mut done = Step { step: step + 1, train_loss, lr, grad_norm, tokens, time: Duration::ZERO };
        let finite = train_loss.is_finite() && grad_norm.is_finite();
        if finite {
            let grad_scale = clip_scale(grad_norm, self.config.grad_clip);
            self.optimizer.step(&mut self.params, grads, step + 1, lr, grad_scale);
        }
        self.watch.end(Part::Update);
        self.progress.step += 1;
        self.progress.tokens += tokens as u64;
        let step = self.progress.step;
        // What may be the beginning of the end is neither evaluated nor saved.
        self.evaluate_next = finite && is_evaluation_due(&self.config, step);
        done.time = began.elapsed();
        if finite {
            self.bad_steps = 0;
            return Ok(Event::Step(done));
        }
        let layout = self.params.layout();
        let is_bad = |grad: &&[f32], id| grad[layout.range(id)].iter().any(|x| !x.is_finite());
        let bad = layout.ids().find(|id| grads.iter().any(|grad| is_bad(grad, *id)));
        let parameter = bad.map(|id| layout.name(id).to_string());
        self.bad_steps += 1;
        if self.detects_anomalies
            && let Some((anomaly, text)) = self.find_anomaly(scale)?
        {
            return Err(Error::Anomaly { step, anomaly: Box::new(anomaly), text });
        }
        if self.bad_steps == MAX_BAD_STEPS {
            return Err(Error::NotFinite { step, loss: train_loss, grad_norm, parameter });
        }
        Ok(Event::Skipped { step: done, parameter })
    }

    /// Runs the step that was just left out again, part by part: the first op whose result is not finite, and the text it came from.
    fn find_anomaly(&mut self, scale: f64) -> Result<Option<(Anomaly, String)>, Error> {
        let (step, n, seed) = (self.progress.step - 1, self.replicas.len(), self.config.seed);
        for (r, replica) in self.replicas.iter_mut().enumerate() {
            replica.grads.reset();
            for a in 0..replica.parts.len() {
                let pool = Pool::new().watched();
                let part = (a * n + r) as u32;
                replica.pass(a, &self.model, &self.params, &pool, scale, DropoutKey { seed, step, part });
                if let Some(anomaly) = pool.anomaly() {
                    return Ok(Some((anomaly, text_of(&replica.parts[a], self.data.vocab())?)));
                }
            }
        }
        Ok(None)
    }

    /// `None` if it was stopped.
    fn evaluate(&mut self) -> Option<Result<Event, Error>> {
        let (split, step) = (self.data.val(), self.progress.step);
        self.watch.start();
        let val = match split.is_empty() {
            true => None,
            false => {
                // Losses are compared between runs, whatever they train with.
                self.model.prepare(&mut self.params, Precision::F32, Packing::Both);
                Some(evaluate_unless(&self.model, &self.params, split, &self.stop)?)
            }
        };
        self.watch.end(Part::Evaluation);
        self.evaluate_next = false;
        self.evaluated = step;
        if let Some(Evaluation { loss, .. }) = val.filter(|val| !val.loss.is_finite()) {
            return Some(Err(Error::NotFiniteValidation { step, loss }));
        }
        // Without a validation split the last weights are the best.
        let loss = val.map_or(f64::NEG_INFINITY, |val| val.loss);
        // The same evaluation again, after a resume, is as good as it was.
        let best = self.progress.best.is_none_or(|(lowest, at)| loss < lowest || at == step || val.is_none());
        if best && val.is_some() {
            self.progress.best = Some((loss, step));
        }
        Some(Ok(Event::Evaluated { step, val, best }))
    }

    /// All updates are made, or the time is up.
    fn is_over(&self) -> bool {
        let max_time = self.config.max_time;
        let late = max_time > 0.0 && self.started.elapsed().as_secs_f64() >= max_time;
        late || self.progress.step >= self.config.max_iters
    }
}

impl Iterator for Trainer {
    type Item = Result<Event, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        // What the time limit cuts short is evaluated as well.
        let is_over = self.is_over();
        if self.evaluate_next || is_over && self.progress.step > self.evaluated {
            return self.evaluate();
        }
        if is_over {
            return None;
        }
        Some(self.step())
    }
}

/// What the rows of a batch say, quoted.
fn text_of(batch: &Batch, vocab: &Vocab) -> Result<String, Error> {
    let rows = batch.targets.chunks(batch.seq_len).map(|row| {
        let is_text = |id: &u32| *id != IGNORE && Some(*id) != vocab.boundary();
        let ids: Vec<u32> = row.iter().copied().filter(is_text).collect();
        vocab.decode(&ids).map(|text| format!("{text:?}"))
    });
    Ok(rows.collect::<Result<Vec<_>, Error>>()?.join(", "))
}

/// Whether the model is evaluated after `step` updates.
fn is_evaluation_due(config: &TrainConfig, step: u64) -> bool {
    step > 0 && (step.is_multiple_of(config.eval_interval) || step == config.max_iters)
}

/// How a batch is cut: from the sizes alone, so that the threads do not show in the result.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Cut {
    /// Replicas compute side by side, each with a gradient of its own.
    pub(crate) replicas: usize,
    /// Rows of a part. A replica takes its parts one after the other and adds up their gradients, so that their activations
    /// share memory.
    pub(crate) rows: usize,
}

impl Cut {
    /// A replica is worth its gradient, one write and one read of every parameter, from some hundred tokens on if that stays in
    /// the cache (parameters up to 5 million); if not, it costs 1 % of a step at 1,000 tokens and 4 % at 250.
    pub(crate) fn new(batch_size: usize, block_size: usize, n_params: usize) -> Cut {
        const LARGE: usize = 5_000_000;
        const PART_TOKENS: usize = 512;
        let least_tokens = if n_params > LARGE { 512 } else { 128 };
        let divisor = |n: usize, most: usize| {
            (1..=most.max(1)).rev().find(|m| n.is_multiple_of(*m)).expect("1 divides all")
        };
        let wanted = batch_size * block_size / least_tokens;
        let replicas = divisor(batch_size, wanted.min(MAX_REPLICAS));
        let rows = divisor(batch_size / replicas, PART_TOKENS / block_size);
        Cut { replicas, rows }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_follow_from_the_sizes() {
        let cut = |batch_size, block_size, n_params| {
            let Cut { replicas, rows } = Cut::new(batch_size, block_size, n_params);
            (replicas, rows)
        };
        assert_eq!(cut(32, 16, 200_000), (4, 8));
        assert_eq!(cut(12, 64, 800_000), (4, 3));
        assert_eq!(cut(16, 256, 10_000_000), (4, 2));
        assert_eq!(cut(4, 64, 124_000_000), (1, 4));
        assert_eq!(cut(7, 64, 1000), (1, 7), "seven rows cannot be cut evenly");
        assert_eq!(cut(1, 8, 1000), (1, 1));
        assert_eq!(cut(2, 1024, 10_000_000), (2, 1), "a row is never cut");
    }
}
