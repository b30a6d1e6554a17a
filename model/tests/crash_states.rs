//! A power cut at any moment of a training run leaves a run that goes on: where it was at the last save, or at the one before.
//!
//! A real trainer saves through a simulated disk that records every operation. Each state in which a power cut could leave it is then
//! written to a real directory, and loaded as `weft train --resume` loads it.

mod common;
mod simulated;

use std::fs;
use std::path::Path;

use common::{directory, tiny_trainer};
use simulated::{Simulated, State};
use weft_model::config::TrainConfig;
use weft_model::run::{BEST, LAST, RunDir};
use weft_model::train::Event;

/// Evaluations, and so saves.
const N_SAVES: u64 = 4;
/// Bytes that one write takes: a file needs a dozen, and the power may go between them.
const SHORT_WRITE: usize = 400;

/// What is promised at a moment.
#[derive(Clone, Copy, Debug)]
struct Promise {
    /// The step of the save that was completed last, if there was one.
    saved: Option<u64>,
    /// Of the save that has begun.
    saving: u64,
    /// A best model has been saved whole.
    best: bool,
}

/// Trains through `disk`; returns after how many operations which promise holds.
fn train(disk: &Simulated, path: &Path, keep: usize) -> Vec<(usize, Promise)> {
    let (mut trainer, description) = tiny_trainer(TrainConfig {
        max_iters: 2 * N_SAVES,
        lr_decay_iters: 2 * N_SAVES,
        warmup_iters: 0,
        eval_interval: 2,
        keep,
        ..TrainConfig::default()
    });
    let dir = RunDir::create(path, true).unwrap().on(disk.clone());
    let mut promise = Promise { saved: None, saving: 2, best: false };
    let mut promises = Vec::new();
    let now = |promise| (disk.history.borrow().len(), promise);
    while let Some(event) = trainer.next() {
        let Event::Evaluated { step, val, best } = event.unwrap() else { continue };
        promise.saving = step;
        promises.push(now(promise));
        if best {
            dir.save_best(&trainer, &description, val.map(|val| val.loss)).unwrap();
            promise.best = true;
            promises.push(now(promise));
        }
        dir.save_last(&trainer, &description).unwrap();
        promise.saved = Some(step);
        promises.push(now(promise));
    }
    promises
}

/// Loads what a power cut has left; says what is wrong with it.
fn check(after: &State, promise: Promise, path: &Path) -> Result<(), String> {
    for entry in fs::read_dir(path).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    for (name, content) in after.contents() {
        fs::write(path.join(name.file_name().unwrap()), content).unwrap();
    }
    // The settings are saved before the first step.
    fs::write(path.join("config.toml"), "").unwrap();
    let dir = RunDir::open(path).unwrap();
    match dir.load() {
        Ok((_, _, problems)) if !problems.is_empty() => Err(format!("{problems:?}")),
        Ok((_, progress, _)) => {
            let known = promise.saved == Some(progress.step) || promise.saving == progress.step;
            if !known {
                return Err(format!("{LAST} is of step {}", progress.step));
            }
            if promise.best && progress.best.is_none() {
                return Err(format!("{BEST} is gone"));
            }
            Ok(())
        }
        // Nothing was saved yet, and nothing is there.
        Err(_) if promise.saved.is_none() && !path.join(LAST).exists() => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// Cuts the power after every operation; counts the states, or says what is lost first.
fn first_loss(disk: &Simulated, name: &str, keep: usize) -> Result<usize, String> {
    let promises = train(disk, &directory(&format!("{name}_run")), keep);
    let path = directory(name);
    let mut n_states = 0;
    for (i, (operation, state)) in disk.history.borrow().iter().enumerate() {
        let done = i + 1;
        let held = promises.iter().rev().find(|(from, _)| *from <= done);
        let Some(&(_, promise)) = held else { continue };
        for after in state.after_power_cut() {
            n_states += 1;
            check(&after, promise, &path)
                .map_err(|loss| format!("after operation {done}, {operation}, {promise:?}: {loss}"))?;
        }
    }
    Ok(n_states)
}

#[test]
fn a_power_cut_at_any_moment_leaves_a_run_that_goes_on() {
    let states = [0, 2].map(|keep| {
        let disk = Simulated { short_write: Some(SHORT_WRITE), ..Simulated::default() };
        first_loss(&disk, &format!("crash_states_{keep}"), keep).unwrap()
    });
    eprintln!("{} states", states.iter().sum::<usize>());
    assert!(states.iter().sum::<usize>() >= 1000, "only {states:?} states");
}

/// The test above has teeth: without either sync it finds what is lost.
#[test]
fn without_either_sync_something_is_lost() {
    let unsynced = Simulated { ignores_file_sync: true, ..Simulated::default() };
    let loss = first_loss(&unsynced, "crash_states_file", 0).unwrap_err();
    assert!(loss.contains("rename"), "without the sync of the file: {loss}");
    let unsynced = Simulated { ignores_directory_sync: true, ..Simulated::default() };
    let loss = first_loss(&unsynced, "crash_states_directory", 0).unwrap_err();
    assert!(loss.contains("is gone"), "without the sync of the directory: {loss}");
}
