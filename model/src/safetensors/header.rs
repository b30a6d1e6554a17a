//! The header: from untrusted JSON to tensors whose places in the file are known to be right.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::{Dtype, MAX_NAME_BYTES, MAX_RANK, MAX_TENSORS, METADATA, TensorInfo};
use crate::Error;

/// What the header says, checked.
#[derive(Debug)]
pub(super) struct Header {
    /// In the order of their data.
    pub(super) tensors: Vec<TensorInfo>,
    pub(super) metadata: BTreeMap<String, String>,
    /// Bytes of all tensors together, which is what must follow the header.
    pub(super) data_len: u64,
}

impl Header {
    /// Reads the JSON of the file `name`.
    ///
    /// The order of the keys is free, as in the format. The tensors' data must follow one another without gap or
    /// overlap, and each must have the length of its shape.
    pub(super) fn parse(name: &str, json: &[u8]) -> Result<Header, Error> {
        let broken = |problem: String| Error::BadHeader { name: name.to_string(), problem };
        let raw: RawHeader = serde_json::from_slice(json).map_err(|e| broken(clip(&e.to_string())))?;
        if raw.tensors.len() > MAX_TENSORS {
            return Err(broken(format!("{} tensors, and at most {MAX_TENSORS} are read", raw.tensors.len())));
        }
        let mut entries = Vec::with_capacity(raw.tensors.len());
        for (key, fields) in raw.tensors {
            if let Err(problem) = check_name(&key) {
                return Err(broken(format!("the tensor name `{}` {problem}", clip(&key))));
            }
            match Entry::new(fields) {
                Ok(entry) => entries.push((key, entry)),
                Err(problem) => {
                    return Err(Error::BadTensor { name: name.to_string(), tensor: key, problem });
                }
            }
        }
        entries.sort_by_key(|(_, entry)| (entry.begin, entry.end));

        let mut data_len = 0;
        let mut tensors = Vec::with_capacity(entries.len());
        for (key, Entry { dtype, shape, begin, end }) in entries {
            if begin != data_len {
                let problem =
                    format!("begins at byte {begin} of the data, and the one before it ends at {data_len}");
                return Err(Error::BadTensor { name: name.to_string(), tensor: key, problem });
            }
            data_len = end;
            // Beyond the address space there can be no such file in memory; the caller compares lengths.
            let range = to_usize(begin)..to_usize(end);
            tensors.push(TensorInfo { name: key, dtype, shape, range });
        }
        Ok(Header { tensors, metadata: raw.metadata, data_len })
    }
}

fn to_usize(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

/// The rules for a tensor's name; the error continues "the tensor name …".
pub(super) fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES {
        return Err(format!("has {} bytes: it must have between 1 and {MAX_NAME_BYTES}", name.len()));
    }
    if name.chars().any(char::is_control) {
        return Err("has a control character".into());
    }
    Ok(())
}

/// The number of bytes of a tensor, or `None` beyond 2⁶⁴.
///
/// An extent of 0 counts as 1 for the overflow, so that no product of some of the extents can overflow either:
/// whoever computes strides from an accepted shape need not check again.
pub(super) fn byte_len(dtype: Dtype, shape: impl IntoIterator<Item = u64> + Clone) -> Option<u64> {
    let bound = shape.clone().into_iter().try_fold(dtype.size() as u64, |n, d| n.checked_mul(d.max(1)))?;
    Some(if shape.into_iter().any(|d| d == 0) { 0 } else { bound })
}

/// One tensor's object, checked by itself.
struct Entry {
    dtype: Dtype,
    shape: Vec<usize>,
    begin: u64,
    end: u64,
}

impl Entry {
    /// The error continues "tensor … ".
    fn new(mut fields: BTreeMap<String, Field>) -> Result<Entry, String> {
        let dtype = match fields.remove("dtype") {
            Some(Field::Text(dtype)) => dtype,
            Some(_) => return Err("has a `dtype` that is not a string".into()),
            None => return Err("has no `dtype`".into()),
        };
        let mut numbers = |key: &str| match fields.remove(key) {
            Some(Field::Numbers(numbers)) => Ok(numbers),
            Some(_) => Err(format!("has a `{key}` that is not an array of whole numbers")),
            None => Err(format!("has no `{key}`")),
        };
        let (shape, offsets) = (numbers("shape")?, numbers("data_offsets")?);
        if let Some(key) = fields.keys().next() {
            return Err(format!("has an unknown key `{}`", clip(key)));
        }

        let dtype = Dtype::from_name(&dtype)
            .ok_or_else(|| format!("has dtype `{}`; known are {}", clip(&dtype), Dtype::names()))?;
        if shape.len() > MAX_RANK {
            return Err(format!("has {} dimensions, and at most {MAX_RANK} are read", shape.len()));
        }
        let &[begin, end] = offsets.as_slice() else {
            return Err(format!("has {} `data_offsets` instead of 2", offsets.len()));
        };
        let len = byte_len(dtype, shape.iter().copied());
        let len = len.ok_or_else(|| format!("has the impossible shape {shape:?}"))?;
        if end.checked_sub(begin) != Some(len) {
            let dtype = dtype.name();
            return Err(format!(
                "of {dtype} {shape:?} needs {len} bytes, and its data_offsets are [{begin}, {end}]"
            ));
        }
        let shape = shape.iter().map(|&d| usize::try_from(d)).collect::<Result<_, _>>();
        Ok(Entry { dtype, shape: shape.map_err(|_| "is too large for this machine")?, begin, end })
    }
}

/// The header as JSON, its keys distinct.
#[derive(Default)]
struct RawHeader {
    metadata: BTreeMap<String, String>,
    tensors: BTreeMap<String, BTreeMap<String, Field>>,
}

/// What can stand in a tensor's object.
enum Field {
    Text(String),
    Numbers(Vec<u64>),
}

/// A JSON object whose keys, after unescaping, are distinct. (serde's maps keep the last of equal keys.)
struct Object<V>(BTreeMap<String, V>);

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = RawHeader;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
                let mut header = RawHeader::default();
                let mut has_metadata = false;
                while let Some(key) = map.next_key::<String>()? {
                    if if key == METADATA { has_metadata } else { header.tensors.contains_key(&key) } {
                        return Err(duplicate(&key));
                    }
                    if key == METADATA {
                        has_metadata = true;
                        header.metadata = map.next_value::<Object<String>>()?.0;
                    } else {
                        header.tensors.insert(key, map.next_value::<Object<Field>>()?.0);
                    }
                }
                Ok(header)
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Object<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys<V>(std::marker::PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Keys<V> {
            type Value = Object<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<V>, A::Error> {
                let mut object = BTreeMap::new();
                while let Some(key) = map.next_key::<String>()? {
                    if object.contains_key(&key) {
                        return Err(duplicate(&key));
                    }
                    object.insert(key, map.next_value()?);
                }
                Ok(Object(object))
            }
        }
        deserializer.deserialize_map(Keys(std::marker::PhantomData))
    }
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Kinds;
        impl<'de> Visitor<'de> for Kinds {
            type Value = Field;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of whole numbers")
            }

            fn visit_str<E>(self, text: &str) -> Result<Field, E> {
                Ok(Field::Text(text.to_string()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Field, A::Error> {
                let mut numbers = Vec::new();
                while let Some(number) = seq.next_element()? {
                    numbers.push(number);
                }
                Ok(Field::Numbers(numbers))
            }
        }
        deserializer.deserialize_any(Kinds)
    }
}

fn duplicate<E: serde::de::Error>(key: &str) -> E {
    E::custom(format_args!("the key `{}` stands there twice", clip(key)))
}

/// At most 200 characters of something from a file, so that a message stays a message.
pub(crate) fn clip(text: &str) -> String {
    const MOST: usize = 200;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_string(),
    }
}
