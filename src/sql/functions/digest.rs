//! Checksums, and bytes as text.

use md5::Md5;
use sha2::{Digest, Sha256};

use super::{Argument, Function, PLAIN, Parameter, Prepared, Returns, Signature, to_text};
use crate::event::{Type, Value, from_base64, from_hex, to_base64, to_hex};

const fn of(parameters: &'static [Parameter], result: Type) -> Signature {
    Signature {
        parameters,
        optional: 0,
        repeats: 0,
        result: Returns::Fixed(result),
    }
}

pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        names: &["hash"],
        signature: of(&[Parameter::Any], Type::Long),
        eval: |_, arguments| {
            let value = arguments.first()?;
            let text = to_text(value);
            let bytes = match &text {
                Some(text) => text.as_bytes(),
                None => value.as_bytes()?,
            };
            Some(Value::Int(i64::from_ne_bytes(fnv_1a(bytes).to_ne_bytes())))
        },
        doc: "hash(x): 64 bits (FNV-1a) of bytes, or of a value as text (times in ms); the same on \
              every machine",
        example: ("hash('press-1') = hash('press-' || 1)", "true"),
        ..PLAIN
    },
    Function {
        names: &["md5"],
        signature: of(&[Parameter::Raw], Type::String),
        eval: |_, arguments| Some(Value::from(to_hex(&Md5::digest(bytes(arguments)?)))),
        doc: "md5(x): MD5 (RFC 1321) of text (as UTF-8) or bytes, in hexadecimal",
        example: ("md5('')", "'d41d8cd98f00b204e9800998ecf8427e'"),
        ..PLAIN
    },
    Function {
        names: &["sha256"],
        signature: of(&[Parameter::Raw], Type::String),
        eval: |_, arguments| Some(Value::from(to_hex(&Sha256::digest(bytes(arguments)?)))),
        doc: "sha256(x): SHA-256 (FIPS 180-4), in hexadecimal",
        example: (
            "sha256('')",
            "'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'",
        ),
        ..PLAIN
    },
    Function {
        names: &["crc32"],
        signature: of(&[Parameter::Raw], Type::Long),
        eval: |_, arguments| Some(Value::Int(i64::from(crc32(bytes(arguments)?)))),
        doc: "crc32(x): CRC-32 as in ISO 3309 and gzip",
        example: ("crc32('123456789')", "3421780262"),
        ..PLAIN
    },
    Function {
        names: &["encode"],
        signature: of(&[Parameter::Raw, Parameter::Text], Type::String),
        prepare: Some(|arguments| {
            in_form(arguments, |form, values| {
                let bytes = bytes(values)?;
                Some(Value::from(match form {
                    Form::Base64 => to_base64(bytes),
                    Form::Hex => to_hex(bytes),
                }))
            })
        }),
        doc: "encode(x, form): text or bytes in 'base64' or 'hex'",
        example: ("encode('abc', 'base64')", "'YWJj'"),
        ..PLAIN
    },
    Function {
        names: &["decode"],
        signature: of(&[Parameter::Text, Parameter::Text], Type::Bytes),
        prepare: Some(|arguments| {
            in_form(arguments, |form, values| {
                let text = values.first()?.as_str()?;
                let bytes = match form {
                    Form::Base64 => from_base64(text)?,
                    Form::Hex => from_hex(text)?,
                };
                Some(Value::from(bytes.as_slice()))
            })
        }),
        doc: "decode(s, form): the BYTES that are written in 'base64' or 'hex'",
        example: ("CAST(decode('YWJj', 'base64') AS STRING)", "'abc'"),
        ..PLAIN
    },
    Function {
        names: &["to_hex"],
        signature: of(&[Parameter::Any], Type::String),
        prepare: Some(
            |arguments| match arguments.first().map(|argument| argument.ty) {
                Some(Type::Int | Type::Long | Type::String | Type::Bytes) | None => {
                    Ok(Box::new(|_, values| {
                        Some(match values.first()? {
                            Value::Int(number) => Value::from(format!("{number:x}")),
                            _ => Value::from(to_hex(bytes(values)?)),
                        })
                    }))
                }
                Some(ty) => Err(format!("takes an integer, text or bytes, this is {ty}")),
            },
        ),
        doc: "to_hex(x): an integer (64 bits, two's complement), text or bytes in hexadecimal",
        example: ("to_hex(255)", "'ff'"),
        ..PLAIN
    },
    Function {
        names: &["from_hex"],
        signature: of(&[Parameter::Text], Type::Bytes),
        eval: |_, arguments| {
            let bytes = from_hex(arguments.first()?.as_str()?)?;
            Some(Value::from(bytes.as_slice()))
        },
        doc: "from_hex(s): the BYTES that are written in hexadecimal",
        example: ("CAST(from_hex('6162') AS STRING)", "'ab'"),
        ..PLAIN
    },
    Function {
        names: &["octet_length"],
        signature: of(&[Parameter::Raw], Type::Int),
        eval: |_, arguments| i64::try_from(bytes(arguments)?.len()).ok().map(Value::Int),
        doc: "octet_length(x): how many bytes text (as UTF-8) or bytes have",
        example: ("octet_length('grün')", "5"),
        ..PLAIN
    },
];

fn bytes(arguments: &[Value]) -> Option<&[u8]> {
    match arguments.first()? {
        Value::Str(text) => Some(text.as_bytes()),
        value => value.as_bytes(),
    }
}

#[derive(Clone, Copy)]
enum Form {
    Base64,
    Hex,
}

fn form_named(name: &str) -> Result<Form, String> {
    match name.to_ascii_lowercase().as_str() {
        "base64" => Ok(Form::Base64),
        "hex" => Ok(Form::Hex),
        _ => Err(format!(
            "unknown form '{name}'; known are 'base64' and 'hex'"
        )),
    }
}

fn in_form(
    arguments: &[Argument<'_>],
    eval: fn(Form, &[Value]) -> Option<Value>,
) -> Result<Prepared, String> {
    let constant = arguments.get(1).and_then(|argument| argument.constant);
    let known = constant
        .and_then(Value::as_str)
        .map(form_named)
        .transpose()?;
    Ok(Box::new(move |_, values| {
        let form = match known {
            Some(form) => form,
            None => form_named(values.get(1)?.as_str()?).ok()?,
        };
        eval(form, values)
    }))
}

/// <http://www.isthe.com/chongo/tech/comp/fnv/>
pub(super) fn fnv_1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Bit by bit, reflected: payloads are short, and no table has to lie in the cache.
fn crc32(bytes: &[u8]) -> u32 {
    let crc = bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    });
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_the_reference() {
        assert_eq!(fnv_1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv_1a(b"foobar"), 0x8594_4171_f739_67e8);
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }
}
