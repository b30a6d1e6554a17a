//! Other people's matrix products behind one safe call, to be timed beside ours.
//!
//! Each is asked in its best form: `gemm` with the AVX-512 kernels that it holds behind a feature, `faer` with its product by
//! columns, which is ours by rows. This crate exists because two of the three have an `unsafe` interface; nothing but benches
//! may depend on it.

use std::process::Command;

use faer::{Accum, MatMut, MatRef, Par};
use gemm::Parallelism;

/// A crate that multiplies matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// `gemm`, on the threads of the current rayon pool.
    Gemm,
    /// `matrixmultiply`, on as many threads as `MATMUL_NUM_THREADS` says: see [`at_each_thread_count`].
    Matrixmultiply,
    /// `faer`, on the threads of the current rayon pool.
    Faer,
}

impl Peer {
    /// All of them.
    pub const ALL: [Peer; 3] = [Peer::Gemm, Peer::Matrixmultiply, Peer::Faer];

    /// The crate's name.
    pub fn name(self) -> &'static str {
        match self {
            Peer::Gemm => "gemm",
            Peer::Matrixmultiply => "matrixmultiply",
            Peer::Faer => "faer",
        }
    }

    /// C = A · B on `threads` threads. A is (m, k), B (k, n), C (m, n), all by rows without gaps.
    ///
    /// # Panics
    /// If a length is not that.
    pub fn multiply(
        self,
        threads: usize,
        (m, n, k): (usize, usize, usize),
        a: &[f32],
        b: &[f32],
        c: &mut [f32],
    ) {
        assert_eq!((a.len(), b.len(), c.len()), (m * k, k * n, m * n), "{}: lengths", self.name());
        let (by_n, by_k) = (n as isize, k as isize);
        match self {
            Peer::Gemm => {
                let parallelism = if threads > 1 { Parallelism::Rayon(threads) } else { Parallelism::None };
                let (read_c, conjugate) = (false, false);
                // SAFETY: rows of k, n and n elements lie within the slices, whose lengths were checked; C is ours alone.
                unsafe {
                    gemm::gemm(
                        m,
                        n,
                        k,
                        c.as_mut_ptr(),
                        1,
                        by_n,
                        read_c,
                        a.as_ptr(),
                        1,
                        by_k,
                        b.as_ptr(),
                        1,
                        by_n,
                        0.0,
                        1.0,
                        conjugate,
                        conjugate,
                        conjugate,
                        parallelism,
                    );
                }
            }
            Peer::Matrixmultiply => {
                // SAFETY: rows of k, n and n elements lie within the slices, whose lengths were checked; C is ours alone.
                unsafe {
                    matrixmultiply::sgemm(
                        m,
                        k,
                        n,
                        1.0,
                        a.as_ptr(),
                        by_k,
                        1,
                        b.as_ptr(),
                        by_n,
                        1,
                        0.0,
                        c.as_mut_ptr(),
                        by_n,
                        1,
                    );
                }
            }
            Peer::Faer => {
                // Cᵀ = Bᵀ · Aᵀ: what lies by rows is its transpose by columns.
                let (a, b) =
                    (MatRef::from_column_major_slice(a, k, m), MatRef::from_column_major_slice(b, n, k));
                let c = MatMut::from_column_major_slice_mut(c, n, m);
                let par = if threads > 1 { Par::rayon(threads) } else { Par::Seq };
                faer::linalg::matmul::matmul(c, Accum::Replace, b, a, 1.0, par);
            }
        }
    }
}

/// Calls `run` with the number of threads, in a process of its own for each of `RAYON_NUM_THREADS`, or else for one thread
/// and for two: `matrixmultiply` reads once, at its first product, how many it may use.
///
/// # Panics
/// If this program cannot be started again.
pub fn at_each_thread_count(run: impl FnOnce(usize)) {
    let number = |name: &str| std::env::var(name).ok()?.parse::<usize>().ok().filter(|&n| n > 0);
    let wanted = number("RAYON_NUM_THREADS");
    if let Some(threads) = wanted.filter(|_| wanted == number("MATMUL_NUM_THREADS")) {
        return run(threads);
    }
    let program = std::env::current_exe().expect("a running program has a file");
    for threads in wanted.map_or(vec![1, 2], |n| vec![n]) {
        let status = Command::new(&program)
            .args(std::env::args_os().skip(1))
            .env("RAYON_NUM_THREADS", threads.to_string())
            .env("MATMUL_NUM_THREADS", threads.to_string())
            .status()
            .expect("what runs can be run again");
        if !status.success() {
            std::process::exit(status.code().unwrap_or(1));
        }
    }
}
