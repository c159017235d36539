//! CBOR maps (RFC 8949) become rows, by the rules of JSON objects.
//!
//! A payload is one item or several (RFC 8742). Keys are text, or integers, which are called as
//! they are written in decimal. Tags 0 and 1 are points in time, 2 and 3 large integers; of other
//! tags only the content counts. `undefined` and floats that are not finite are NULL. A JSON column
//! takes any item; byte strings in it become Base64.

mod reader;

use reader::{Head, Item, Reader};

use super::column::{Columns, Scalar};
use super::document::{Cells, Message, Noted, Plan, Scratch};
use super::options::format_options;
use super::path::Node;
use super::{Reason, Reject};
use crate::config::options::{OptionFault, OptionSpec, Options};
use crate::event::{Batch, Schema, TimeFormat, Value, json, to_base64};

/// What can be set.
pub(super) const OPTIONS: &[OptionSpec] = format_options!(
    "cbor": path root missing unknown timestamp timestamp_of bytes ignore;
);

/// How deep items may lie in each other, tags included.
const DEPTH_MAX: usize = 64;

/// A CBOR decoder for one stream.
#[derive(Debug)]
pub(super) struct Decoder {
    plan: Plan,
    scratch: Scratch,
    /// A text or byte string that came in pieces.
    pieces: Vec<u8>,
}

impl Decoder {
    pub(super) fn new(
        options: &Options,
        schema: &Schema,
        taken: &[usize],
    ) -> Result<Decoder, OptionFault> {
        let columns = Columns::new("cbor", options, schema, taken)?;
        Ok(Decoder {
            plan: Plan::new("cbor", columns, options)?,
            scratch: Scratch::new(schema),
            pieces: Vec::new(),
        })
    }

    pub(super) fn decode(
        &mut self,
        payload: &[u8],
        into: &mut Batch,
        ignored: &mut u64,
    ) -> Result<(), Reject> {
        if payload.is_empty() {
            return Err(super::empty());
        }
        let mut walk = Walk {
            reader: Reader::new(payload),
            pieces: &mut self.pieces,
        };
        let mut message = Message::new(&self.plan, &mut self.scratch, into, ignored);
        while !walk.reader.is_at_end() {
            if let Err(fault) = walk.event(&mut message, 0, false) {
                return Err(match fault {
                    Fault::Noted => message.fault.unwrap_or_else(|| malformed(&walk, "")),
                    Fault::Malformed(what) => malformed(&walk, what),
                });
            }
        }
        Ok(())
    }
}

fn malformed(walk: &Walk<'_, '_>, what: &str) -> Reject {
    let at = walk.reader.at();
    Reject::new(Reason::Malformed, format!("not CBOR at byte {at}: {what}"))
}

/// Why an item is not read to its end.
#[derive(Debug)]
enum Fault {
    /// The message holds it.
    Noted,
    Malformed(&'static str),
}

impl From<&'static str> for Fault {
    fn from(what: &'static str) -> Fault {
        Fault::Malformed(what)
    }
}

fn noted(_: Noted) -> Fault {
    Fault::Noted
}

type Read<T> = Result<T, Fault>;

/// A payload on its way through.
struct Walk<'a, 'p> {
    reader: Reader<'a>,
    pieces: &'p mut Vec<u8>,
}

/// What stands in for an item where no value of it is wanted.
const TOO_DEEP: &str = "items lie deeper in each other than 64";

impl Walk<'_, '_> {
    /// A map, or an array of maps unless already in one.
    fn event(&mut self, message: &mut Message<'_>, depth: usize, in_array: bool) -> Read<()> {
        match self.untagged(depth)? {
            Head::Map(count) => message.object(noted, |tree, cells| {
                self.map(count, tree, cells, depth, true)
            }),
            Head::Array(mut count) if !in_array => {
                while self.reader.more(&mut count)? {
                    self.event(message, depth + 1, true)?;
                }
                Ok(())
            }
            head => Err(noted(message.not_an_event(name_of(head)))),
        }
    }

    /// The same where the rows lie.
    fn event_below(
        &mut self,
        head: Head,
        cells: &mut Cells<'_>,
        depth: usize,
        in_array: bool,
    ) -> Read<()> {
        match head {
            Head::Map(count) => cells.object_below(noted, |tree, cells| {
                self.map(count, tree, cells, depth, true)
            }),
            Head::Array(mut count) if !in_array => {
                while self.reader.more(&mut count)? {
                    let head = self.untagged(depth + 1)?;
                    self.event_below(head, cells, depth + 1, true)?;
                }
                Ok(())
            }
            head => Err(noted(cells.not_an_event(name_of(head)))),
        }
    }

    /// The head behind tags that do not matter.
    fn untagged(&mut self, depth: usize) -> Read<Head> {
        for _ in depth..DEPTH_MAX {
            match self.reader.head()? {
                Head::Tag(_) => {}
                head => return Ok(head),
            }
        }
        Err(TOO_DEEP.into())
    }

    fn map(
        &mut self,
        mut count: Option<u64>,
        node: &Node,
        cells: &mut Cells<'_>,
        depth: usize,
        is_top: bool,
    ) -> Read<()> {
        let mut hint = 0;
        while self.reader.more(&mut count)? {
            let known = self.key(node, hint, cells, is_top)?;
            match known {
                Some((index, inside)) => {
                    hint = index + 1;
                    self.place(inside, cells, depth + 1)?;
                }
                None => self.skip(depth + 1)?,
            }
        }
        Ok(())
    }

    /// Reads a key, and finds the place that it leads to.
    fn key<'n>(
        &mut self,
        node: &'n Node,
        hint: usize,
        cells: &mut Cells<'_>,
        is_top: bool,
    ) -> Read<Option<(usize, &'n Node)>> {
        let head = self.untagged(0)?;
        let number;
        let name = match head {
            Head::Text(length) => {
                let bytes = self.reader.string(length, TEXT, self.pieces)?;
                std::str::from_utf8(bytes).map_err(|_| Fault::from(NOT_UTF8))?
            }
            Head::Unsigned(value) => {
                number = value.to_string();
                &number
            }
            Head::Negative(value) => {
                number = (-1 - i128::from(value)).to_string();
                &number
            }
            other => {
                self.skip_behind(other, 0)?;
                return Ok(None);
            }
        };
        let known = node.field(name, hint);
        if known.is_none() {
            cells.unknown(name, is_top).map_err(noted)?;
        }
        Ok(known)
    }

    /// The value at a place of interest.
    fn place(&mut self, node: &Node, cells: &mut Cells<'_>, depth: usize) -> Read<()> {
        if !node.whole.is_empty() {
            let mut again = self.reader;
            let mut text = String::new();
            self.json(&mut text, depth)?;
            let whole = json::canonical(&text)
                .map(|value| value.map_or(Value::Null, Value::Str))
                .map_err(|error| Reject::new(Reason::OutOfRange, format!("as JSON: {error}")));
            cells.store_whole(node, whole).map_err(noted)?;
            if node.is_whole_only() {
                return Ok(());
            }
            std::mem::swap(&mut self.reader, &mut again);
        }
        let mut tag = None;
        let mut head = self.reader.head()?;
        for _ in depth..DEPTH_MAX {
            let Head::Tag(number) = head else { break };
            tag = Some(number);
            head = self.reader.head()?;
        }
        match head {
            Head::Tag(_) => Err(TOO_DEEP.into()),
            Head::Map(_) | Head::Array(_) if depth >= DEPTH_MAX => Err(TOO_DEEP.into()),
            Head::Map(_) | Head::Array(_) => self.nested(head, node, cells, depth),
            head => {
                let item = self.reader.item(head, self.pieces)?;
                store(item, tag, node, cells)
            }
        }
    }

    fn nested(&mut self, head: Head, node: &Node, cells: &mut Cells<'_>, depth: usize) -> Read<()> {
        cells.refuse_nested(node, name_of(head)).map_err(noted)?;
        if node.is_rows {
            cells.begin_below();
            let is_map = matches!(head, Head::Map(_));
            return self.event_below(head, cells, depth, is_map);
        }
        let mut count = match head {
            Head::Map(count) => return self.map(count, node, cells, depth, false),
            Head::Array(count) => count,
            other => return self.skip_behind(other, depth),
        };
        let mut number = 0;
        while self.reader.more(&mut count)? {
            let mut wanted = node.elements.iter();
            match wanted.find(|(element, _)| *element == number) {
                Some((_, inside)) => self.place(inside, cells, depth + 1)?,
                None => self.skip(depth + 1)?,
            }
            number += 1;
        }
        Ok(())
    }

    fn skip(&mut self, depth: usize) -> Read<()> {
        let head = self.reader.head()?;
        self.skip_behind(head, depth)
    }

    /// Passes over an item whose head is read.
    fn skip_behind(&mut self, head: Head, depth: usize) -> Read<()> {
        if depth > DEPTH_MAX {
            return Err(TOO_DEEP.into());
        }
        match head {
            Head::Tag(_) => self.skip(depth + 1),
            Head::Array(mut count) => {
                while self.reader.more(&mut count)? {
                    self.skip(depth + 1)?;
                }
                Ok(())
            }
            Head::Map(mut count) => {
                while self.reader.more(&mut count)? {
                    self.skip(depth + 1)?;
                    self.skip(depth + 1)?;
                }
                Ok(())
            }
            head => {
                self.reader.item(head, self.pieces)?;
                Ok(())
            }
        }
    }

    /// Writes an item as JSON.
    fn json(&mut self, out: &mut String, depth: usize) -> Read<()> {
        let head = self.untagged(depth)?;
        match head {
            Head::Array(mut count) => {
                let mut mark = '[';
                while self.reader.more(&mut count)? {
                    out.push(mark);
                    mark = ',';
                    self.json(out, depth + 1)?;
                }
                out.push_str(if mark == '[' { "[]" } else { "]" });
            }
            Head::Map(mut count) => {
                let mut mark = '{';
                while self.reader.more(&mut count)? {
                    out.push(mark);
                    mark = ',';
                    self.json_key(out)?;
                    out.push(':');
                    self.json(out, depth + 1)?;
                }
                out.push_str(if mark == '{' { "{}" } else { "}" });
            }
            head => match self.reader.item(head, self.pieces)? {
                Item::Null => out.push_str("null"),
                Item::Simple(_) => return Err(SIMPLE.into()),
                Item::Bool(truth) => out.push_str(super::text::of_truth(truth)),
                Item::Integer(number) => out.push_str(&number.to_string()),
                Item::Float(number) if number.is_finite() => out.push_str(&format!("{number:?}")),
                Item::Float(_) => out.push_str("null"),
                Item::Text(text) => push_quoted(text, out),
                Item::Bytes(bytes) => push_quoted(&to_base64(bytes), out),
            },
        }
        Ok(())
    }

    fn json_key(&mut self, out: &mut String) -> Read<()> {
        let head = self.untagged(0)?;
        match head {
            Head::Array(_) | Head::Map(_) => Err("a key that is an array or a map".into()),
            head => {
                match self.reader.item(head, self.pieces)? {
                    Item::Text(text) => push_quoted(text, out),
                    Item::Bytes(bytes) => push_quoted(&to_base64(bytes), out),
                    Item::Integer(number) => push_quoted(&number.to_string(), out),
                    Item::Bool(truth) => push_quoted(super::text::of_truth(truth), out),
                    Item::Float(number) => push_quoted(&format!("{number:?}"), out),
                    Item::Null | Item::Simple(_) => push_quoted("null", out),
                }
                Ok(())
            }
        }
    }
}

const TEXT: u8 = 3;
const SIMPLE: &str = "a simple value without a meaning";
const NOT_UTF8: &str = "text that is not UTF-8";

/// Gives a plain item to the columns at `node`.
fn store(item: Item<'_>, tag: Option<u64>, node: &Node, cells: &mut Cells<'_>) -> Read<()> {
    let plain = match (tag, item) {
        (Some(tag @ (2 | 3)), Item::Bytes(bytes)) => large(bytes, tag == 3),
        (_, Item::Null) => Scalar::Null,
        (_, Item::Simple(_)) => return Err(SIMPLE.into()),
        (_, Item::Bool(truth)) => Scalar::Bool(truth),
        (_, Item::Integer(number)) => integer(number),
        (_, Item::Float(number)) if number.is_finite() => Scalar::Float(number),
        (_, Item::Float(_)) => Scalar::Null,
        (_, Item::Text(text)) => Scalar::Text(text),
        (_, Item::Bytes(bytes)) => Scalar::Bytes(bytes),
    };
    let seconds = TimeFormat::Number { per_second: 1 };
    let time = match (tag, plain) {
        (Some(0), Scalar::Text(text)) => TimeFormat::Iso8601.read_text(text),
        (Some(1), Scalar::Integer(number)) => seconds.read_integer(number),
        (Some(1), Scalar::Float(number)) => seconds.read_float(number),
        _ => None,
    };
    let scalar = match time {
        Some(time) => Scalar::Instant {
            ms: time.0,
            plain: &plain,
        },
        None => plain,
    };
    cells.store(node, scalar).map_err(noted)
}

fn integer<'a>(number: i128) -> Scalar<'a> {
    i64::try_from(number).map_or(Scalar::Beyond(number), Scalar::Integer)
}

/// A large integer: its bytes, highest first.
fn large<'a>(bytes: &[u8], is_negative: bool) -> Scalar<'a> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let digits = bytes.get(zeros..).unwrap_or_default();
    if digits.len() < 16 {
        let number = digits
            .iter()
            .fold(0_i128, |n, byte| (n << 8) | i128::from(*byte));
        return integer(if is_negative { -1 - number } else { number });
    }
    let number = digits
        .iter()
        .fold(0.0, |n, byte| n * 256.0 + f64::from(*byte));
    Scalar::Float(if is_negative { -number } else { number })
}

fn push_quoted(text: &str, out: &mut String) {
    let mut quoted = ecow::EcoString::new();
    json::write_string(text, &mut quoted);
    out.push_str(&quoted);
}

/// What a message calls an item.
fn name_of(head: Head) -> &'static str {
    match head {
        Head::Unsigned(_) | Head::Negative(_) | Head::Float(_) => "a number",
        Head::Bytes(_) => "bytes",
        Head::Text(_) => "text",
        Head::Array(_) => "an array",
        Head::Map(_) => "a map",
        Head::Tag(_) => "a tag",
        Head::Simple(20 | 21) => "a truth value",
        Head::Simple(22 | 23) => "null",
        Head::Simple(_) => "a simple value",
    }
}
