//! What is bounded by multiply-adds: matrix products and attention.

use weft_tensor::Grad;
use weft_tensor::kernels::attention::{Attention, attention as forward, attention_backward};
use weft_tensor::kernels::gemm::{Epilogue, Mat, MatMut, matmul as multiply};
use weft_tensor::peak::fma_gflops;

use super::numbers::numbers;
use super::shapes::{self, PRODUCTS, Product};
use super::{Effort, Figure, Roof, Section, aim_for, on_threads, time};

/// Times `run`, `flops` operations, beside the rate of multiply-adds before and after.
fn figure(
    effort: &Effort,
    section: Section,
    name: String,
    threads: usize,
    flops: f64,
    aims: [Option<f64>; 2],
    run: impl FnMut() + Send,
) -> Figure {
    let before = fma_gflops(threads);
    let times = on_threads(threads, || time(effort, run));
    let rate = before.max(fma_gflops(threads));
    let aim = aim_for(threads, aims);
    Figure { aim, ..Figure::new(section, name, threads, times, flops, (Roof::Fma, rate)) }
}

/// The matrix products of [`PRODUCTS`], each on every number of threads; `each` gets the figures as they are found.
pub fn matmul<E>(
    effort: &Effort,
    threads: &[usize],
    mut each: impl FnMut(Figure) -> Result<(), E>,
) -> Result<(), E> {
    for Product { m, n, k, aims } in PRODUCTS {
        let flops = 2.0 * (m * n * k) as f64;
        if flops > effort.largest {
            continue;
        }
        let (a, b, mut c) = (numbers(m * k), numbers(k * n), numbers(m * n));
        for &threads in threads {
            let run = || {
                multiply(
                    Mat::new(&a, m, k),
                    Mat::new(&b, k, n),
                    MatMut::new(&mut c, m, n),
                    Epilogue::default(),
                );
            };
            each(figure(effort, Section::Matmul, format!("{m} × {n} × {k}"), threads, flops, aims, run))?;
        }
    }
    Ok(())
}

/// Attention of [`shapes::attention`], forward and backward, each on every number of threads.
pub fn attention<E>(
    effort: &Effort,
    threads: &[usize],
    mut each: impl FnMut(Figure) -> Result<(), E>,
) -> Result<(), E> {
    for shape in shapes::attention() {
        let a = shape.sizes;
        let Attention { batch, n_head, seq_len, head_size, .. } = a;
        let name = |way: &str| format!("({batch}, {n_head}, {seq_len}, {head_size}) {way}");
        if shape.forward_flops() as f64 > effort.largest {
            continue;
        }
        let (qkv, dy) = (numbers(a.qkv_len()), numbers(a.y_len()));
        let (mut y, mut lse, mut dqkv) = (numbers(a.y_len()), numbers(a.lse_len()), numbers(a.qkv_len()));
        for &threads in threads {
            let (flops, aims) = (shape.forward_flops() as f64, shape.forward_aims);
            let run = || forward(a, &qkv, &mut y, &mut lse);
            each(figure(effort, Section::Attention, name("forward"), threads, flops, aims, run))?;
        }
        for &threads in threads {
            let (flops, aims) = (shape.backward_flops() as f64, shape.backward_aims);
            let run = || attention_backward(a, &qkv, &y, &lse, &dy, Grad { data: &mut dqkv, add: false });
            each(figure(effort, Section::Attention, name("backward"), threads, flops, aims, run))?;
        }
    }
    Ok(())
}
