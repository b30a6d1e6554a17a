//! What is bounded by memory: the kernels that pass over rows of numbers, and the optimiser.

use weft_tensor::kernels::activation::{Activation, activation, activation_backward};
use weft_tensor::kernels::cross_entropy::cross_entropy_in_place;
use weft_tensor::kernels::norm::{layer_norm, layer_norm_backward};
use weft_tensor::kernels::optimizer::{AdamW, Stretch, adamw};
use weft_tensor::{Buffer, Grad};

use super::machine::Level;
use super::numbers::{numbers, targets};
use super::{Effort, Figure, Machine, Roof, Section, on_threads, time};

/// A kernel that reads and writes rows.
struct Kernel {
    name: &'static str,
    /// Columns.
    cols: usize,
    /// Numbers that are read or written for each one of a row.
    touched: usize,
    /// Where the rows lie, and how fast the kernel should be on one thread.
    places: &'static [(Roof, Aim)],
    /// Makes rows and what runs on them.
    make: fn(rows: usize, cols: usize) -> Box<dyn FnMut() + Send>,
}

/// What a kernel should reach.
#[derive(Clone, Copy)]
enum Aim {
    None,
    /// 10⁹ bytes a second on one thread.
    Gbps(f64),
    /// Nanoseconds for a row on one thread.
    Row(f64),
    /// This part of the bandwidth, on any number of threads.
    OfRoof(f64),
}

fn grad(data: &mut Buffer<f32>) -> Grad<'_, f32> {
    Grad { data, add: false }
}

/// A step of training that has been going on for a while.
const ADAMW: AdamW =
    AdamW { lr: 1e-3, beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.1, step: 10, grad_scale: 0.5 };

/// Probabilities of the next of so many tokens, their loss and its gradient.
fn cross_entropy(rows: usize, cols: usize) -> Box<dyn FnMut() + Send> {
    let (targets, mut logits) = (targets(rows, cols), numbers(rows * cols));
    Box::new(move || {
        cross_entropy_in_place(&mut logits, &targets, u32::MAX, 1.0);
    })
}

const KERNELS: [Kernel; 8] = [
    Kernel {
        name: "layer norm",
        cols: 384,
        touched: 2,
        places: &[(Roof::L2, Aim::Gbps(45.0)), (Roof::Dram, Aim::Gbps(25.0))],
        make: |rows, cols| {
            let (x, mut y, weight, bias) =
                (numbers(rows * cols), numbers(rows * cols), numbers(cols), numbers(cols));
            let (mut mean, mut rstd) = (numbers(rows), numbers(rows));
            Box::new(move || layer_norm(&x, &weight, Some(&bias), 1e-5, &mut y, &mut mean, &mut rstd))
        },
    },
    Kernel {
        name: "layer norm backward",
        cols: 384,
        touched: 3,
        places: &[(Roof::L2, Aim::Gbps(50.0)), (Roof::Dram, Aim::Gbps(25.0))],
        make: |rows, cols| {
            let (x, dy, mut dx) = (numbers(rows * cols), numbers(rows * cols), numbers(rows * cols));
            let (weight, mean, rstd) = (numbers(cols), numbers(rows), numbers(rows));
            let (mut dweight, mut dbias) = (numbers(cols), numbers(cols));
            Box::new(move || {
                let [dx, dweight, dbias] = [&mut dx, &mut dweight, &mut dbias].map(|data| Some(grad(data)));
                layer_norm_backward(&x, &weight, &mean, &rstd, &dy, dx, dweight, dbias);
            })
        },
    },
    Kernel {
        name: "GELU",
        cols: 1536,
        touched: 2,
        places: &[(Roof::L2, Aim::None)],
        make: |rows, cols| {
            let (x, mut y) = (numbers(rows * cols), numbers(rows * cols));
            Box::new(move || activation(Activation::GeluTanh, &x, &mut y))
        },
    },
    Kernel {
        name: "GELU backward",
        cols: 1536,
        touched: 3,
        places: &[(Roof::L2, Aim::None)],
        make: |rows, cols| {
            let (x, dy, mut dx) = (numbers(rows * cols), numbers(rows * cols), numbers(rows * cols));
            Box::new(move || activation_backward(Activation::GeluTanh, &x, &dy, grad(&mut dx)))
        },
    },
    Kernel {
        name: "cross-entropy of 27",
        cols: 27,
        touched: 2,
        places: &[(Roof::L2, Aim::Row(40.0))],
        make: cross_entropy,
    },
    Kernel {
        name: "cross-entropy of 65",
        cols: 65,
        touched: 2,
        places: &[(Roof::L2, Aim::Row(40.0))],
        make: cross_entropy,
    },
    Kernel {
        name: "cross-entropy of 50257",
        cols: 50257,
        touched: 2,
        places: &[(Roof::Dram, Aim::Gbps(30.0))],
        make: cross_entropy,
    },
    Kernel {
        name: "AdamW",
        cols: 1024,
        touched: 7,
        places: &[(Roof::Dram, Aim::OfRoof(0.85))],
        make: |rows, cols| {
            let [mut params, grads, mut m, mut v] = [(); 4].map(|()| numbers(rows * cols));
            // The mean of squares is positive.
            v.iter_mut().for_each(|v| *v = v.abs());
            let all = [Stretch { range: 0..rows * cols, decays: true }];
            Box::new(move || adamw(&ADAMW, &all, &mut params, &[&grads], &mut m, &mut v))
        },
    },
];

/// The kernels on rows. What lies in a cache of one core is measured on one thread, the rest on every number of threads.
pub fn rows<E>(
    effort: &Effort,
    machine: &Machine,
    threads: &[usize],
    mut each: impl FnMut(Figure) -> Result<(), E>,
) -> Result<(), E> {
    for Kernel { name, cols, touched, places, make } in KERNELS {
        for &(roof, aim) in places {
            let level = Level::find(roof);
            let row = size_of::<f32>() * touched * cols;
            let n_rows = (level.bytes(1) / row).max(1);
            let work = (row * n_rows) as f64;
            let mut run = make(n_rows, cols);
            for &threads in threads.iter().filter(|threads| roof == Roof::Dram || **threads == 1) {
                let times = on_threads(threads, || time(effort, &mut run));
                let rate = machine.update_gbps(threads, level.roof);
                let aim = match aim {
                    Aim::OfRoof(aim) => Some(aim),
                    Aim::Gbps(gbps) if threads == 1 => Some(gbps / rate),
                    Aim::Row(ns) if threads == 1 => Some(row as f64 / ns / rate),
                    _ => None,
                };
                let name = format!("{name}, {}", level.roof.name());
                let figure = Figure::new(Section::Rows, name, threads, times, work, (level.roof, rate));
                each(Figure { aim, ..figure })?;
            }
        }
    }
    Ok(())
}
