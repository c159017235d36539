//! The columns of a batch, in bytes: what can be packed apart from what is random anyway.
//!
//! ```text
//! column  {"v": [value, ...]}         values as they are
//!         {"i": [int, ...]}           integers: the first, then each minus the one before it
//!         {"f": bytes}                floats: the first (highest) bytes of all, the second, ...
//!         {"p": [mask, bytes]}        the same, but planes whose bit (1 for the first) is set in
//!                                     `mask` are in the tail
//!         {"t": [count, bytes]}       texts: so many different ones in order, each as: how many
//!                                     bytes it shares with the one before: u8, how many follow:
//!                                     u8, these; and in the tail, for each row, the number of its
//!                                     text in as few bits as hold `count - 1`, lowest bits first
//! ```
//!
//! Column after column, differences and planes: all of them so that zstd finds more. The tail is
//! not packed: zstd would only spend time on bytes that are random, and its table of frequencies,
//! one for all, would be the worse for the others.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::event::{Batch, Value};

/// Below so many rows a dictionary of texts costs more than it saves.
const TEXT_ROWS_MIN: usize = 8;
/// Texts beyond this length, in bytes, and more than so many different ones stay as they are.
const TEXT_BYTES_MAX: usize = 255;
const TEXTS_MAX: usize = 4096;
/// No record has more rows; one that says so, and has one text for all of them, is not read.
const ROWS_MAX: usize = 1 << 24;

#[derive(Serialize)]
pub(super) enum ColumnOut<'a> {
    #[serde(rename = "v")]
    Values(Vec<&'a Value>),
    #[serde(rename = "i")]
    Ints(Vec<i64>),
    #[serde(rename = "p")]
    Planes(u8, Bytes),
    #[serde(rename = "t")]
    Texts(u16, Bytes),
}

#[derive(Deserialize)]
pub(super) enum ColumnIn {
    #[serde(rename = "v")]
    Values(Vec<Value>),
    #[serde(rename = "i")]
    Ints(Vec<i64>),
    #[serde(rename = "f")]
    Floats(Bytes),
    #[serde(rename = "p")]
    Planes(u8, Bytes),
    #[serde(rename = "t")]
    Texts(u16, Bytes),
}

pub(super) struct Bytes(Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Bytes;

            fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str("a byte string")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }
        }
        from.deserialize_bytes(Visitor)
    }
}

/// The columns of `rows`; what is not to be packed goes to the end of `tail`.
pub(super) fn encode<'a>(rows: &'a Batch, tail: &mut Vec<u8>) -> Vec<ColumnOut<'a>> {
    (0..rows.width())
        .map(|index| column(rows, index, tail))
        .collect()
}

fn column<'a>(rows: &'a Batch, index: usize, tail: &mut Vec<u8>) -> ColumnOut<'a> {
    let values = || {
        rows.rows()
            .iter()
            .filter_map(move |row| row.values.get(index))
    };
    if values().all(|value| matches!(value, Value::Int(_))) {
        let mut before = 0i64;
        let steps = values().filter_map(Value::as_int).map(|int| {
            let step = int.wrapping_sub(before);
            before = int;
            step
        });
        return ColumnOut::Ints(steps.collect());
    }
    if values().all(|value| matches!(value, Value::Float(_))) {
        return planes(values().filter_map(Value::as_float), rows.len(), tail);
    }
    let texts: Option<Vec<&str>> = values()
        .map(|value| match value {
            Value::Str(text) => Some(text.as_str()),
            _ => None,
        })
        .collect();
    let texts = texts.filter(|texts| texts.len() >= TEXT_ROWS_MIN);
    texts
        .and_then(|texts| dictionary(&texts, tail))
        .unwrap_or_else(|| ColumnOut::Values(values().collect()))
}

fn planes(
    floats: impl Iterator<Item = f64>,
    count: usize,
    tail: &mut Vec<u8>,
) -> ColumnOut<'static> {
    let mut planes = vec![0; count * 8];
    for (row, float) in floats.enumerate() {
        for (plane, byte) in planes.chunks_exact_mut(count).zip(float.to_be_bytes()) {
            if let Some(place) = plane.get_mut(row) {
                *place = byte;
            }
        }
    }
    let (mut mask, mut packed) = (0u8, Vec::new());
    for (number, plane) in planes.chunks_exact(count).enumerate() {
        if is_random(plane) {
            mask |= 1 << number;
            tail.extend_from_slice(plane);
        } else {
            packed.extend_from_slice(plane);
        }
    }
    ColumnOut::Planes(mask, Bytes(packed))
}

/// Whether packing is not worth it: there are many different bytes for so few of them.
fn is_random(plane: &[u8]) -> bool {
    let mut seen = [0u64; 4];
    for byte in plane {
        if let Some(word) = seen.get_mut(usize::from(byte >> 6)) {
            *word |= 1 << (byte & 63);
        }
    }
    let different: u32 = seen.iter().map(|word| word.count_ones()).sum();
    usize::try_from(different).is_ok_and(|different| different.saturating_mul(4) > plane.len())
        || different > 192
}

fn dictionary(texts: &[&str], tail: &mut Vec<u8>) -> Option<ColumnOut<'static>> {
    let mut numbers: HashMap<&str, usize, foldhash::fast::FixedState> = HashMap::default();
    for text in texts {
        numbers.insert(text, 0);
    }
    // Hardly any text comes twice.
    if numbers.len() > TEXTS_MAX || numbers.len() > texts.len() - texts.len() / 8 {
        return None;
    }
    let mut sorted: Vec<&str> = numbers.keys().copied().collect();
    sorted.sort_unstable();
    let (mut bytes, mut before) = (Vec::new(), "");
    for (number, text) in sorted.iter().enumerate() {
        let pairs = before.bytes().zip(text.bytes());
        let shared = pairs.take_while(|(a, b)| a == b).count();
        let shared = shared.min(TEXT_BYTES_MAX);
        let rest = text.as_bytes().get(shared..)?;
        bytes.push(u8::try_from(shared).ok()?);
        bytes.push(u8::try_from(rest.len()).ok()?);
        bytes.extend_from_slice(rest);
        before = text;
        numbers.insert(text, number);
    }
    let count = u16::try_from(sorted.len()).ok()?;
    let (width, mut bits, mut held) = (width(count), 0u32, 0);
    for text in texts {
        bits |= u32::try_from(*numbers.get(text)?).ok()? << held;
        held += width;
        while held >= 8 {
            tail.extend(bits.to_le_bytes().first());
            bits >>= 8;
            held -= 8;
        }
    }
    if held > 0 {
        tail.extend(bits.to_le_bytes().first());
    }
    Some(ColumnOut::Texts(count, Bytes(bytes)))
}

/// In how many bits the number of one of `count` texts fits.
fn width(count: u16) -> u32 {
    u16::BITS - count.saturating_sub(1).leading_zeros()
}

/// Exactly `count` values; takes its part from the beginning of `tail`.
pub(super) fn decode(
    column: ColumnIn,
    count: usize,
    tail: &mut &[u8],
) -> Option<std::vec::IntoIter<Value>> {
    let values: Vec<Value> = match column {
        ColumnIn::Values(values) => values,
        ColumnIn::Ints(steps) => {
            let mut sum = 0i64;
            let ints = steps.into_iter().map(|step| {
                sum = sum.wrapping_add(step);
                Value::Int(sum)
            });
            ints.collect()
        }
        ColumnIn::Floats(Bytes(planes)) => floats(0, &planes, count, tail)?,
        ColumnIn::Planes(mask, Bytes(planes)) => floats(mask, &planes, count, tail)?,
        ColumnIn::Texts(different, Bytes(texts)) => texts_of(different, &texts, count, tail)?,
    };
    (values.len() == count).then(|| values.into_iter())
}

fn take<'a>(from: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = from.split_at_checked(count)?;
    *from = rest;
    Some(taken)
}

fn floats(mask: u8, mut packed: &[u8], count: usize, tail: &mut &[u8]) -> Option<Vec<Value>> {
    let mut planes: [&[u8]; 8] = [&[]; 8];
    for (number, plane) in planes.iter_mut().enumerate() {
        *plane = match mask >> number & 1 {
            0 => take(&mut packed, count)?,
            _ => take(tail, count)?,
        };
    }
    if !packed.is_empty() {
        return None;
    }
    let float = |row: usize| {
        let mut bytes = [0; 8];
        for (byte, plane) in bytes.iter_mut().zip(planes) {
            *byte = *plane.get(row)?;
        }
        let float = f64::from_be_bytes(bytes);
        float.is_finite().then_some(Value::Float(float))
    };
    (0..count).map(float).collect()
}

fn texts_of(
    different: u16,
    mut bytes: &[u8],
    count: usize,
    tail: &mut &[u8],
) -> Option<Vec<Value>> {
    let mut texts: Vec<Value> = Vec::new();
    let mut text: Vec<u8> = Vec::new();
    for _ in 0..different {
        let [shared, rest] = *take(&mut bytes, 2)?.first_chunk::<2>()?;
        if usize::from(shared) > text.len() {
            return None;
        }
        text.truncate(usize::from(shared));
        text.extend_from_slice(take(&mut bytes, usize::from(rest))?);
        texts.push(Value::text(std::str::from_utf8(&text).ok()?));
    }
    let width = width(different);
    let bits_in_all = count.checked_mul(usize::try_from(width).ok()?)?;
    let mut packed = take(tail, bits_in_all.div_ceil(8))?.iter();
    if !bytes.is_empty() || count > ROWS_MAX {
        return None;
    }
    let (mut bits, mut held) = (0u32, 0);
    let number = |_| {
        while held < width {
            bits |= u32::from(*packed.next()?) << held;
            held += 8;
        }
        let number = bits & ((1 << width) - 1);
        bits >>= width;
        held -= width;
        texts.get(usize::try_from(number).ok()?).cloned()
    };
    (0..count).map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Stamp, cbor};

    fn batch(column: &[Value]) -> Batch {
        let mut rows = Batch::new(1);
        for value in column {
            rows.push(Stamp::default(), [value.clone()]);
        }
        rows
    }

    fn bytes_of(column: &[Value]) -> (Vec<u8>, Vec<u8>) {
        let mut tail = Vec::new();
        let bytes = cbor::encode(&encode(&batch(column), &mut tail)).unwrap();
        (bytes, tail)
    }

    fn back(bytes: &[u8], mut tail: &[u8], count: usize) -> Option<Vec<Value>> {
        let columns: Vec<ColumnIn> = cbor::decode(bytes).unwrap();
        let values = decode(columns.into_iter().next()?, count, &mut tail)?;
        tail.is_empty().then(|| values.collect())
    }

    #[test]
    fn every_column_comes_back_and_what_is_cut_off_is_refused() {
        let mut x = 1u64;
        let mut random = || {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x
        };
        let text = |number: u64| Value::text(&format!("sensor-{number:03}-ä"));
        let long = |number: u64| Value::text(&format!("{}{number}", "x".repeat(300)));
        let float = |bits: u64| Value::Float((bits >> 11) as f64 / 1e9);
        let mut columns: Vec<Vec<Value>> = Vec::new();
        for count in [1, 7, 8, 100, 1000] {
            let mut column = |of: &dyn Fn(u64) -> Value| {
                columns.push((0..count).map(|_| of(random())).collect());
            };
            for different in [1, 2, 3, 60, 256, 300] {
                column(&|random| text(random % different));
                column(&|random| long(random % different));
            }
            column(&float);
            column(&|_| Value::Float(-0.0));
            column(&|random| Value::Int(random as i64));
            column(&|random| match random % 3 {
                0 => Value::Null,
                1 => text(random),
                _ => float(random),
            });
        }
        for column in columns {
            let (bytes, tail) = bytes_of(&column);
            let read = back(&bytes, &tail, column.len());
            assert_eq!(read.as_ref(), Some(&column));
            // One text takes no room in the tail, however often it comes.
            let more = back(&bytes, &tail, column.len() + 9);
            assert!(more.is_none_or(|more| more.windows(2).all(|two| two[0] == two[1])));
            if let Some(cut) = tail.len().checked_sub(1) {
                assert_eq!(back(&bytes, &tail[..cut], column.len()), None);
            }
        }
    }

    #[test]
    fn what_is_random_is_in_the_tail_and_the_rest_is_small() {
        let mut x = 0x9E37_79B9_7F4A_7C15u64;
        let mut random = || {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x
        };
        let names: Vec<_> = (0..100)
            .map(|_| Value::text(&format!("sensor-{:03}", random() % 100)))
            .collect();
        let (bytes, tail) = bytes_of(&names);
        assert!(
            bytes.len() < 300 && tail.len() <= 88,
            "{} {}",
            bytes.len(),
            tail.len()
        );
        let floats: Vec<_> = (0..100)
            .map(|_| Value::Float((random() >> 11) as f64 / (1u64 << 53) as f64 * 50.0))
            .collect();
        let (bytes, tail) = bytes_of(&floats);
        assert!(
            bytes.len() < 120 && tail.len() == 700,
            "{} {}",
            bytes.len(),
            tail.len()
        );
    }
}
