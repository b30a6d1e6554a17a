//! A valid safetensors file, and everything that can be done to it so that it is none.

use weft_model::Error;

/// A file of this header and so many zeros.
pub(crate) fn file(header: &str, data_len: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend(std::iter::repeat_n(0, data_len));
    bytes
}

/// The header of a file that is accepted, before 30 bytes of data.
pub(crate) const HEADER: &str = concat!(
    r#"{"__metadata__":{"format":"pt"},"#,
    r#""a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"#,
    r#""b":{"dtype":"U8","shape":[2],"data_offsets":[24,26]},"#,
    r#""c":{"dtype":"F32","shape":[],"data_offsets":[26,30]}}"#
);
pub(crate) const DATA_LEN: usize = 30;
/// The object of `b`.
const B: &str = r#"{"dtype":"U8","shape":[2],"data_offsets":[24,26]}"#;

/// Which error is expected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    NotSafetensors,
    WrongLength,
    BadHeader,
    BadTensor,
    WrongChecksum,
    NoChecksum,
}
pub(crate) use Kind::*;

pub(crate) fn kind(error: &Error) -> Option<Kind> {
    Some(match error {
        Error::NotSafetensors { .. } => NotSafetensors,
        Error::WrongLength { .. } => WrongLength,
        Error::BadHeader { .. } => BadHeader,
        Error::BadTensor { .. } => BadTensor,
        Error::WrongChecksum { .. } => WrongChecksum,
        Error::NoChecksum { .. } => NoChecksum,
        _ => return None,
    })
}

/// A file that is refused: its name, its bytes, the error and a part of its message.
pub(crate) struct Malformed {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) message: &'static str,
}

/// What stands in [`HEADER`] in place of a part of it, and what is said about that.
type Edit = (&'static str, &'static str, &'static str, Kind, &'static str);

const JSON: &[Edit] = &[
    ("no end", "[26,30]}}", "[26,30]}", BadHeader, "EOF while parsing an object"),
    ("a letter behind the end", "[26,30]}}", "[26,30]}}x", BadHeader, "trailing characters"),
    ("zeros behind the end", "[26,30]}}", "[26,30]}}\0\0", BadHeader, "trailing characters"),
    ("two objects", "[26,30]}}", "[26,30]}}{}", BadHeader, "trailing characters"),
    ("a comma too many", "[26,30]}}", "[26,30]},}", BadHeader, "trailing comma"),
    ("a comma too few", "},\"a\"", "}\"a\"", BadHeader, "expected `,` or `}`"),
    ("no colon", "\"a\":", "\"a\"", BadHeader, "expected `:`"),
    ("single quotes", "\"a\"", "'a'", BadHeader, "key must be a string"),
    ("a bare key", "\"a\"", "a", BadHeader, "key must be a string"),
    ("a number as a key", "\"a\"", "1", BadHeader, "key must be a string"),
    ("a comment", "\"a\"", "/**/\"a\"", BadHeader, "key must be a string"),
    ("an unknown escape", "\"a\"", r#""\q""#, BadHeader, "invalid escape"),
    ("half an escape", "\"a\"", r#""\u12""#, BadHeader, "invalid escape"),
    ("half a surrogate pair", "\"a\"", r#""\ud800""#, BadHeader, "hex escape"),
    ("a line feed in a name", "\"a\"", "\"a\n\"", BadHeader, "control character"),
    ("an escape character in a name", "\"a\"", "\"\u{1b}[2J\"", BadHeader, "control character"),
    ("null for a tensor", B, "null", BadHeader, "invalid type: null, expected an object"),
    ("a number for a tensor", B, "1", BadHeader, "invalid type: integer `1`, expected an object"),
    ("a string for a tensor", B, "\"b\"", BadHeader, "invalid type: string \"b\", expected an object"),
    ("an array for a tensor", B, "[24,26]", BadHeader, "invalid type: sequence, expected an object"),
    ("true for a tensor", B, "true", BadHeader, "invalid type: boolean `true`, expected an object"),
    ("an object in a tensor", B, "{\"b\":{\"b\":{}}}", BadHeader, "invalid type: map"),
    ("an empty tensor", B, "{}", BadTensor, "tensor `b` has no `dtype`"),
];

const METADATA: &[Edit] = &[
    ("a number in the metadata", "\"pt\"", "1", BadHeader, "expected a string"),
    ("null in the metadata", "\"pt\"", "null", BadHeader, "expected a string"),
    ("true in the metadata", "\"pt\"", "true", BadHeader, "expected a string"),
    ("an array in the metadata", "\"pt\"", "[\"pt\"]", BadHeader, "expected a string"),
    ("an object in the metadata", "\"pt\"", "{}", BadHeader, "expected a string"),
    ("null for the metadata", "{\"format\":\"pt\"}", "null", BadHeader, "expected an object"),
    ("a string for the metadata", "{\"format\":\"pt\"}", "\"pt\"", BadHeader, "expected an object"),
    ("an array for the metadata", "{\"format\":\"pt\"}", "[]", BadHeader, "expected an object"),
    ("a tensor for the metadata", "{\"format\":\"pt\"}", B, BadHeader, "expected a string"),
    (
        "a tensor with the name of the metadata",
        "\"a\"",
        "\"__metadata__\"",
        BadHeader,
        "`__metadata__` stands there twice",
    ),
    (
        "metadata twice, both right",
        "{\"format\":\"pt\"}",
        "{},\"__metadata__\":{}",
        BadHeader,
        "the key `__metadata__` stands there twice",
    ),
    (
        "metadata twice by an escape",
        "{\"format\":\"pt\"}",
        r#"{},"\u005f_metadata__":{}"#,
        BadHeader,
        "the key `__metadata__` stands there twice",
    ),
    (
        "a metadata key twice",
        "\"pt\"",
        "\"pt\",\"format\":\"np\"",
        BadHeader,
        "the key `format` stands there twice",
    ),
    (
        "a metadata key twice by an escape",
        "\"pt\"",
        r#""pt","f\u006frmat":"np""#,
        BadHeader,
        "the key `format` stands there twice",
    ),
    (
        "another checksum",
        "\"format\":\"pt\"",
        "\"checksum\":\"0123456789abcdef\"",
        WrongChecksum,
        "should be 0123456789abcdef",
    ),
    (
        "a checksum with an escaped key",
        "\"format\":\"pt\"",
        r#""check\u0073um":"0123456789abcdef""#,
        BadHeader,
        "not written as weft writes it",
    ),
    (
        "a checksum behind a space",
        "\"format\":\"pt\"",
        "\"checksum\": \"0123456789abcdef\"",
        BadHeader,
        "not written as weft writes it",
    ),
];

const NAMES: &[Edit] = &[
    ("a name twice", "\"b\"", "\"a\"", BadHeader, "the key `a` stands there twice"),
    ("a name twice by an escape", "\"b\"", r#""\u0061""#, BadHeader, "the key `a` stands there twice"),
    ("no name", "\"b\"", "\"\"", BadHeader, "the tensor name `` has 0 bytes"),
    ("a zero in a name", "\"b\"", r#""b\u0000""#, BadHeader, "`b\\0` has a control character"),
    ("an escaped line feed in a name", "\"b\"", r#""b\n""#, BadHeader, "`b\\n` has a control character"),
    (
        "an escaped escape in a name",
        "\"b\"",
        r#""\u001b[2J""#,
        BadHeader,
        "`\\u{1b}[2J` has a control character",
    ),
    ("a delete in a name", "\"b\"", r#""\u007f""#, BadHeader, "`\\u{7f}` has a control character"),
    ("a C1 control in a name", "\"b\"", r#""\u0085""#, BadHeader, "`\\u{85}` has a control character"),
];

const DTYPES: &[Edit] = &[
    ("no dtype", "\"dtype\":\"U8\",", "", BadTensor, "tensor `b` has no `dtype`"),
    (
        "dtype twice",
        "\"dtype\":\"U8\",",
        "\"dtype\":\"U8\",\"dtype\":\"U8\",",
        BadHeader,
        "`dtype` stands there twice",
    ),
    (
        "dtype twice by an escape",
        "\"dtype\":\"U8\",",
        r#""dtype":"U8","\u0064type":"U8","#,
        BadHeader,
        "`dtype` stands there twice",
    ),
    ("a number for a dtype", "\"U8\"", "8", BadHeader, "expected a string or an array"),
    ("null for a dtype", "\"U8\"", "null", BadHeader, "expected a string or an array"),
    ("an array for a dtype", "\"U8\"", "[8]", BadTensor, "tensor `b` has a `dtype` that is not a string"),
    ("no letters in a dtype", "\"U8\"", "\"\"", BadTensor, "has dtype ``; known are BOOL, U8"),
    ("a dtype in small letters", "\"U8\"", "\"u8\"", BadTensor, "has dtype `u8`"),
    ("a dtype behind a space", "\"U8\"", "\" U8\"", BadTensor, "has dtype ` U8`"),
    ("a dtype of half a byte", "\"U8\"", "\"F4\"", BadTensor, "has dtype `F4`"),
    ("a dtype that is unknown", "\"U8\"", "\"Q8_0\"", BadTensor, "has dtype `Q8_0`"),
    (
        "a dtype that is larger",
        "\"U8\"",
        "\"U16\"",
        BadTensor,
        "U16 [2] needs 4 bytes, and its data_offsets are [24, 26]",
    ),
    (
        "a dtype that is smaller",
        "\"F32\",\"shape\":[]",
        "\"F16\",\"shape\":[]",
        BadTensor,
        "F16 [] needs 2 bytes",
    ),
    (
        "an unknown field",
        "\"dtype\":\"U8\",",
        "\"dtype\":\"U8\",\"x\":\"y\",",
        BadTensor,
        "tensor `b` has an unknown key `x`",
    ),
    ("a field in capitals", "\"dtype\":\"U8\"", "\"DType\":\"U8\"", BadTensor, "tensor `b` has no `dtype`"),
];

const SHAPES: &[Edit] = &[
    ("no shape", "\"shape\":[2],", "", BadTensor, "tensor `b` has no `shape`"),
    (
        "shape twice",
        "\"shape\":[2],",
        "\"shape\":[2],\"shape\":[2],",
        BadHeader,
        "`shape` stands there twice",
    ),
    (
        "a string for a shape",
        "\"shape\":[2]",
        "\"shape\":\"2\"",
        BadTensor,
        "`shape` that is not an array of whole numbers",
    ),
    ("a number for a shape", "\"shape\":[2]", "\"shape\":2", BadHeader, "expected a string or an array"),
    ("null for a shape", "\"shape\":[2]", "\"shape\":null", BadHeader, "expected a string or an array"),
    ("an object for a shape", "\"shape\":[2]", "\"shape\":{}", BadHeader, "expected a string or an array"),
    ("a negative size", "\"shape\":[2]", "\"shape\":[-2]", BadHeader, "integer `-2`, expected u64"),
    ("minus zero", "\"shape\":[2]", "\"shape\":[-0]", BadHeader, "floating point `-0.0`"),
    ("a fraction", "\"shape\":[2]", "\"shape\":[2.0]", BadHeader, "floating point `2.0`"),
    ("an exponent", "\"shape\":[2]", "\"shape\":[2e0]", BadHeader, "floating point `2.0`"),
    ("a thousand by an exponent", "\"shape\":[2]", "\"shape\":[1e3]", BadHeader, "floating point `1000.0`"),
    ("a number beyond all", "\"shape\":[2]", "\"shape\":[1e999]", BadHeader, "number out of range"),
    ("2^64", "\"shape\":[2]", "\"shape\":[18446744073709551616]", BadHeader, "floating point"),
    ("a leading zero", "\"shape\":[2]", "\"shape\":[02]", BadHeader, "invalid number"),
    ("a plus", "\"shape\":[2]", "\"shape\":[+2]", BadHeader, "expected value"),
    ("hexadecimal digits", "\"shape\":[2]", "\"shape\":[0x2]", BadHeader, "expected `,` or `]`"),
    ("not a number", "\"shape\":[2]", "\"shape\":[NaN]", BadHeader, "expected value"),
    ("infinity", "\"shape\":[2]", "\"shape\":[Infinity]", BadHeader, "expected value"),
    ("a string in a shape", "\"shape\":[2]", "\"shape\":[\"2\"]", BadHeader, "string \"2\", expected u64"),
    ("true in a shape", "\"shape\":[2]", "\"shape\":[true]", BadHeader, "boolean `true`, expected u64"),
    ("null in a shape", "\"shape\":[2]", "\"shape\":[null]", BadHeader, "null, expected u64"),
    ("a shape in a shape", "\"shape\":[2]", "\"shape\":[[2]]", BadHeader, "sequence, expected u64"),
    ("a comma too many in a shape", "\"shape\":[2]", "\"shape\":[2,]", BadHeader, "trailing comma"),
    (
        "nine dimensions",
        "\"shape\":[2]",
        "\"shape\":[2,1,1,1,1,1,1,1,1]",
        BadTensor,
        "has 9 dimensions, and at most 8",
    ),
    ("a size too many", "\"shape\":[2]", "\"shape\":[2,2]", BadTensor, "U8 [2, 2] needs 4 bytes"),
    ("a size of zero", "\"shape\":[2]", "\"shape\":[0]", BadTensor, "U8 [0] needs 0 bytes"),
    ("no size", "\"shape\":[2,3]", "\"shape\":[]", BadTensor, "F32 [] needs 4 bytes"),
    (
        "2^32 by 2^32",
        "\"shape\":[2]",
        "\"shape\":[4294967296,4294967296]",
        BadTensor,
        "impossible shape [4294967296, 4294967296]",
    ),
    (
        "2^64 - 1 times four",
        "\"shape\":[2,3]",
        "\"shape\":[18446744073709551615]",
        BadTensor,
        "impossible shape",
    ),
    (
        "zero times too many",
        "\"shape\":[2]",
        "\"shape\":[0,4294967296,4294967296]",
        BadTensor,
        "impossible shape",
    ),
    ("2^62 times four", "\"shape\":[2,3]", "\"shape\":[4611686018427387904]", BadTensor, "impossible shape"),
    (
        "eight times 2^32",
        "\"shape\":[2]",
        "\"shape\":[4294967296,4294967296,4294967296,4294967296,4294967296,4294967296,4294967296,4294967296]",
        BadTensor,
        "impossible shape",
    ),
];

const PLACES: &[Edit] = &[
    ("no offsets", ",\"data_offsets\":[24,26]", "", BadTensor, "tensor `b` has no `data_offsets`"),
    (
        "offsets twice",
        ",\"data_offsets\":[24,26]",
        ",\"data_offsets\":[24,26],\"data_offsets\":[24,26]",
        BadHeader,
        "`data_offsets` stands there twice",
    ),
    ("no offset", "[24,26]", "[]", BadTensor, "has 0 `data_offsets` instead of 2"),
    ("one offset", "[24,26]", "[24]", BadTensor, "has 1 `data_offsets` instead of 2"),
    ("three offsets", "[24,26]", "[24,26,26]", BadTensor, "has 3 `data_offsets` instead of 2"),
    ("a string for offsets", "[24,26]", "\"24-26\"", BadTensor, "`data_offsets` that is not an array"),
    ("an object for offsets", "[24,26]", "{\"begin\":24}", BadHeader, "expected a string or an array"),
    ("a negative offset", "[24,26]", "[-24,26]", BadHeader, "integer `-24`, expected u64"),
    ("a fraction for an offset", "[24,26]", "[24.0,26]", BadHeader, "floating point"),
    ("an offset of 2^64", "[24,26]", "[24,18446744073709551616]", BadHeader, "floating point"),
    ("an end before its beginning", "[24,26]", "[26,24]", BadTensor, "data_offsets are [26, 24]"),
    ("an end of 2^64 - 1", "[24,26]", "[24,18446744073709551615]", BadTensor, "needs 2 bytes"),
    ("a beginning of 2^64 - 1", "[24,26]", "[18446744073709551615,1]", BadTensor, "needs 2 bytes"),
    ("an end too far", "[24,26]", "[24,27]", BadTensor, "needs 2 bytes, and its data_offsets are [24, 27]"),
    ("an end too near", "[24,26]", "[24,25]", BadTensor, "needs 2 bytes, and its data_offsets are [24, 25]"),
    (
        "a gap",
        "[24,26]",
        "[25,27]",
        BadTensor,
        "tensor `b` begins at byte 25 of the data, and the one before it ends at 24",
    ),
    (
        "an overlap",
        "[24,26]",
        "[23,25]",
        BadTensor,
        "tensor `b` begins at byte 23 of the data, and the one before it ends at 24",
    ),
    (
        "an overlap with all",
        "[24,26]",
        "[0,2]",
        BadTensor,
        "tensor `a` begins at byte 0 of the data, and the one before it ends at 2",
    ),
    (
        "the same place",
        "[26,30]",
        "[24,28]",
        BadTensor,
        "tensor `c` begins at byte 24 of the data, and the one before it ends at 26",
    ),
    (
        "a gap at the beginning",
        "[0,24]",
        "[1,25]",
        BadTensor,
        "tensor `a` begins at byte 1 of the data, and the one before it ends at 0",
    ),
    (
        "places in another order, with a gap",
        "[24,26]",
        "[30,32]",
        BadTensor,
        "tensor `c` begins at byte 26 of the data, and the one before it ends at 24",
    ),
    (
        "nothing inside of something",
        "[],\"data_offsets\":[26,30]",
        "[0],\"data_offsets\":[10,10]",
        BadTensor,
        "tensor `c` begins at byte 10",
    ),
    (
        "nothing beyond the end",
        "[],\"data_offsets\":[26,30]",
        "[0],\"data_offsets\":[99,99]",
        BadTensor,
        "tensor `c` begins at byte 99",
    ),
    (
        "beyond the end",
        "[],\"data_offsets\":[26,30]",
        "[2],\"data_offsets\":[26,34]",
        WrongLength,
        "its end is missing",
    ),
    (
        "a terabyte beyond the end",
        "[],\"data_offsets\":[26,30]",
        "[274877906944],\"data_offsets\":[26,1099511627802]",
        WrongLength,
        "its end is missing",
    ),
    (
        "2^64 - 1 bytes",
        "\"F32\",\"shape\":[],\"data_offsets\":[26,30]",
        "\"U8\",\"shape\":[18446744073709551589],\"data_offsets\":[26,18446744073709551615]",
        WrongLength,
        "its end is missing",
    ),
    (
        "bytes of no tensor",
        ",\"c\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[26,30]}",
        "",
        WrongLength,
        "something was added",
    ),
    (
        "bytes behind the last tensor",
        "\"F32\",\"shape\":[],\"data_offsets\":[26,30]",
        "\"U8\",\"shape\":[],\"data_offsets\":[26,27]",
        WrongLength,
        "something was added",
    ),
];

/// Every malformed file.
pub(crate) fn corpus() -> Vec<Malformed> {
    let whole = file(HEADER, DATA_LEN);
    let mut files = Vec::new();
    let mut add = |name: &str, bytes: Vec<u8>, kind: Kind, message: &'static str| {
        files.push(Malformed { name: name.to_string(), bytes, kind, message });
    };
    for (name, from, to, kind, message) in [JSON, METADATA, NAMES, DTYPES, SHAPES, PLACES].concat() {
        assert_eq!(HEADER.matches(from).count(), 1, "{name}: what is replaced is not there once");
        add(name, file(&HEADER.replace(from, to), DATA_LEN), kind, message);
    }
    // What is too long to write down.
    let with_b = |b: &str| file(&HEADER.replace(B, b), DATA_LEN);
    let named = |b: &str| file(&HEADER.replace("\"b\"", &format!("\"{b}\"")), DATA_LEN);
    let field = |dtype: &str| with_b(&B.replace("U8", dtype));
    add(
        "a name of 513 bytes",
        named(&"n".repeat(513)),
        BadHeader,
        "has 513 bytes: it must have between 1 and 512",
    );
    add("a name of 257 characters of two bytes", named(&"é".repeat(257)), BadHeader, "has 514 bytes");
    add("a dtype of a million letters", field(&"F".repeat(1_000_000)), BadTensor, "has dtype `FFF");
    add(
        "objects a hundred thousand deep",
        with_b(&"{\"b\":".repeat(100_000)),
        BadHeader,
        "invalid type: map",
    );
    add(
        "arrays a hundred thousand deep",
        with_b(&format!("{{\"b\":{}", "[".repeat(100_000))),
        BadHeader,
        "invalid type: sequence",
    );
    add(
        "a thousand dimensions",
        with_b(&B.replace("[2]", &format!("[2{}]", ",1".repeat(999)))),
        BadTensor,
        "has 1000 dimensions",
    );

    // The length of the header.
    let long = HEADER.len() as u64;
    let with_length = |n: u64| [&n.to_le_bytes(), &whole[8..]].concat();
    add("a header one byte too long", with_length(long + 1), BadHeader, "trailing characters");
    add("a header one byte too short", with_length(long - 1), BadHeader, "EOF");
    add("a header of no byte", with_length(0), BadHeader, "EOF");
    add("a header of one byte", with_length(1), BadHeader, "EOF");
    add("a header to the end of the file", with_length(long + 30), BadHeader, "trailing characters");
    add("a header beyond the end of the file", with_length(long + 31), WrongLength, "its end is missing");
    add("a header of 8 MiB that is not there", with_length(8 << 20), WrongLength, "its end is missing");
    add(
        "a header of 8 MiB and a byte",
        with_length((8 << 20) + 1),
        BadHeader,
        "8388609 bytes, and at most 8388608",
    );
    add("a header of 2^63 bytes", with_length(1 << 63), BadHeader, "9223372036854775808 bytes");
    add("a header of 2^64 - 1 bytes", with_length(u64::MAX), BadHeader, "18446744073709551615 bytes");
    add("a length in the other byte order", with_length(long.swap_bytes()), BadHeader, "at most 8388608");
    // Where the header begins.
    let starting = |start: &str| file(&format!("{start}{HEADER}"), DATA_LEN);
    add("a space before the header", starting(" "), NotSafetensors, "is not a safetensors file");
    add(
        "a byte order mark before the header",
        starting("\u{feff}"),
        NotSafetensors,
        "is not a safetensors file",
    );
    add("an array around the header", starting("["), NotSafetensors, "is not a safetensors file");
    add("no length", whole[8..].to_vec(), NotSafetensors, "is not a safetensors file");
    // The end of the file.
    add("one byte more", [&whole[..], b"\0"].concat(), WrongLength, "something was added");
    add("the file twice", whole.repeat(2), WrongLength, "something was added");
    add("one byte less", whole[..whole.len() - 1].to_vec(), WrongLength, "its end is missing");
    add("no data", whole[..whole.len() - DATA_LEN].to_vec(), WrongLength, "its end is missing");
    // Bytes that are not UTF-8, in the place of the name `b` and of the value `pt`.
    let name_at = 8 + HEADER.find("\"b\"").expect("b is there") + 1;
    let value_at = 8 + HEADER.find("pt").expect("pt is there");
    let with_bytes = |at: usize, bytes: &[u8]| {
        let mut file = whole.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    };
    add("a byte of another encoding in a name", with_bytes(name_at, b"\xe9"), BadHeader, "unicode");
    add("a byte that is never UTF-8 in the metadata", with_bytes(value_at, b"\xff"), BadHeader, "unicode");
    add("an overlong zero in the metadata", with_bytes(value_at, b"\xc0\x80"), BadHeader, "unicode");
    add("half a character in the metadata", with_bytes(value_at + 1, b"\xc3"), BadHeader, "unicode");
    files
}
