//! The first op whose result is not finite: what a [`Pool`](crate::Pool) notes for its tapes if it was asked to watch them.

use std::fmt;

use weft_tensor::{Real, Shape};

/// What the numbers of a tensor are like.
#[derive(Clone, Debug, PartialEq)]
pub struct Extent {
    /// The name of the parameter that it is.
    pub name: Option<String>,
    /// Its shape.
    pub shape: Shape,
    /// The smallest and the largest number that is finite; `None` if none is.
    pub range: Option<(f64, f64)>,
    /// How many are not.
    pub n_not_finite: usize,
}

impl Extent {
    pub(crate) fn of<T: Real>(name: Option<&str>, shape: Shape, values: &[T]) -> Extent {
        let mut extent = Extent { name: name.map(String::from), shape, range: None, n_not_finite: 0 };
        for x in values.iter().map(|x| x.to_f64()) {
            if x.is_finite() {
                let (low, high) = extent.range.unwrap_or((x, x));
                extent.range = Some((low.min(x), high.max(x)));
            } else {
                extent.n_not_finite += 1;
            }
        }
        extent
    }
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.name {
            write!(f, "`{name}` ")?;
        }
        write!(f, "{}", self.shape)?;
        if let Some((low, high)) = self.range {
            write!(f, " from {low:.3e} to {high:.3e}")?;
        }
        if self.n_not_finite > 0 {
            write!(f, ", {} not finite", self.n_not_finite)?;
        }
        Ok(())
    }
}

pub(crate) fn is_finite<T: Real>(values: &[T]) -> bool {
    values.iter().all(|x| x.is_finite())
}

/// An op that made a number which is not finite, the first on its tape.
#[derive(Clone, Debug, PartialEq)]
pub struct Anomaly {
    /// The op's name.
    pub op: &'static str,
    /// In the walk back: then the last of `inputs` is the gradient of the op's value.
    pub backward: bool,
    /// What it read.
    pub inputs: Vec<Extent>,
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = if self.backward { "backward" } else { "forward" };
        write!(f, "`{}` ({direction}) of ", self.op)?;
        for (i, input) in self.inputs.iter().enumerate() {
            let comma = if i == 0 { "" } else { "; " };
            let gradient = if self.backward && i + 1 == self.inputs.len() { "gradient " } else { "" };
            write!(f, "{comma}{gradient}{input}")?;
        }
        Ok(())
    }
}
