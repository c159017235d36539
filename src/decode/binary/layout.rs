//! The text that describes a fixed layout.
//!
//! ```text
//! layout := field, … [, ( field, … )* ]
//! field  := name type [* factor | / divisor] [+ offset | - offset] [null number] ["unit"]
//!           [{ name: bit, name: bit..bit, … }]
//!         | _ pad length
//! type   := (u8 | u16 | u24 | u32 | u48 | u64 | i8 | … | i64 | f32 | f64)[le | be]
//!         | bool | char[length] | bytes[length]          length: a number, or * for the rest
//! ```

/// What a text describes.
#[derive(Debug, PartialEq)]
pub(super) struct Layout {
    pub(super) once: Vec<Piece>,
    /// What is repeated behind that, a row each time.
    pub(super) repeated: Option<Vec<Piece>>,
}

/// Some bytes that belong together.
#[derive(Debug, PartialEq)]
pub(super) struct Piece {
    /// `_` when no column takes it.
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) scale: Option<Scale>,
    /// The number that stands for NULL.
    pub(super) null: Option<i128>,
    pub(super) bits: Vec<Bits>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Integer(Integer),
    Float {
        bytes: usize,
        is_little: bool,
    },
    Bool,
    /// Text; `None`: the rest.
    Char(Option<usize>),
    Bytes(Option<usize>),
    Pad(usize),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Integer {
    /// 1 to 8.
    pub(super) bytes: usize,
    pub(super) is_signed: bool,
    pub(super) is_little: bool,
}

/// What a number is multiplied with, and what is added then.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scale {
    pub(super) factor: Factor,
    pub(super) offset: f64,
}

/// A tenth cannot be written exactly, ten can: 217 / 10 is 21.7, 217 * 0.1 is not.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Factor {
    Times(f64),
    By(f64),
}

/// Some bits of a number, counted from the lowest.
#[derive(Debug, PartialEq)]
pub(super) struct Bits {
    pub(super) name: String,
    pub(super) first: u32,
    pub(super) count: u32,
}

/// The longest text, byte string or padding.
const LENGTH_MAX: usize = 65_536;

impl Kind {
    /// How many bytes it has; `None`: the rest.
    pub(super) fn length(self) -> Option<usize> {
        match self {
            Kind::Integer(integer) => Some(integer.bytes),
            Kind::Float { bytes, .. } => Some(bytes),
            Kind::Bool => Some(1),
            Kind::Char(length) | Kind::Bytes(length) => length,
            Kind::Pad(length) => Some(length),
        }
    }
}

impl Integer {
    /// The least and the largest number.
    pub(super) fn range(self) -> (i128, i128) {
        let bits = self.bytes * 8;
        match self.is_signed {
            true => (-(1_i128 << (bits - 1)), (1_i128 << (bits - 1)) - 1),
            false => (0, (1_i128 << bits) - 1),
        }
    }
}

/// Reads a layout; numbers that do not say it have their lowest byte first or last.
///
/// # Errors
/// What is wrong with it, with the name of the field.
pub(super) fn parse(text: &str, is_little: bool) -> Result<Layout, String> {
    let mut cursor = Cursor {
        rest: text,
        is_little,
    };
    let (once, opens_group) = cursor.pieces()?;
    let repeated = match opens_group {
        true => Some(cursor.group()?),
        false => None,
    };
    if !cursor.trimmed().is_empty() {
        return Err(format!("expected a comma before {}", cursor.here()));
    }
    let layout = Layout { once, repeated };
    check_rest(&layout)?;
    Ok(layout)
}

/// What takes the rest is last, and what is repeated has bytes.
fn check_rest(layout: &Layout) -> Result<(), String> {
    let repeated = layout.repeated.iter().flatten();
    let mut all = layout.once.iter().chain(repeated);
    let before_last = layout.once.len() + layout.repeated.as_ref().map_or(0, Vec::len) - 1;
    let early = all
        .by_ref()
        .take(before_last)
        .find(|piece| piece.kind.length().is_none());
    if let Some(piece) = early {
        return Err(format!(
            "field `{}` takes the rest and must be the last",
            piece.name
        ));
    }
    match &layout.repeated {
        Some(pieces) => {
            let lengths = pieces.iter().map(|piece| piece.kind.length());
            match lengths.sum::<Option<usize>>() {
                Some(1..) => Ok(()),
                Some(0) => Err("what is repeated has no bytes".to_owned()),
                None => Err("what takes the rest cannot be repeated".to_owned()),
            }
        }
        None => Ok(()),
    }
}

/// A text on its way through.
struct Cursor<'a> {
    rest: &'a str,
    is_little: bool,
}

impl<'a> Cursor<'a> {
    fn trimmed(&mut self) -> &'a str {
        self.rest = self.rest.trim_start();
        self.rest
    }

    /// Where it is, for messages.
    fn here(&mut self) -> String {
        match self.trimmed() {
            "" => "the end".to_owned(),
            rest => format!("`{}`", crate::decode::text::excerpt(rest)),
        }
    }

    fn takes(&mut self, text: &str) -> bool {
        match self.trimmed().strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn word(&mut self) -> Option<&'a str> {
        let text = self.trimmed();
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        let end = text.find(|c| !is_part(c)).unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        self.rest = rest;
        (!word.is_empty()).then_some(word)
    }

    /// Fields up to the end or the `(` of what is repeated; whether that came.
    fn pieces(&mut self) -> Result<(Vec<Piece>, bool), String> {
        let mut pieces = Vec::new();
        loop {
            if self.takes("(") {
                return Ok((pieces, true));
            }
            pieces.push(self.piece()?);
            if !self.takes(",") {
                return Ok((pieces, false));
            }
        }
    }

    fn group(&mut self) -> Result<Vec<Piece>, String> {
        let (pieces, nested) = self.pieces()?;
        if nested {
            return Err("a group in a group".to_owned());
        }
        if !self.takes(")") {
            return Err(format!("expected `)` before {}", self.here()));
        }
        if !self.takes("*") {
            return Err("expected `*` behind `)`: what is in it is repeated to the end".to_owned());
        }
        Ok(pieces)
    }

    fn piece(&mut self) -> Result<Piece, String> {
        let name = match self.word() {
            Some(name) => name.to_owned(),
            None => {
                return Err(format!(
                    "expected the name of a field before {}",
                    self.here()
                ));
            }
        };
        let read = self.behind_name(&name);
        read.map_err(|problem| format!("field `{name}`: {problem}"))
    }

    fn behind_name(&mut self, name: &str) -> Result<Piece, String> {
        let kind = self.kind()?;
        let mut piece = Piece {
            name: name.to_owned(),
            kind,
            scale: self.scale()?,
            null: None,
            bits: Vec::new(),
        };
        loop {
            let text = self.trimmed();
            if let Some(rest) = text.strip_prefix("null").filter(|rest| !starts_word(rest)) {
                self.rest = rest;
                piece.null = Some(self.integer()?);
            } else if let Some(inside) = text.strip_prefix('"') {
                let unit = inside
                    .split_once('"')
                    .ok_or("a unit without its closing `\"`")?;
                self.rest = unit.1;
            } else if self.takes("{") {
                piece.bits = self.bits()?;
            } else {
                break;
            }
        }
        check(&piece)?;
        Ok(piece)
    }

    fn kind(&mut self) -> Result<Kind, String> {
        let Some(written) = self.word() else {
            return Err(format!("expected a type before {}", self.here()));
        };
        match written {
            "bool" => return Ok(Kind::Bool),
            "char" => return Ok(Kind::Char(self.length()?)),
            "bytes" => return Ok(Kind::Bytes(self.length()?)),
            "pad" => {
                let digits = self.word().and_then(|word| word.parse().ok());
                let length = digits.filter(|length| (1..=LENGTH_MAX).contains(length));
                let length = length.ok_or(format!("`pad` needs a length, 1 to {LENGTH_MAX}"))?;
                return Ok(Kind::Pad(length));
            }
            _ => {}
        }
        let (plain, is_little) = match (written.strip_suffix("le"), written.strip_suffix("be")) {
            (Some(plain), _) => (plain, true),
            (None, Some(plain)) => (plain, false),
            (None, None) => (written, self.is_little),
        };
        let integer = |bits: &str, is_signed| {
            let bytes = match bits {
                "8" => 1,
                "16" => 2,
                "24" => 3,
                "32" => 4,
                "48" => 6,
                "64" => 8,
                _ => return None,
            };
            Some(Kind::Integer(Integer {
                bytes,
                is_signed,
                is_little,
            }))
        };
        let kind = match plain.split_at_checked(1) {
            Some(("u", bits)) => integer(bits, false),
            Some(("i", bits)) => integer(bits, true),
            Some(("f", "32")) => Some(Kind::Float {
                bytes: 4,
                is_little,
            }),
            Some(("f", "64")) => Some(Kind::Float {
                bytes: 8,
                is_little,
            }),
            _ => None,
        };
        kind.ok_or_else(|| {
            format!(
                "`{written}` is no type: there are u8, u16, u24, u32, u48, u64, i8 to i64, f32, \
                 f64 (with le or be behind), bool, char[n], bytes[n] and pad n"
            )
        })
    }

    /// `[8]`, or `[*]` for the rest.
    fn length(&mut self) -> Result<Option<usize>, String> {
        let inside = self.trimmed().strip_prefix('[');
        let found = inside.and_then(|inside| inside.split_once(']'));
        let Some((written, rest)) = found else {
            return Err("a length is missing, such as [8], or [*] for the rest".to_owned());
        };
        self.rest = rest;
        match written.trim() {
            "*" => Ok(None),
            digits => match digits.parse() {
                Ok(length @ 1..=LENGTH_MAX) => Ok(Some(length)),
                Ok(_) | Err(_) => Err(format!("[{written}] is no length from 1 to {LENGTH_MAX}")),
            },
        }
    }

    fn scale(&mut self) -> Result<Option<Scale>, String> {
        let factor = if self.takes("*") {
            Some(factor(self.number()?))
        } else if self.takes("/") {
            match self.number()? {
                0.0 => return Err("a division by 0".to_owned()),
                divisor => Some(Factor::By(divisor)),
            }
        } else {
            None
        };
        let offset = if self.takes("+") {
            Some(self.number()?)
        } else if self.takes("-") {
            Some(-self.number()?)
        } else {
            None
        };
        Ok(match (factor, offset) {
            (None, None) => None,
            (factor, offset) => Some(Scale {
                factor: factor.unwrap_or(Factor::Times(1.0)),
                offset: offset.unwrap_or(0.0),
            }),
        })
    }

    /// A decimal number.
    fn number(&mut self) -> Result<f64, String> {
        let text = self.trimmed();
        let mut end = 0;
        for (at, c) in text.char_indices() {
            let before = text.get(..at).and_then(|text| text.chars().next_back());
            let is_sign = matches!(c, '-' | '+') && matches!(before, None | Some('e' | 'E'));
            if !(c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E') || is_sign) {
                break;
            }
            end = at + c.len_utf8();
        }
        let (written, rest) = text.split_at(end);
        self.rest = rest;
        let number = written.parse::<f64>().ok();
        let number = number.filter(|number| number.is_finite());
        number.ok_or_else(|| format!("`{written}{}` is not a number", first_word(rest)))
    }

    /// A whole number, decimal or with `0x`.
    fn integer(&mut self) -> Result<i128, String> {
        let is_negative = self.takes("-");
        let written = self.word().unwrap_or_default();
        let number = match written.strip_prefix("0x") {
            Some(digits) => i128::from_str_radix(digits, 16),
            None => written.parse(),
        };
        match number {
            Ok(number) if is_negative => Ok(-number),
            Ok(number) => Ok(number),
            Err(_) => Err(format!("`null {written}` is not a whole number")),
        }
    }

    /// What stands between `{` and `}`.
    fn bits(&mut self) -> Result<Vec<Bits>, String> {
        let mut all = Vec::new();
        loop {
            let name = self.word();
            let name = name.ok_or_else(|| format!("expected a name before {}", self.here()))?;
            if !self.takes(":") {
                return Err(format!("expected `:` behind `{name}`"));
            }
            let first = self.bit(name)?;
            let last = match self.takes("..") {
                true => self.bit(name)?,
                false => first,
            };
            let count = last.checked_sub(first).map(|more| more + 1);
            let count = count.ok_or_else(|| format!("`{name}`: the lower bit comes first"))?;
            all.push(Bits {
                name: name.to_owned(),
                first,
                count,
            });
            if self.takes("}") {
                return Ok(all);
            }
            if !self.takes(",") {
                return Err(format!("expected `,` or `}}` before {}", self.here()));
            }
        }
    }

    fn bit(&mut self, name: &str) -> Result<u32, String> {
        let text = self.trimmed();
        let end = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        let (digits, rest) = text.split_at(end);
        self.rest = rest;
        let bit = digits.parse::<u32>().ok().filter(|bit| *bit < 64);
        bit.ok_or_else(|| format!("`{name}` needs the number of a bit, 0 being the lowest"))
    }
}

fn starts_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphanumeric() || c == '_')
}

fn first_word(text: &str) -> &str {
    text.split([' ', ',']).next().unwrap_or_default()
}

/// As a division when that is exact.
pub(super) fn factor(number: f64) -> Factor {
    let divisor = (1.0 / number).round();
    match divisor.is_finite() && divisor != 0.0 && 1.0 / divisor == number {
        true => Factor::By(divisor),
        false => Factor::Times(number),
    }
}

/// That what is written behind a type goes with it.
fn check(piece: &Piece) -> Result<(), String> {
    let is_number = matches!(piece.kind, Kind::Integer(_) | Kind::Float { .. });
    if piece.scale.is_some() && !is_number {
        return Err("only a number can have a factor or an offset".to_owned());
    }
    if matches!(piece.kind, Kind::Pad(_)) && piece.name != "_" {
        return Err("`pad` is nothing to name: write `_ pad n`".to_owned());
    }
    let Kind::Integer(integer) = piece.kind else {
        return match piece.null.is_some() || !piece.bits.is_empty() {
            true => Err("only an integer can have `null` or bits".to_owned()),
            false => Ok(()),
        };
    };
    if let Some(null) = piece.null {
        let (min, _) = integer.range();
        let bits_max = (1_i128 << (integer.bytes * 8)) - 1;
        if !(min..=bits_max).contains(&null) {
            return Err(format!("it is never {null}"));
        }
    }
    let beyond = |bits: &&Bits| {
        bits.first + bits.count > 64
            || usize::try_from(bits.first + bits.count).unwrap_or(usize::MAX) > integer.bytes * 8
    };
    match piece.bits.iter().find(beyond) {
        Some(bits) => Err(format!(
            "`{}` lies beyond its {} bits",
            bits.name,
            integer.bytes * 8
        )),
        None => Ok(()),
    }
}
