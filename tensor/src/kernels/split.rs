//! How large kernels are cut into pieces: by shape alone, whoever works on them.

use std::ops::Range;

/// Bytes touched above which a kernel is worth two threads: waking a sleeping one costs some tens of microseconds.
const LARGE: usize = 2 << 20;

/// Elements in a piece of an elementwise kernel: a few microseconds of work, and a multiple of every vector.
pub(super) const CHUNK: usize = 16 << 10;

/// Whether a kernel that touches `n` numbers is worth splitting over threads.
pub(super) fn is_large<T>(n: usize) -> bool {
    n * size_of::<T>() >= LARGE && rayon::current_num_threads() > 1
}

/// Rows of `cols` numbers in a piece of about [`CHUNK`] numbers.
pub(super) fn rows_in_chunk(cols: usize) -> usize {
    (CHUNK / cols.max(1)).max(1)
}

/// Both, on two threads if another has nothing to do, and their results.
///
/// The closures go to rayon as trait objects: its code is there once, instead of with five kilobytes for each pair of types.
pub(crate) fn join<A: Send, B: Send>(a: impl FnOnce() -> A + Send, b: impl FnOnce() -> B + Send) -> (A, B) {
    fn run(a: &mut (dyn FnMut() + Send), b: &mut (dyn FnMut() + Send)) {
        rayon::join(a, b);
    }
    let (mut a, mut b) = (Some(a), Some(b));
    let (mut first, mut second) = (None, None);
    run(&mut || first = a.take().map(|a| a()), &mut || second = b.take().map(|b| b()));
    (first.expect("both have run"), second.expect("both have run"))
}

/// What can be cut between two of its rows.
pub(crate) trait Rows: Send + Sized {
    /// The first `rows` rows, and the rest.
    fn split_at(self, rows: usize) -> (Self, Self);
}

/// Rows of so many numbers, to be read.
pub(crate) struct In<'a, T>(pub(crate) &'a [T], pub(crate) usize);

/// Rows of so many numbers, to be written.
pub(crate) struct Out<'a, T>(pub(crate) &'a mut [T], pub(crate) usize);

impl<T: Sync> Rows for In<'_, T> {
    fn split_at(self, rows: usize) -> (Self, Self) {
        let (a, b) = self.0.split_at(rows * self.1);
        (In(a, self.1), In(b, self.1))
    }
}

impl<T: Send> Rows for Out<'_, T> {
    fn split_at(self, rows: usize) -> (Self, Self) {
        let (a, b) = self.0.split_at_mut(rows * self.1);
        (Out(a, self.1), Out(b, self.1))
    }
}

/// The numbers of the rows.
impl Rows for Range<usize> {
    fn split_at(self, rows: usize) -> (Self, Self) {
        let middle = self.start + rows;
        (self.start..middle, middle..self.end)
    }
}

macro_rules! rows_of_several {
    ($($x:ident)*) => {
        impl<$($x: Rows),*> Rows for ($($x,)*) {
            #[expect(non_snake_case, reason = "a variable for each type")]
            fn split_at(self, rows: usize) -> (Self, Self) {
                let ($($x,)*) = self;
                $(let $x = $x.split_at(rows);)*
                (($($x.0,)*), ($($x.1,)*))
            }
        }
    };
}
rows_of_several!(A B);
rows_of_several!(A B C);
rows_of_several!(A B C D);
rows_of_several!(A B C D E);

/// Calls `f` with pieces of `piece` rows, in parallel; or, if that is not wanted, once with all `rows`.
pub(crate) fn by_rows<R: Rows>(parallel: bool, rows: usize, piece: usize, all: R, f: &(impl Fn(R) + Sync)) {
    if !parallel || rows <= piece {
        return f(all);
    }
    let first = rows.div_ceil(piece) / 2 * piece;
    let (a, b) = all.split_at(first);
    join(|| by_rows(true, first, piece, a, f), || by_rows(true, rows - first, piece, b, f));
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
        join(|| split(a, true), || split(b, true))
    } else {
        (split(a, false), split(b, false))
    };
    J::combine(a, b)
}
