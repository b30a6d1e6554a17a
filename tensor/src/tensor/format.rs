//! Tensors as text.

use std::fmt;

use super::Tensor;
use crate::real::Real;

/// From this many elements on, only the first and last [`EDGE`] along each dimension are shown.
const SUMMARIZE_FROM: usize = 1000;
const EDGE: usize = 3;

/// The type, the shape, and the elements as a table.
impl<T: Real> fmt::Debug for Tensor<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor<{}> {}\n{self}", T::NAME, self.shape())
    }
}

/// The elements as a table: one row per line, columns aligned, brackets for the dimensions.
///
/// Four digits after the point, or as many as the format asks for; in powers of ten if some are very large or all very
/// small. Of 1000 elements and more, only the corners.
impl<T: Real> fmt::Display for Tensor<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let summarize = self.elements() >= SUMMARIZE_FROM;
        let mut shown = vec![];
        self.shown(&mut vec![], summarize, &mut |index| shown.push(self.get(index).to_f64()));
        let precision = f.precision().unwrap_or(4);
        let sizes = || shown.iter().map(|x| x.abs()).filter(|x| x.is_finite());
        let largest = sizes().fold(0.0, f64::max);
        let powers = largest >= 1e5 || (largest > 0.0 && largest < 1e-3);
        let integral = f.precision().is_none() && !powers && sizes().all(|x| x.fract() == 0.0);
        let text = |x: T| match x.to_f64() {
            x if powers && x.is_finite() => format!("{x:.precision$e}"),
            x if integral => format!("{x}"),
            x => format!("{x:.precision$}"),
        };
        let width = shown.iter().map(|&x| text(T::from_f64(x)).len()).max().unwrap_or(0);
        let cell = |index: &[usize]| format!("{:>width$}", text(self.get(index)));
        self.table(f, &mut vec![], summarize, &cell)
    }
}

impl<T: Real> Tensor<T> {
    /// The indices along the next dimension that are shown; `None` stands for those left out.
    fn along_next(&self, depth: usize, summarize: bool) -> Vec<Option<usize>> {
        let size = self.shape()[depth];
        if summarize && size > 2 * EDGE {
            (0..EDGE).map(Some).chain([None]).chain((size - EDGE..size).map(Some)).collect()
        } else {
            (0..size).map(Some).collect()
        }
    }

    /// Calls `f` with the index of every element that is shown.
    fn shown(&self, index: &mut Vec<usize>, summarize: bool, f: &mut impl FnMut(&[usize])) {
        if index.len() == self.rank() {
            return f(index);
        }
        for i in self.along_next(index.len(), summarize).into_iter().flatten() {
            index.push(i);
            self.shown(index, summarize, f);
            index.pop();
        }
    }

    fn table(
        &self,
        f: &mut fmt::Formatter<'_>,
        index: &mut Vec<usize>,
        summarize: bool,
        cell: &impl Fn(&[usize]) -> String,
    ) -> fmt::Result {
        let depth = index.len();
        if depth == self.rank() {
            return f.write_str(&cell(index));
        }
        let is_row = depth + 1 == self.rank();
        f.write_str("[")?;
        for (nth, i) in self.along_next(depth, summarize).into_iter().enumerate() {
            if nth > 0 && is_row {
                f.write_str(", ")?;
            } else if nth > 0 {
                // One line break after a row, two after a matrix, …; then up to where this bracket's inside began.
                write!(f, ",{}{}", "\n".repeat(self.rank() - depth - 1), " ".repeat(depth + 1))?;
            }
            match i {
                None => f.write_str("…")?,
                Some(i) => {
                    index.push(i);
                    self.table(f, index, summarize, cell)?;
                    index.pop();
                }
            }
        }
        f.write_str("]")
    }
}
