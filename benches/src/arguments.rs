//! The arguments of the timing programs: `--name value`, in any order.

use std::error::Error;
use std::str::FromStr;

use crate::shapes::{self, Named};

/// What was typed.
pub struct Arguments(Vec<String>);

impl Arguments {
    /// Those of this process.
    pub fn of_process() -> Self {
        Arguments(std::env::args().skip(1).collect())
    }

    /// What follows `name`, if it was given.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .position(|argument| argument == name)
            .and_then(|i| self.0.get(i + 1))
            .map(String::as_str)
    }

    /// What follows `name` as a number, or else `default`.
    ///
    /// # Errors
    /// If it is no such number.
    pub fn number<T: FromStr>(&self, name: &str, default: T) -> Result<T, Box<dyn Error>> {
        let parse = |text: &str| text.parse().map_err(|_| format!("{name} {text}: not a number").into());
        self.text(name).map_or(Ok(default), parse)
    }

    /// The shape that `--shape` names.
    ///
    /// # Errors
    /// `usage` if there is no `--shape`; else that there is no such shape.
    pub fn shape(&self, usage: &str) -> Result<Named, Box<dyn Error>> {
        let name = self.text("--shape").ok_or(usage)?;
        Ok(shapes::find(name).ok_or_else(|| format!("there is no shape called {name}"))?)
    }
}
