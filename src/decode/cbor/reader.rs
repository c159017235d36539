//! CBOR item by item (RFC 8949), out of a slice, without recursion.
//!
//! ```text
//! head: major type (3 bits), additional information (5 bits)
//!       below 24 the argument itself; 24 to 27: 1, 2, 4 or 8 bytes of argument, highest first;
//!       31: of unknown length, ended by 0xff; 28 to 30 are not well-formed
//! ```
//!
//! Nothing is reserved for a length that is only claimed.

/// What an item begins with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Head {
    Unsigned(u64),
    /// -1 less the number.
    Negative(u64),
    /// So many bytes; `None`: in pieces.
    Bytes(Option<u64>),
    /// The same of UTF-8.
    Text(Option<u64>),
    /// So many items; `None`: until a break.
    Array(Option<u64>),
    /// So many pairs of items; `None`: until a break.
    Map(Option<u64>),
    Tag(u64),
    Simple(u8),
    Float(f64),
}

/// An item that has no items inside.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Item<'a> {
    /// `null` or `undefined`.
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(&'a str),
    Bytes(&'a [u8]),
    /// A value without a meaning of its own.
    Simple(u8),
}

type Read<T> = Result<T, &'static str>;

const ENDS: &str = "it ends inside of an item";
const NOT_WELL_FORMED: &str = "the head of an item is not well-formed";
const BREAK: u8 = 0xff;

/// A payload on its way through.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    length: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(payload: &'a [u8]) -> Reader<'a> {
        Reader {
            rest: payload,
            length: payload.len(),
        }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// How many bytes are read.
    pub(super) fn at(&self) -> usize {
        self.length - self.rest.len()
    }

    /// The next head.
    pub(super) fn head(&mut self) -> Read<Head> {
        let [first] = self.take_array()?;
        let (major, information) = (first >> 5, first & 31);
        if major == 7 {
            return self.simple(information);
        }
        let argument = match information {
            31 if (2..=5).contains(&major) => None,
            _ => Some(self.argument(information)?),
        };
        match (major, argument) {
            (0, Some(number)) => Ok(Head::Unsigned(number)),
            (1, Some(number)) => Ok(Head::Negative(number)),
            (2, length) => Ok(Head::Bytes(length)),
            (3, length) => Ok(Head::Text(length)),
            (4, count) => Ok(Head::Array(count)),
            (5, count) => Ok(Head::Map(count)),
            (6, Some(number)) => Ok(Head::Tag(number)),
            _ => Err(NOT_WELL_FORMED),
        }
    }

    /// Whether another item (or pair of items) comes in an array (or map) of `count` more.
    pub(super) fn more(&mut self, count: &mut Option<u64>) -> Read<bool> {
        match count {
            Some(0) => Ok(false),
            Some(left) => {
                *left -= 1;
                Ok(true)
            }
            None => match self.rest.split_first() {
                Some((&BREAK, rest)) => {
                    self.rest = rest;
                    Ok(false)
                }
                Some(_) => Ok(true),
                None => Err(ENDS),
            },
        }
    }

    /// The item that `head`, which has no items inside, begins; a string that comes in pieces lies
    /// in `pieces` then.
    pub(super) fn item<'p>(&mut self, head: Head, pieces: &'p mut Vec<u8>) -> Read<Item<'p>>
    where
        'a: 'p,
    {
        Ok(match head {
            Head::Unsigned(number) => Item::Integer(i128::from(number)),
            Head::Negative(number) => Item::Integer(-1 - i128::from(number)),
            Head::Bytes(length) => Item::Bytes(self.string(length, 2, pieces)?),
            Head::Text(length) => {
                let bytes = self.string(length, super::TEXT, pieces)?;
                Item::Text(std::str::from_utf8(bytes).map_err(|_| super::NOT_UTF8)?)
            }
            Head::Simple(20) => Item::Bool(false),
            Head::Simple(21) => Item::Bool(true),
            Head::Simple(22 | 23) => Item::Null,
            Head::Simple(other) => Item::Simple(other),
            Head::Float(number) => Item::Float(number),
            Head::Array(_) | Head::Map(_) | Head::Tag(_) => return Err(NOT_WELL_FORMED),
        })
    }

    /// The bytes of a string of this major type.
    pub(super) fn string<'p>(
        &mut self,
        length: Option<u64>,
        major: u8,
        pieces: &'p mut Vec<u8>,
    ) -> Read<&'p [u8]>
    where
        'a: 'p,
    {
        if let Some(length) = length {
            return self.take(length);
        }
        pieces.clear();
        let mut unending = None;
        while self.more(&mut unending)? {
            let [first] = self.take_array()?;
            if first >> 5 != major {
                return Err("a string in pieces holds something else");
            }
            let length = self.argument(first & 31)?;
            pieces.extend_from_slice(self.take(length)?);
        }
        Ok(pieces)
    }

    fn simple(&mut self, information: u8) -> Read<Head> {
        Ok(match information {
            0..=23 => Head::Simple(information),
            24 => {
                let [value] = self.take_array()?;
                match value {
                    0..=31 => return Err(NOT_WELL_FORMED),
                    value => Head::Simple(value),
                }
            }
            25 => Head::Float(half(u16::from_be_bytes(self.take_array()?))),
            26 => Head::Float(f64::from(f32::from_be_bytes(self.take_array()?))),
            27 => Head::Float(f64::from_be_bytes(self.take_array()?)),
            _ => return Err(NOT_WELL_FORMED),
        })
    }

    fn argument(&mut self, information: u8) -> Read<u64> {
        Ok(match information {
            0..=23 => u64::from(information),
            24 => u64::from(u8::from_be_bytes(self.take_array()?)),
            25 => u64::from(u16::from_be_bytes(self.take_array()?)),
            26 => u64::from(u32::from_be_bytes(self.take_array()?)),
            27 => u64::from_be_bytes(self.take_array()?),
            _ => return Err(NOT_WELL_FORMED),
        })
    }

    fn take(&mut self, length: u64) -> Read<&'a [u8]> {
        let length = usize::try_from(length).map_err(|_| ENDS)?;
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(ENDS)?;
        self.rest = rest;
        Ok(taken)
    }

    fn take_array<const N: usize>(&mut self) -> Read<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(ENDS)?;
        self.rest = rest;
        Ok(*taken)
    }
}

/// A number of half precision: one bit of sign, five of exponent, ten of fraction.
fn half(bits: u16) -> f64 {
    let fraction = f64::from(bits & 0x3ff);
    let magnitude = match i32::from((bits >> 10) & 31) {
        0 => fraction * 2.0_f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        exponent => (fraction + 1024.0) * 2.0_f64.powi(exponent - 25),
    };
    match bits & 0x8000 {
        0 => magnitude,
        _ => -magnitude,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves() {
        let table = [
            (0x0000, 0.0),
            (0x3c00, 1.0),
            (0x3e00, 1.5),
            (0x7bff, 65_504.0),
            (0x0001, 5.960_464_477_539_063e-8),
            (0x0400, 0.000_061_035_156_25),
            (0xc400, -4.0),
            (0x7c00, f64::INFINITY),
            (0xfc00, f64::NEG_INFINITY),
        ];
        for (bits, expected) in table {
            assert_eq!(half(bits), expected, "{bits:04x}");
        }
        assert!(half(0x7e00).is_nan());
    }
}
