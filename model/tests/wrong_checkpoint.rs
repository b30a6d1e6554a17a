//! A well-formed model file that is not one: other tensors, other sizes, a description of something else.

mod common;

use std::collections::BTreeMap;

use common::{directory, trained};
use weft_model::Error;
use weft_model::checkpoint::{Checkpoint, hash_weights};
use weft_model::safetensors::{Checksum, Data, SafeTensors, TensorView, to_bytes};

/// What a model file consists of, to be changed and put together again.
#[derive(Clone)]
struct Parts {
    /// Name, shape and numbers.
    tensors: Vec<(String, Vec<usize>, Vec<f32>)>,
    description: String,
}

impl Parts {
    /// Those of `last.safetensors` after two steps: weights and moments.
    fn trained(name: &str) -> Parts {
        let bytes = trained(&directory(name), 2);
        let file = SafeTensors::from_bytes("last", &bytes, Checksum::Required).unwrap();
        let tensor = |t: &_| file.to_f32(t).unwrap();
        let tensors = file.tensors().iter().map(|t| (t.name.clone(), t.shape.clone(), tensor(t))).collect();
        Parts { tensors, description: file.metadata()["weft"].clone() }
    }

    fn read(&self) -> Result<Checkpoint, Error> {
        let views: Vec<TensorView<'_>> = (self.tensors.iter())
            .map(|(name, shape, data)| TensorView { name, shape, data: Data::F32(data) })
            .collect();
        let metadata = BTreeMap::from([("weft".to_string(), self.description.clone())]);
        let bytes = to_bytes(&views, &metadata).unwrap();
        Checkpoint::from_file(&SafeTensors::from_bytes("m", bytes, Checksum::Required)?)
    }
}

#[test]
fn a_file_of_other_tensors_is_refused() {
    let parts = Parts::trained("wrong-tensors");
    parts.read().expect("the parts of a model file make one again");
    let names: Vec<&str> = parts.tensors.iter().map(|tensor| tensor.0.as_str()).collect();
    for name in &names {
        let mut without = parts.clone();
        without.tensors.retain(|tensor| tensor.0 != *name);
        match without.read().map(drop).unwrap_err() {
            Error::WrongTensors { missing: true, names, .. } => assert_eq!(names, [*name]),
            error => panic!("without {name}: {error}"),
        }
    }
    let mut more = parts.clone();
    more.tensors.push(("a.stranger".into(), vec![1], vec![0.0]));
    match more.read().map(drop).unwrap_err() {
        Error::WrongTensors { missing: false, names, .. } => assert_eq!(names, ["a.stranger"]),
        error => panic!("a tensor too many: {error}"),
    }
    // Without any moment it is a model to sample from, and none to go on from.
    let mut weights = parts.clone();
    weights.tensors.retain(|tensor| !tensor.0.starts_with("optimizer."));
    assert!(weights.tensors.len() < names.len(), "there were no moments");
    assert!(weights.read().unwrap().moments.is_empty());
}

#[test]
fn a_tensor_of_another_shape_or_not_finite_is_refused() {
    let parts = Parts::trained("wrong-shapes");
    for at in 0..parts.tensors.len() {
        let name = &parts.tensors[at].0;
        let mut flat = parts.clone();
        let n = flat.tensors[at].2.len();
        flat.tensors[at].1 = vec![1, n];
        let mut nan = parts.clone();
        nan.tensors[at].2[n - 1] = f32::NAN;
        for (changed, problem) in [(flat, "has shape"), (nan, "is NaN at element")] {
            match changed.read().map(drop).unwrap_err() {
                Error::BadTensor { tensor, problem: found, .. } => {
                    assert_eq!(&tensor, name);
                    assert!(found.contains(problem), "{name}: {found}");
                }
                error => panic!("{name}: {error}"),
            }
        }
    }
}

#[test]
fn a_description_that_does_not_fit_is_refused() {
    let parts = Parts::trained("wrong-description");
    // From, to, and what is said of it.
    let changes = [
        ("\"format\":1", "\"format\":2", "format version 2"),
        ("\"step\":2", "\"steps\":2", "steps"),
        ("\"format\":\"lines\"", "\"format\":\"text\"", "does not suit data of format text"),
        ("\"vocab_size\":", "\"vocab_size\":1", "the vocabulary has"),
        ("\"n_head\":2", "\"n_head\":0", "n_head"),
        ("\"batch_size\":2", "\"batch_size\":0", "batch_size"),
    ];
    for (from, to, problem) in changes {
        assert!(parts.description.contains(from), "no {from} in {}", parts.description);
        let changed = Parts { description: parts.description.replacen(from, to, 1), ..parts.clone() };
        let error = changed.read().map(drop).unwrap_err();
        let newer = matches!(error, Error::NewerFormat { version: 2, .. });
        assert!(newer || matches!(error, Error::BadDescription { .. }), "{to}: {error}");
        assert!(error.to_string().contains(problem), "{to}: {error}");
    }
}

#[test]
fn the_hash_of_the_weights_is_theirs_alone() {
    let parts = Parts::trained("hash");
    let hash = |parts: &Parts| hash_weights(&parts.read().unwrap().params);
    let (mut other, mut moments, mut weights) = (parts.clone(), parts.clone(), parts.clone());
    let weight = other.tensors.iter_mut().find(|tensor| !tensor.0.starts_with("optimizer.")).unwrap();
    weight.2[0] = f32::from_bits(weight.2[0].to_bits() ^ 1);
    let moment = moments.tensors.iter_mut().find(|tensor| tensor.0.starts_with("optimizer.")).unwrap();
    moment.2[0] += 1.0;
    weights.tensors.retain(|tensor| !tensor.0.starts_with("optimizer."));
    assert_ne!(hash(&other), hash(&parts), "a bit makes no difference");
    assert_eq!(hash(&moments), hash(&parts), "a moment makes a difference");
    assert_eq!(hash(&weights), hash(&parts), "without the moments it is another");
}
