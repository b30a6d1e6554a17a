//! Fused ops with a fault each, for the test that the checks find it; `None` has none.
//!
//! Rows x (R, C) and a vector w (C); the functions are chosen so that a fault has its natural place.

use weft_tensor::{Grad, Real, Shape, ShapeError, View};

use super::{Fused, Input, Op};
use crate::gradcheck::Cases;
use crate::tape::Var;

/// What is wrong, and by it which function is computed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    // y = 3 x ∘ w
    None,
    DroppedFactor,
    MissingBroadcastSum,
    SwappedOperands,
    Overwrites,
    AlwaysAdds,
    OffByOneColumn,
    HalfAtSecondWrite,
    WrongSignBelowZero,
    MeanWhenBroadcast,
    NothingWithoutFirst,
    DestroyedUpstream,
    LostTail,
    LostLastRow,
    WrongForward,
    // y = (2 x + w)³
    NoneSaved,
    StaleSaved,
    UnscaledInput,
    // y = (x − μ) / √(σ² + ½) + w
    NoneNorm,
    MissingMeanTerm,
    MissingVarianceTerm,
    // y = x ∘ w where the column is not above the row, else 0
    NoneMask,
    IgnoredMask,
    // y = xᵀ ∘ w, of a square x
    NoneTransposed,
    NotTransposed,
}

use Fault::*;

impl Fault {
    pub(crate) const ALL: [Fault; 25] = [
        None,
        DroppedFactor,
        MissingBroadcastSum,
        SwappedOperands,
        Overwrites,
        AlwaysAdds,
        OffByOneColumn,
        HalfAtSecondWrite,
        WrongSignBelowZero,
        MeanWhenBroadcast,
        NothingWithoutFirst,
        DestroyedUpstream,
        LostTail,
        LostLastRow,
        WrongForward,
        NoneSaved,
        StaleSaved,
        UnscaledInput,
        NoneNorm,
        MissingMeanTerm,
        MissingVarianceTerm,
        NoneMask,
        IgnoredMask,
        NoneTransposed,
        NotTransposed,
    ];

    /// The right function, without a fault.
    fn base(self) -> Fault {
        match self {
            NoneSaved | StaleSaved | UnscaledInput => NoneSaved,
            NoneNorm | MissingMeanTerm | MissingVarianceTerm => NoneNorm,
            NoneMask | IgnoredMask => NoneMask,
            NoneTransposed | NotTransposed => NoneTransposed,
            _ => None,
        }
    }

    pub(crate) fn is_none(self) -> bool {
        self == self.base()
    }

    pub(crate) fn name(self) -> &'static str {
        PlantedKernel::ALL_NAMES[Fault::ALL.iter().position(|fault| *fault == self).expect("every fault is listed")]
    }
}

#[derive(Clone, Copy)]
pub(crate) struct PlantedKernel(pub(crate) Fault);

impl PlantedKernel {
    const ALL_NAMES: [&'static str; 25] = [
        "product",
        "dropped factor",
        "missing broadcast sum",
        "swapped operands",
        "overwrites instead of adding",
        "adds instead of overwriting",
        "off by one column",
        "half at the second write",
        "wrong sign below zero",
        "mean instead of sum when broadcast",
        "nothing for w unless x needs a gradient",
        "destroyed upstream gradient",
        "lost tail of a vector",
        "lost last row",
        "forward is not the reference",
        "cube",
        "stale saved",
        "gradient of the unscaled input",
        "norm",
        "missing mean term",
        "missing variance term",
        "mask",
        "ignored mask",
        "transposed",
        "not transposed",
    ];
}

impl Op<2> for PlantedKernel {
    /// None: the list of ops is that of the library.
    const NAMES: &'static [&'static str] = &[];

    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn shape(&self, [x, w]: [&Shape; 2]) -> Result<Shape, ShapeError> {
        assert_eq!((x.rank(), x.last()), (2, w[0]));
        Ok(*x)
    }

    fn cases(_: &mut Cases) {}
}

/// Writes or adds one number.
fn put<T: Real>(grad: &mut Grad<'_, T>, i: usize, value: T, seen: &mut [bool]) {
    let add = grad.add || seen[i];
    seen[i] = true;
    grad.data[i] = if add { grad.data[i] + value } else { value };
}

impl Fused<2> for PlantedKernel {
    fn saved_len(&self, [x, _]: [&Shape; 2]) -> usize {
        match self.0.base() {
            NoneSaved => x.elements(),
            NoneNorm => 2 * x.rows(),
            _ => 0,
        }
    }

    fn forward<T: Real>(&self, [x, w]: [Input<'_, T>; 2], y: &mut [T], saved: &mut [T]) {
        let cols = x.shape.last();
        let (two, three) = (T::from_f64(2.0), T::from_f64(3.0));
        if self.0.base() == NoneNorm {
            let n = T::from_f64(cols as f64);
            for (row, xs) in x.data.chunks(cols).enumerate() {
                let mean = xs.iter().copied().sum::<T>() / n;
                let variance = xs.iter().map(|&x| (x - mean) * (x - mean)).sum::<T>() / n;
                (saved[2 * row], saved[2 * row + 1]) = (mean, T::ONE / (variance + T::from_f64(0.5)).sqrt());
            }
        }
        for (i, y) in y.iter_mut().enumerate() {
            let (row, col) = (i / cols, i % cols);
            let (x_i, w_i) = (x.data[i], w.data[col]);
            *y = match self.0.base() {
                NoneSaved => {
                    let u = two * x_i + w_i;
                    if self.0 != StaleSaved || i == 0 {
                        saved[i] = u;
                    }
                    u * u * u
                }
                NoneNorm => (x_i - saved[2 * row]) * saved[2 * row + 1] + w_i,
                NoneMask => x_i * if col <= row { w_i } else { T::ZERO },
                NoneTransposed => x.data[col * cols + row] * w_i,
                _ if self.0 == WrongForward => three * x_i * w_i + T::ONE,
                _ => three * x_i * w_i,
            };
        }
    }

    fn backward<T: Real>(
        &self,
        [x, w]: [Input<'_, T>; 2],
        _y: &[T],
        saved: &[T],
        dy: &mut [T],
        [mut dx, mut dw]: [Option<Grad<'_, T>>; 2],
    ) {
        let fault = self.0;
        let (rows, cols) = (x.shape.rows(), x.shape.last());
        let (two, three, half) = (T::from_f64(2.0), T::from_f64(3.0), T::from_f64(0.5));
        let n = T::from_f64(cols as f64);
        // The factors of dy in the gradients by x and by w, element by element.
        let factors = |i: usize, dy: &[T]| {
            let (row, col) = (i / cols, i % cols);
            let (x_i, w_i) = (x.data[i], w.data[col]);
            match fault.base() {
                NoneSaved => {
                    let u = if fault == UnscaledInput { x_i } else { saved[i] };
                    (dy[i] * two * three * u * u, dy[i] * three * u * u)
                }
                NoneNorm => {
                    let (mean, rstd) = (saved[2 * row], saved[2 * row + 1]);
                    let range = row * cols..(row + 1) * cols;
                    let hat = |i: usize| (x.data[i] - mean) * rstd;
                    let mut g = dy[i];
                    if fault != MissingMeanTerm {
                        g -= range.clone().map(|i| dy[i]).sum::<T>() / n;
                    }
                    if fault != MissingVarianceTerm {
                        g -= hat(i) * range.map(|i| dy[i] * hat(i)).sum::<T>() / n;
                    }
                    (g * rstd, dy[i])
                }
                NoneMask if fault == IgnoredMask => (dy[i] * w_i, dy[i] * x_i),
                NoneMask if col > row => (T::ZERO, T::ZERO),
                NoneMask => (dy[i] * w_i, dy[i] * x_i),
                NoneTransposed => {
                    let j = if fault == NotTransposed { i } else { col * cols + row };
                    (dy[j] * w.data[j % cols], dy[i] * x.data[col * cols + row])
                }
                _ => {
                    let (mut dx, mut dw) = (three * w_i, three * x_i);
                    match fault {
                        DroppedFactor => dx = w_i,
                        SwappedOperands => (dx, dw) = (dw, dx),
                        OffByOneColumn => dx = three * w.data[(col + 1) % cols],
                        WrongSignBelowZero if x_i < T::ZERO => dx = -dx,
                        MissingBroadcastSum if row + 1 < rows => dw = T::ZERO,
                        MeanWhenBroadcast => dw /= T::from_f64(rows as f64),
                        LostLastRow if row + 1 == rows && rows > 1 => dw = T::ZERO,
                        LostTail if cols > 16 && col >= cols - cols % 16 => dx = T::ZERO,
                        _ => {}
                    }
                    (dy[i] * dx, dy[i] * dw)
                }
            }
        };
        let has_x = dx.is_some();
        if let Some(dx) = &mut dx {
            match fault {
                Overwrites => dx.add = false,
                AlwaysAdds => dx.add = true,
                _ => {}
            }
            let halved = fault == HalfAtSecondWrite && dx.add;
            let mut seen = vec![false; dx.data.len()];
            for i in 0..dx.data.len() {
                let value = factors(i, dy).0;
                put(dx, i, if halved { value * half } else { value }, &mut seen);
            }
            if fault == DestroyedUpstream {
                dy.iter_mut().for_each(|dy| *dy *= three);
            }
        }
        if let Some(dw) = &mut dw {
            let mut seen = vec![false; cols];
            if x.data.is_empty() && !dw.add {
                dw.data.fill(T::ZERO);
            }
            for i in 0..x.data.len() {
                let value = factors(i, dy).1;
                let lost = fault == NothingWithoutFirst && !has_x;
                put(dw, i % cols, if lost { T::ZERO } else { value }, &mut seen);
            }
        }
    }

    fn reference<'t, T: Real>(&self, [x, w]: [Var<'t, T>; 2]) -> Var<'t, T> {
        let shape = x.shape();
        match self.0.base() {
            NoneSaved => {
                let u = x * 2.0 + w;
                u * u * u
            }
            NoneNorm => {
                let centred = x - x.mean(&[1], true);
                centred / ((centred * centred).mean(&[1], true) + 0.5).sqrt() + w
            }
            NoneMask => {
                let visible = |i: usize| if i % shape[1] <= i / shape[1] { T::ONE } else { T::ZERO };
                let visible: Vec<T> = (0..shape.elements()).map(visible).collect();
                x * w * x.tape.constant(View::new(&visible, shape))
            }
            NoneTransposed => x.transpose(0, 1) * w,
            _ => x * w * 3.0,
        }
    }
}
