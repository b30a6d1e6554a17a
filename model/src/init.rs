//! Building a model: names, shapes and first values of its parameters.

use rand_distr::{Distribution, Normal};
use weft_autograd::{ParamId, ParamLayout, Params};
use weft_tensor::random::{Purpose, Random};
use weft_tensor::{Real, Shape};

/// The first values of a parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// The same number everywhere.
    Constant(f64),
    /// Normal random numbers of mean 0 and this standard deviation.
    Normal(f64),
}

/// Collects parameters as the layers of a model ask for them.
#[derive(Debug, Default)]
pub struct Builder {
    layout: ParamLayout,
    init: Vec<Init>,
    weights: Vec<ParamId>,
    prefix: String,
}

impl Builder {
    /// A builder without parameters.
    pub fn new() -> Self {
        Builder::default()
    }

    /// Adds a parameter under the current prefix.
    pub fn add(&mut self, name: &str, shape: impl Into<Shape>, init: Init) -> ParamId {
        self.init.push(init);
        self.layout.add(format!("{}{name}", self.prefix), shape)
    }

    /// Notes that a parameter (out, in) is the weight of a linear layer.
    pub fn is_weight(&mut self, id: ParamId) {
        self.weights.push(id);
    }

    /// The weights of linear layers.
    pub fn weights(&self) -> &[ParamId] {
        &self.weights
    }

    /// Runs `f` with `name.` put before the names of the parameters it adds.
    pub fn scope<R>(&mut self, name: impl std::fmt::Display, f: impl FnOnce(&mut Builder) -> R) -> R {
        let outer = self.prefix.len();
        self.prefix.push_str(&format!("{name}."));
        let result = f(self);
        self.prefix.truncate(outer);
        result
    }

    /// Names and shapes alone.
    pub fn into_layout(self) -> ParamLayout {
        self.layout
    }

    /// The parameters with their first values, each a function of the seed and its place in the list.
    pub fn finish<T: Real>(self, seed: u64) -> Params<T> {
        let mut params = Params::zeros(self.layout);
        for (index, (id, init)) in params.layout().ids().zip(&self.init).enumerate() {
            let values = params.get_mut(id);
            match *init {
                Init::Constant(value) => values.fill(T::from_f64(value)),
                Init::Normal(std) => {
                    let normal = Normal::new(0.0, std).expect("a finite standard deviation");
                    let mut random = Random::new(seed, Purpose::Init, 0, index as u32);
                    values.fill_with(|| T::from_f64(normal.sample(&mut random)));
                }
            }
        }
        params
    }
}
