//! Element types, and the way from each of the floating-point ones to f32.

/// The type of a tensor's elements, little-endian in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the format's own and say it all")]
#[non_exhaustive]
pub enum Dtype {
    Bool,
    U8,
    I8,
    F8E4M3,
    F8E5M2,
    F8E8M0,
    U16,
    I16,
    F16,
    BF16,
    U32,
    I32,
    F32,
    U64,
    I64,
    F64,
    C64,
}

/// Every type with its name in the format and its size in bytes.
const TABLE: [(Dtype, &str, usize); 17] = [
    (Dtype::Bool, "BOOL", 1),
    (Dtype::U8, "U8", 1),
    (Dtype::I8, "I8", 1),
    (Dtype::F8E4M3, "F8_E4M3", 1),
    (Dtype::F8E5M2, "F8_E5M2", 1),
    (Dtype::F8E8M0, "F8_E8M0", 1),
    (Dtype::U16, "U16", 2),
    (Dtype::I16, "I16", 2),
    (Dtype::F16, "F16", 2),
    (Dtype::BF16, "BF16", 2),
    (Dtype::U32, "U32", 4),
    (Dtype::I32, "I32", 4),
    (Dtype::F32, "F32", 4),
    (Dtype::U64, "U64", 8),
    (Dtype::I64, "I64", 8),
    (Dtype::F64, "F64", 8),
    (Dtype::C64, "C64", 8),
];

impl Dtype {
    /// Its name in the format, such as `BF16`.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// The type of that name. The types of less than a byte (`F4`, `F6_…`) are not known here.
    pub fn from_name(name: &str) -> Option<Dtype> {
        TABLE.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// The size of an element, in bytes.
    pub fn size(self) -> usize {
        self.row().2
    }

    /// Every name, for messages.
    pub(super) fn names() -> String {
        TABLE.map(|row| row.1).join(", ")
    }

    fn row(self) -> &'static (Dtype, &'static str, usize) {
        TABLE.iter().find(|row| row.0 == self).expect("the table has every type")
    }
}

/// Writes the elements of `bytes` to `y`, which has as many; `false` if `dtype` is not a floating-point type of at
/// least two bytes. Exact, except that F64 rounds to the nearest f32.
pub(super) fn widen(dtype: Dtype, bytes: &[u8], y: &mut [f32]) -> bool {
    match dtype {
        Dtype::F16 => each(bytes, y, |b| f16_to_f32(u16::from_le_bytes(b))),
        Dtype::BF16 => each(bytes, y, |b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16)),
        Dtype::F32 => each(bytes, y, f32::from_le_bytes),
        Dtype::F64 => each(bytes, y, |b| f64::from_le_bytes(b) as f32),
        _ => return false,
    }
    true
}

fn each<const N: usize>(bytes: &[u8], y: &mut [f32], read: impl Fn([u8; N]) -> f32) {
    for (y, b) in y.iter_mut().zip(bytes.as_chunks::<N>().0) {
        *y = read(*b);
    }
}

/// IEEE 754 binary16: sign, 5 bits of exponent with bias 15, 10 of mantissa.
fn f16_to_f32(h: u16) -> f32 {
    const TWO_POW_M24: f32 = 1.0 / 16_777_216.0;
    let (sign, exponent, mantissa) =
        (u32::from(h >> 15) << 31, u32::from(h >> 10) & 31, u32::from(h) & 0x3ff);
    let magnitude = match exponent {
        0 => (mantissa as f32 * TWO_POW_M24).to_bits(),
        31 => 0x7f80_0000 | (mantissa << 13),
        _ => ((exponent + 127 - 15) << 23) | (mantissa << 13),
    };
    f32::from_bits(sign | magnitude)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_is_what_its_bits_say() {
        for h in 0..=u16::MAX {
            let (sign, exponent, mantissa) = (h >> 15, i32::from(h >> 10 & 31), f64::from(h & 0x3ff));
            let expected = match exponent {
                0 => mantissa / 1024.0 * 2f64.powi(-14),
                31 if mantissa == 0.0 => f64::INFINITY,
                31 => f64::NAN,
                _ => (1.0 + mantissa / 1024.0) * 2f64.powi(exponent - 15),
            };
            let expected = if sign == 1 { -expected } else { expected };
            let y = f16_to_f32(h);
            assert_eq!(y.is_sign_negative(), sign == 1, "{h:#06x}");
            assert!(
                f64::from(y) == expected || y.is_nan() && expected.is_nan(),
                "{h:#06x}: {y} for {expected}"
            );
        }
    }

    #[test]
    fn names_lead_back_to_types() {
        for (dtype, name, size) in TABLE {
            assert_eq!((Dtype::from_name(name), dtype.name(), dtype.size()), (Some(dtype), name, size));
        }
        assert_eq!(Dtype::from_name("f32"), None);
    }
}
