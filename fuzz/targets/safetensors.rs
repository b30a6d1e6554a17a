//! The reader of safetensors files: what it accepts has exactly the sizes that it says, and can be written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_fuzz::mended;
use weft_model::safetensors::{Checksum, Data, Dtype, SafeTensors, TensorView, to_bytes};

fuzz_target!(|input: &[u8]| {
    // As it is, and as if its first bytes were all right.
    check(input);
    if let Some((_, rest)) = input.split_first_chunk::<8>() {
        let end = rest.iter().position(|&byte| byte == 0).unwrap_or(rest.len());
        check(&mended(&rest[..end], &rest[end..]));
    }
});

fn check(input: &[u8]) {
    let Ok(file) = SafeTensors::from_bytes("fuzz", input, Checksum::IfPresent) else { return };
    let mut end = 0;
    for tensor in file.tensors() {
        let n_elements: usize = tensor.shape.iter().product();
        assert_eq!(tensor.n_elements(), n_elements);
        assert_eq!(file.bytes(tensor).len(), n_elements * tensor.dtype.size());
        assert_eq!(tensor.range.start, end, "a gap or an overlap");
        end = tensor.range.end;
        assert_eq!(file.get(&tensor.name), Some(tensor));
        let is_float = matches!(tensor.dtype, Dtype::F16 | Dtype::BF16 | Dtype::F32 | Dtype::F64);
        assert_eq!(file.to_f32(tensor).ok().map(|y| y.len()), is_float.then_some(n_elements));
    }

    let views: Vec<TensorView<'_>> = file
        .tensors()
        .iter()
        .map(|t| TensorView { name: &t.name, shape: &t.shape, data: Data::Bytes(t.dtype, file.bytes(t)) })
        .collect();
    let Ok(written) = to_bytes(&views, file.metadata()) else { return };
    let again =
        SafeTensors::from_bytes("again", &written, Checksum::Required).expect("what was written is read");
    assert_eq!(again.tensors(), file.tensors());
    for tensor in file.tensors() {
        assert_eq!(again.bytes(tensor), file.bytes(tensor));
    }
    let mut metadata = file.metadata().clone();
    metadata.insert("checksum".into(), again.metadata()["checksum"].clone());
    assert_eq!(again.metadata(), &metadata);
    assert_eq!(
        to_bytes(&views, again.metadata()).expect("it was written before"),
        written,
        "another file from the same"
    );
}
