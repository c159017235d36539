//! What of a device's registers becomes which column, and how few requests that takes.
//!
//! Addresses are those of the protocol, from 0. A value of several registers is by default sent the
//! way the protocol sends one register, highest byte first (`abcd`); devices that swap their
//! registers or bytes are `cdab`, `badc` and `dcba`. (Modbus Application Protocol Specification
//! V1.1b3.)

use crate::decode::scaled_by;
use crate::event::{Schema, Type};

/// Registers that one request may ask for.
const REGISTERS_MAX: u16 = 125;
/// Coils or discrete inputs that one request may ask for.
const BITS_MAX: u16 = 2_000;
/// Registers of a text.
const TEXT_REGISTERS_MAX: u16 = 64;

/// One of the four tables of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Table {
    /// Function 1.
    Coil,
    /// Function 2.
    Discrete,
    /// Function 3.
    Holding,
    /// Function 4.
    Input,
}

impl Table {
    fn is_bits(self) -> bool {
        match self {
            Table::Coil | Table::Discrete => true,
            Table::Holding | Table::Input => false,
        }
    }
}

/// What is read out of registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A coil or a discrete input.
    Flag,
    /// One bit of a register, 0 is the lowest.
    Bit(u8),
    Signed(u16),
    Unsigned(u16),
    Float(u16),
    /// So many registers of two characters.
    Text(u16),
}

impl Kind {
    /// How many registers, or coils, it takes.
    fn width(self) -> u16 {
        match self {
            Kind::Flag | Kind::Bit(_) => 1,
            Kind::Signed(width) | Kind::Unsigned(width) | Kind::Float(width) => width,
            Kind::Text(width) => width,
        }
    }
}

/// In which order the bytes of a value come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Order {
    /// The last register first.
    registers_swapped: bool,
    /// The low byte of a register first.
    bytes_swapped: bool,
}

/// What one column takes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Item {
    /// The column's name.
    pub(super) column: String,
    /// Which device, when it is written.
    pub(super) unit: Option<u8>,
    pub(super) table: Table,
    pub(super) address: u16,
    kind: Kind,
    order: Order,
    scale: Option<f64>,
    offset: Option<f64>,
}

impl Item {
    /// Reads `holding 100 i32 cdab *0.1 +5 @2`, for the column called `column`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(column: &str, written: &str, schema: &Schema) -> Result<Item, String> {
        let ty = schema.index_of(column);
        let ty = ty
            .and_then(|index| schema.fields().get(index))
            .map(|f| f.ty);
        let Some(ty) = ty else {
            return Err(format!("the stream has no column `{column}`"));
        };
        let mut words = written.split_whitespace();
        let table = match words.next() {
            Some("coil") => Table::Coil,
            Some("discrete") => Table::Discrete,
            Some("holding") => Table::Holding,
            Some("input") => Table::Input,
            _ => return Err("it begins with coil, discrete, holding or input".to_owned()),
        };
        let (address, bit) = address(words.next().unwrap_or_default())?;
        let mut item = Item {
            column: column.to_owned(),
            unit: None,
            table,
            address,
            kind: match (table.is_bits(), bit) {
                (true, None) => Kind::Flag,
                (true, Some(_)) => return Err("a coil has no bits".to_owned()),
                (false, Some(bit)) => Kind::Bit(bit),
                (false, None) => Kind::Unsigned(1),
            },
            order: Order {
                registers_swapped: false,
                bytes_swapped: false,
            },
            scale: None,
            offset: None,
        };
        for word in words {
            item.take(word)?;
        }
        if item.address.checked_add(item.kind.width() - 1).is_none() {
            return Err("its last register lies beyond 65535".to_owned());
        }
        item.fits(ty)?;
        Ok(item)
    }

    fn take(&mut self, word: &str) -> Result<(), String> {
        let number = |text: &str| {
            let number: Option<f64> = text.parse().ok().filter(|number: &f64| number.is_finite());
            number.ok_or_else(|| format!("`{word}` is not a factor such as *0.1 or +5"))
        };
        if let Some(unit) = word.strip_prefix('@') {
            self.unit = Some(parse_unit(unit)?);
        } else if let Some(factor) = word.strip_prefix('*') {
            self.scale = Some(number(factor)?);
        } else if word.starts_with(['+', '-']) {
            self.offset = Some(number(word)?);
        } else if let Some(order) = order(word) {
            self.order = order;
        } else if matches!(self.kind, Kind::Flag | Kind::Bit(_)) {
            return Err(format!("`{word}`: a single bit has no type"));
        } else {
            self.kind = kind(word)?;
        }
        Ok(())
    }

    fn fits(&self, ty: Type) -> Result<(), String> {
        let is_scaled = self.scale.is_some() || self.offset.is_some();
        let fits = match self.kind {
            Kind::Flag | Kind::Bit(_) if is_scaled => {
                return Err("a single bit has no factor".to_owned());
            }
            Kind::Text(_) if is_scaled => return Err("a text has no factor".to_owned()),
            Kind::Flag | Kind::Bit(_) => ty == Type::Bool,
            Kind::Text(_) => ty == Type::String,
            Kind::Float(_) => matches!(ty, Type::Float | Type::Double),
            Kind::Signed(_) | Kind::Unsigned(_) if is_scaled => {
                matches!(ty, Type::Float | Type::Double)
            }
            Kind::Signed(_) | Kind::Unsigned(_) => ty.is_numeric(),
        };
        let takes = match self.kind {
            Kind::Flag | Kind::Bit(_) => "BOOLEAN",
            Kind::Text(_) => "STRING",
            Kind::Signed(_) | Kind::Unsigned(_) if !is_scaled => "a number",
            Kind::Signed(_) | Kind::Unsigned(_) | Kind::Float(_) => "DOUBLE or FLOAT",
        };
        match fits {
            true => Ok(()),
            false => Err(format!(
                "column `{}` is {ty}, which cannot take it; it must be {takes}",
                self.column
            )),
        }
    }

    /// The value in `registers`, which are those of the item and no others.
    pub(super) fn value_of(&self, registers: &[u16]) -> serde_json::Value {
        let mut bytes = Vec::with_capacity(registers.len() * 2);
        let mut append = |register: &u16| {
            bytes.extend(match self.order.bytes_swapped {
                true => register.to_le_bytes(),
                false => register.to_be_bytes(),
            });
        };
        match self.order.registers_swapped {
            true => registers.iter().rev().for_each(&mut append),
            false => registers.iter().for_each(&mut append),
        }
        let unsigned = || {
            let folded = bytes.iter().take(8);
            folded.fold(0_u64, |all, byte| all << 8 | u64::from(*byte))
        };
        let number = match self.kind {
            Kind::Flag => return false.into(),
            Kind::Bit(bit) => return (unsigned() >> bit & 1 == 1).into(),
            Kind::Text(_) => return text(&bytes).into(),
            Kind::Unsigned(_) if self.is_plain() => return unsigned().into(),
            Kind::Signed(width) if self.is_plain() => return signed(unsigned(), width).into(),
            #[expect(clippy::cast_precision_loss, reason = "a scaled number is a double")]
            Kind::Unsigned(_) => unsigned() as f64,
            #[expect(clippy::cast_precision_loss, reason = "a scaled number is a double")]
            Kind::Signed(width) => signed(unsigned(), width) as f64,
            Kind::Float(2) => {
                u32::try_from(unsigned()).map_or(f64::NAN, |bits| f64::from(f32::from_bits(bits)))
            }
            Kind::Float(_) => f64::from_bits(unsigned()),
        };
        // What is no number has no place in JSON: NULL.
        scaled_by(
            number,
            self.scale.unwrap_or(1.0),
            self.offset.unwrap_or(0.0),
        )
        .into()
    }

    fn is_plain(&self) -> bool {
        self.scale.is_none() && self.offset.is_none()
    }
}

/// The number of a device.
pub(super) fn parse_unit(text: &str) -> Result<u8, String> {
    let unit = text.parse().ok().filter(|unit| (1..=247).contains(unit));
    unit.ok_or_else(|| format!("`{text}` is not a unit: write 1 to 247"))
}

/// `100`, `0x64`, or `100.3` for a bit.
fn address(text: &str) -> Result<(u16, Option<u8>), String> {
    let fault = || format!("`{text}` is not an address: write 0 to 65535, or 100.3 for a bit");
    let (address, bit) = match text.split_once('.') {
        Some((address, bit)) => (address, Some(bit)),
        None => (text, None),
    };
    let address = match address.strip_prefix("0x") {
        Some(digits) => u16::from_str_radix(digits, 16),
        None => address.parse(),
    };
    let bit = bit.map(|bit| bit.parse().ok().filter(|bit| *bit < 16).ok_or_else(fault));
    Ok((address.map_err(|_| fault())?, bit.transpose()?))
}

fn order(word: &str) -> Option<Order> {
    let (registers_swapped, bytes_swapped) = match word {
        "abcd" => (false, false),
        "cdab" => (true, false),
        "badc" => (false, true),
        "dcba" => (true, true),
        _ => return None,
    };
    Some(Order {
        registers_swapped,
        bytes_swapped,
    })
}

fn kind(word: &str) -> Result<Kind, String> {
    Ok(match word {
        "i16" => Kind::Signed(1),
        "i32" => Kind::Signed(2),
        "i64" => Kind::Signed(4),
        "u16" => Kind::Unsigned(1),
        "u32" => Kind::Unsigned(2),
        "u64" => Kind::Unsigned(4),
        "f32" => Kind::Float(2),
        "f64" => Kind::Float(4),
        other => {
            let registers = other
                .strip_prefix("text")
                .and_then(|count| count.parse().ok());
            let registers = registers.filter(|count| (1..=TEXT_REGISTERS_MAX).contains(count));
            Kind::Text(registers.ok_or_else(|| {
                format!(
                    "`{other}` is neither a type (i16, u16, i32, u32, i64, u64, f32, f64, text8 \
                     for 8 registers), nor an order (abcd, cdab, badc, dcba), nor a factor"
                )
            })?)
        }
    })
}

/// Two's complement of so many registers.
fn signed(bits: u64, registers: u16) -> i64 {
    let unused = 64 - 16 * u32::from(registers.min(4));
    i64::from_be_bytes((bits << unused).to_be_bytes()) >> unused
}

/// Up to the first NUL, without blanks at the end.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0);
    let text = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
    String::from_utf8_lossy(text).trim_end().to_owned()
}

/// A request, and which items its answer has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// Which device, when items say it.
    pub(super) unit: Option<u8>,
    pub(super) table: Table,
    pub(super) address: u16,
    pub(super) count: u16,
    /// Which items, by their places.
    pub(super) items: Vec<usize>,
}

/// As few requests as it takes to read all items; a gap of `gap_max` is read along.
pub(super) fn requests(items: &[Item], gap_max: u16) -> Vec<Request> {
    let mut order: Vec<usize> = (0..items.len()).collect();
    let place = |index: &usize| {
        items
            .get(*index)
            .map(|item| (item.unit, item.table, item.address))
    };
    order.sort_by_key(place);
    let mut requests: Vec<Request> = Vec::new();
    for index in order {
        let Some(item) = items.get(index) else {
            continue;
        };
        let count_max = match item.table.is_bits() {
            true => BITS_MAX,
            false => REGISTERS_MAX,
        };
        let end = u32::from(item.address) + u32::from(item.kind.width());
        let open = requests.last_mut().filter(|open| {
            let reached = u32::from(open.address) + u32::from(open.count);
            (open.unit, open.table) == (item.unit, item.table)
                && u32::from(item.address) <= reached + u32::from(gap_max)
                && end - u32::from(open.address) <= u32::from(count_max)
        });
        match open {
            Some(open) => {
                let count = u16::try_from(end - u32::from(open.address)).unwrap_or(count_max);
                open.count = open.count.max(count);
                open.items.push(index);
            }
            None => requests.push(Request {
                unit: item.unit,
                table: item.table,
                address: item.address,
                count: item.kind.width(),
                items: vec![index],
            }),
        }
    }
    requests
}

impl Item {
    /// The registers of the item in the answer to a request that begins at `first`.
    pub(super) fn registers<'a>(&self, first: u16, answer: &'a [u16]) -> Option<&'a [u16]> {
        let start = usize::from(self.address.checked_sub(first)?);
        answer.get(start..start + usize::from(self.kind.width()))
    }

    /// The coil of the item in the answer to a request that begins at `first`.
    pub(super) fn flag(&self, first: u16, answer: &[bool]) -> Option<bool> {
        answer
            .get(usize::from(self.address.checked_sub(first)?))
            .copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Field;

    fn schema() -> Schema {
        let columns = [
            ("flag", Type::Bool),
            ("whole", Type::Long),
            ("real", Type::Double),
            ("name", Type::String),
        ];
        Schema::new(
            columns
                .map(|(name, ty)| Field {
                    name: name.to_owned(),
                    ty,
                })
                .to_vec(),
        )
    }

    fn item(column: &str, written: &str) -> Item {
        Item::parse(column, written, &schema()).unwrap()
    }

    #[test]
    fn values() {
        let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        for (column, written, registers, expected) in [
            ("whole", "holding 0", &[0xFFFE][..], "65534"),
            ("whole", "holding 0 i16", &[0xFFFE], "-2"),
            ("whole", "holding 0 u32", &[0x0001, 0x0002], "65538"),
            ("whole", "holding 0 u32 cdab", &[0x0002, 0x0001], "65538"),
            ("whole", "holding 0 u32 badc", &[0x0100, 0x0200], "65538"),
            ("whole", "holding 0 u32 dcba", &[0x0200, 0x0100], "65538"),
            ("whole", "holding 0 i32", &[0xFFFF, 0xFFFF], "-1"),
            (
                "whole",
                "input 0 i64",
                &[0xFFFF, 0xFFFF, 0xFFFF, 0xFFFD],
                "-3",
            ),
            ("real", "input 0 i16 *0.5 +1", &[0xFFFE], "0.0"),
            ("real", "input 0 f32", &[0x4148, 0], "12.5"),
            ("real", "input 0 f32 cdab *2 -5", &[0, 0x4148], "20.0"),
            ("real", "input 0 f64", &[0x4029, 0, 0, 0], "12.5"),
            ("real", "input 0 f32", &[0x7FC0, 0], "null"),
            ("flag", "holding 0.3", &[8], "true"),
            ("flag", "holding 0.2", &[8], "false"),
            ("name", "holding 0 text3", &[0x4142, 0x4320, 0], "\"ABC\""),
        ] {
            let found = item(column, written).value_of(registers);
            assert_eq!(found, json(expected), "{written}");
        }
    }

    #[test]
    fn what_cannot_be() {
        for (column, written, fault) in [
            ("nope", "holding 0", "no column"),
            ("whole", "register 0", "begins with"),
            ("whole", "holding", "not an address"),
            ("whole", "holding 65536", "not an address"),
            ("flag", "holding 1.16", "not an address"),
            ("whole", "holding 65535 u32", "beyond 65535"),
            ("whole", "holding 1 i24", "neither a type"),
            ("whole", "holding 1 *x", "not a factor"),
            ("whole", "holding 1 f32", "cannot take it"),
            ("whole", "holding 1 *0.1", "cannot take it"),
            ("whole", "coil 1", "cannot take it"),
            ("flag", "coil 1 i16", "has no type"),
            ("flag", "coil 1.1", "has no bits"),
            ("name", "holding 1 text65", "neither a type"),
            ("name", "holding 1 text2 *2", "has no factor"),
            ("whole", "holding 1 @0", "not a unit"),
        ] {
            let found = Item::parse(column, written, &schema()).unwrap_err();
            assert!(found.contains(fault), "{written}: {found}");
        }
    }

    #[test]
    fn neighbours_are_read_together() {
        let items = [
            item("whole", "holding 10 u32"),
            item("whole", "holding 0"),
            item("whole", "holding 14"),
            item("flag", "coil 3"),
            item("whole", "holding 200"),
            item("real", "input 12 f32"),
            item("flag", "holding 10.1"),
        ];
        let asked = |gap_max| {
            let requests = requests(&items, gap_max).into_iter();
            let asked = requests.map(|r| (r.table, r.address, r.count, r.items));
            asked.collect::<Vec<_>>()
        };
        let rest = |mut all: Vec<(Table, u16, u16, Vec<usize>)>| {
            all.insert(0, (Table::Coil, 3, 1, vec![3]));
            all.push((Table::Holding, 200, 1, vec![4]));
            all.push((Table::Input, 12, 2, vec![5]));
            all
        };
        let holding = Table::Holding;
        assert_eq!(
            asked(2),
            rest(vec![
                (holding, 0, 1, vec![1]),
                (holding, 10, 5, vec![0, 6, 2])
            ])
        );
        assert_eq!(asked(9), rest(vec![(holding, 0, 15, vec![1, 0, 6, 2])]));
        let far = ["holding 0", "holding 100", "holding 200"];
        let far: Vec<Item> = far.iter().map(|written| item("whole", written)).collect();
        let counts: Vec<u16> = requests(&far, 1_000).iter().map(|r| r.count).collect();
        assert_eq!(counts, [101, 1]);
        let two = [item("whole", "holding 0 @1"), item("whole", "holding 1 @2")];
        assert_eq!(requests(&two, 9).len(), 2);
    }
}
