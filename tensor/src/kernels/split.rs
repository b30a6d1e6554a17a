//! How large kernels are cut into pieces: by shape alone, whoever works on them.

/// Bytes touched above which a kernel is worth two threads: waking a sleeping one costs some tens of microseconds.
const LARGE: usize = 2 << 20;

/// Elements in a piece of an elementwise kernel: a few microseconds of work, and a multiple of every vector.
pub(super) const CHUNK: usize = 16 << 10;

/// Whether a kernel that touches `n` numbers is worth splitting over threads.
pub(super) fn is_large<T>(n: usize) -> bool {
    n * size_of::<T>() >= LARGE && rayon::current_num_threads() > 1
}

/// Work on slices that can be cut in two.
pub(super) trait Job: Send + Sized {
    /// What the work yields.
    type Output: Send;

    /// How many pieces the work consists of.
    fn pieces(&self) -> usize;
    /// The first `pieces` pieces, and the rest.
    fn split(self, pieces: usize) -> (Self, Self);
    /// Works on one piece.
    fn run(self) -> Self::Output;
    /// The result of the whole from those of its first and second part.
    fn combine(first: Self::Output, second: Self::Output) -> Self::Output;
}

/// Cuts a job in halves down to single pieces and combines their results up the same tree, in parallel or not.
pub(super) fn split<J: Job>(job: J, parallel: bool) -> J::Output {
    let pieces = job.pieces();
    if pieces <= 1 {
        return job.run();
    }
    let (a, b) = job.split(pieces / 2);
    let (a, b) = if parallel {
        rayon::join(|| split(a, true), || split(b, true))
    } else {
        (split(a, false), split(b, false))
    };
    J::combine(a, b)
}
