//! Values as people type them: `1e-3`, `3_000`, `64k`, `90s`.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde::de::value::{Error, StrDeserializer};
use serde::de::{DeserializeOwned, IntoDeserializer};

/// A number: `0.001`, `1e-3`, `3_000`, `64k` (thousand), `2M` (million).
pub(crate) fn number(text: &str) -> Result<f64, String> {
    let plain: String = text.trim().chars().filter(|c| *c != '_').collect();
    let (digits, factor) = match plain.strip_suffix(['k', 'K']) {
        Some(digits) => (digits, 1e3),
        None => plain.strip_suffix(['m', 'M']).map_or((plain.as_str(), 1.0), |digits| (digits, 1e6)),
    };
    match digits.parse::<f64>() {
        Ok(x) if x.is_finite() && (x * factor).is_finite() => Ok(x * factor),
        Ok(_) => Err("it must be a finite number".into()),
        Err(_) => Err("it must be a number, such as 0.001, 1e-3, 3_000 or 64k".into()),
    }
}

/// The largest count: what a TOML integer can hold.
const MAX_COUNT: u64 = i64::MAX as u64;

/// A whole number of at least 0 in the same notation.
pub(crate) fn count(text: &str) -> Result<u64, String> {
    let plain: String = text.trim().chars().filter(|c| *c != '_').collect();
    let too_large = || format!("it must be at most {MAX_COUNT}");
    // Digits alone are read as an integer: f64 would round those beyond 2⁵³.
    if !plain.is_empty() && plain.bytes().all(|b| b.is_ascii_digit()) {
        return plain.parse().ok().filter(|n| *n <= MAX_COUNT).ok_or_else(too_large);
    }
    let x = number(text).map_err(|_| "it must be a whole number, such as 300, 3_000 or 64k".to_string())?;
    if x < 0.0 {
        return Err("it must be at least 0".into());
    }
    if x.fract() != 0.0 {
        return Err("it must be a whole number".into());
    }
    if x > MAX_COUNT as f64 {
        return Err(too_large());
    }
    Ok(x as u64)
}

/// As [`count`].
pub(crate) fn size(text: &str) -> Result<usize, String> {
    count(text).and_then(|n| usize::try_from(n).map_err(|_| format!("it must be at most {}", usize::MAX)))
}

/// Seconds: `90`, `90s`, `5m`, `1.5h`.
pub(crate) fn seconds(text: &str) -> Result<f64, String> {
    let text = text.trim();
    let (digits, factor) = match text.char_indices().next_back() {
        Some((at, 's')) => (&text[..at], 1.0),
        Some((at, 'm')) => (&text[..at], 60.0),
        Some((at, 'h')) => (&text[..at], 3600.0),
        _ => (text, 1.0),
    };
    match digits.replace('_', "").parse::<f64>() {
        Ok(x) if x.is_finite() => Ok(x * factor),
        _ => Err("it must be a time, such as 90, 90s, 5m or 1.5h".into()),
    }
}

/// One of these names, as the configuration spells it.
pub(crate) fn choice<T>(names: &'static [&'static str]) -> impl TypedValueParser<Value = T>
where
    T: DeserializeOwned + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(names).try_map(|name| {
        let deserializer: StrDeserializer<'_, Error> = name.as_str().into_deserializer();
        T::deserialize(deserializer)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_people_type_them() {
        for (text, expected) in [("1e-3", 1e-3), ("3_000", 3e3), ("64k", 64e3), ("1.5M", 1.5e6), ("-2", -2.0)]
        {
            assert_eq!(number(text), Ok(expected), "{text}");
        }
        for text in ["", "k", "nan", "inf", "1e999", "1e308k", "one", "1e-3x", "0x10"] {
            assert!(number(text).is_err(), "{text}");
        }
    }

    #[test]
    fn counts_are_whole() {
        for (text, expected) in [("0", 0), ("3_000", 3000), ("64k", 64_000), ("1e4", 10_000)] {
            assert_eq!(count(text), Ok(expected), "{text}");
        }
        assert_eq!(count("9007199254740993"), Ok(9_007_199_254_740_993), "rounded");
        for text in ["-1", "1.5", "18446744073709551616", "9223372036854775808", "nan", "", "_"] {
            assert!(count(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_have_units() {
        for (text, expected) in [("90", 90.0), ("90s", 90.0), ("5m", 300.0), ("1.5h", 5400.0)] {
            assert_eq!(seconds(text), Ok(expected), "{text}");
        }
        for text in ["", "s", "nan", "infh", "five"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
