//! NMEA 0183 sentences become rows: `$GPRMC,…*hh`, one a line.
//!
//! A column takes what the table of [`sentences`] calls so (`latitude`, `speed_knots`), or a field
//! by its number. What a sentence does not have is NULL. The layout of the sentences follows the
//! public descriptions of NMEA 0183 (E. S. Raymond, "NMEA Revealed").

mod sentences;

use sentences::{Kind, READY, Ready};

use super::column::{Columns, Scalar};
use super::options::format_options;
use super::{MESSAGE_ROWS_MAX, Reason, Reject};
use crate::config::options::{OptionFault, OptionKind, OptionSpec, Options};
use crate::event::{Batch, Schema, Type, Value};

/// What can be set.
pub(super) const OPTIONS: &[OptionSpec] = format_options!(
    "nmea": ignore;
    OptionSpec::new(
        "nmea.mapping.*",
        OptionKind::Text,
        "What a column takes: a name of the table, `talker`, `sentence`, or a field's number (from \
         1 on), of one sentence alone as in `RMC.7`; what is called like the column when left out",
    ),
    OptionSpec::new(
        SENTENCES,
        OptionKind::Text,
        "The sentences that become rows, separated by commas, such as `RMC,GGA`; all when left \
         out. Others are passed over",
    ),
    OptionSpec::new(
        "nmea.checksum",
        OptionKind::Choice(&["if_present", "required", "ignore"]),
        "Whether a sentence must have a checksum, or is only checked when it has one",
    )
    .or("if_present"),
);

const SENTENCES: &str = "nmea.sentences";
/// Twelve times what the standard allows: long enough for every vendor's own sentence.
const SENTENCE_BYTES_MAX: usize = 1_024;
/// The highest number of a field that a column may take.
const FIELD_NUMBER_MAX: usize = 255;

/// A decoder of sentences for one stream.
#[derive(Debug)]
pub(super) struct Decoder {
    columns: Columns,
    takes: Vec<(usize, Take)>,
    /// The sentences that become rows; empty: all.
    wanted: Vec<String>,
    checksum: Checksum,
    /// Where the fields of the sentence lie.
    fields: Vec<(usize, usize)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Checksum {
    IfPresent,
    Required,
    Ignore,
}

/// What a column takes.
#[derive(Debug)]
enum Take {
    Talker,
    Sentence,
    /// A field by its number, of the sentence called so or of any.
    Field {
        sentence: Option<String>,
        number: usize,
    },
    /// What [`READY`] calls so: it stands in each of these sentences.
    Ready(Vec<&'static Ready>),
}

impl Decoder {
    pub(super) fn new(
        options: &Options,
        schema: &Schema,
        taken: &[usize],
    ) -> Result<Decoder, OptionFault> {
        let columns = Columns::new("nmea", options, schema, taken)?.converting_text();
        columns.check_family(options, "nmea.mapping.")?;
        let mut takes = Vec::new();
        for (index, column) in columns.own() {
            let option = format!("nmea.mapping.{}", column.name);
            let written = options.text(&option).unwrap_or(&column.name);
            let take = take(written)
                .and_then(|take| fitting(take, written, column.ty))
                .map_err(|problem| OptionFault::new(option, problem))?;
            takes.push((index, take));
        }
        let wanted = options.text(SENTENCES).unwrap_or_default().split(',');
        let wanted: Vec<String> = wanted
            .map(|name| name.trim().to_ascii_uppercase())
            .filter(|name| !name.is_empty())
            .collect();
        Ok(Decoder {
            columns,
            takes,
            wanted,
            checksum: match options.text("nmea.checksum") {
                Some("required") => Checksum::Required,
                Some("ignore") => Checksum::Ignore,
                Some(_) | None => Checksum::IfPresent,
            },
            fields: Vec::new(),
        })
    }

    pub(super) fn decode(
        &mut self,
        payload: &[u8],
        into: &mut Batch,
        ignored: &mut u64,
    ) -> Result<(), Reject> {
        let text = super::utf8(payload)?;
        if text.trim().is_empty() {
            return Err(super::empty());
        }
        let before = into.len();
        for (number, line) in super::text::lines(text) {
            let read = self.sentence(line.trim(), before, into, ignored);
            read.map_err(|reject| reject.in_line(number))?;
        }
        Ok(())
    }

    fn sentence(
        &mut self,
        line: &str,
        before: usize,
        into: &mut Batch,
        ignored: &mut u64,
    ) -> Result<(), Reject> {
        let inside = checked(without_tags(line)?, self.checksum)?;
        let address_end = inside.find(',').unwrap_or(inside.len());
        let (address, rest) = inside.split_at_checked(address_end).unwrap_or((inside, ""));
        let (talker, sentence) = parts_of(address);
        if !self.wanted.is_empty() && !self.wanted.iter().any(|wanted| wanted == sentence) {
            return Ok(());
        }
        if into.len() - before >= MESSAGE_ROWS_MAX {
            return Err(super::too_many_rows());
        }
        self.fields.clear();
        let mut start = 0;
        for field in rest.split(',').skip(1) {
            // One comma stands before each.
            start += 1;
            self.fields.push((start, start + field.len()));
            start += field.len();
        }
        let fields = Fields {
            text: rest,
            places: &self.fields,
        };
        let row = into.push_null();
        for (index, take) in &self.takes {
            let found = match take {
                Take::Talker => Ok(Found::Text(talker)),
                Take::Sentence => Ok(Found::Text(sentence)),
                Take::Field {
                    sentence: wanted,
                    number,
                } => match wanted.as_ref().is_none_or(|wanted| wanted == sentence) {
                    true => Ok(fields.found(*number)),
                    false => Ok(Found::Nothing),
                },
                Take::Ready(all) => match all.iter().find(|ready| ready.sentence == sentence) {
                    Some(ready) => sentences::read(ready.kind, &fields),
                    None => Ok(Found::Nothing),
                },
            };
            self.store(*index, found, row, ignored)?;
        }
        Ok(())
    }

    fn store(
        &self,
        index: usize,
        found: Result<Found<'_>, &str>,
        row: &mut [Value],
        ignored: &mut u64,
    ) -> Result<(), Reject> {
        let scalar = match found {
            Ok(Found::Nothing) => Scalar::Null,
            Ok(Found::Text(text)) => Scalar::Text(text),
            Ok(Found::Number(number)) => Scalar::Float(number),
            Ok(Found::Integer(number)) => Scalar::Integer(number),
            Ok(Found::Instant(ms)) => {
                let plain = &Scalar::Integer(ms);
                return self
                    .columns
                    .store(index, Scalar::Instant { ms, plain }, row, ignored);
            }
            Err(what) => {
                let Some(column) = self.columns.get(index) else {
                    return Ok(());
                };
                let reject = || column.reject_found(Reason::WrongType, what);
                return self.columns.misfit(ignored, reject);
            }
        };
        self.columns.store(index, scalar, row, ignored)
    }
}

/// What a sentence has for a column.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Found<'a> {
    Nothing,
    Text(&'a str),
    Number(f64),
    Integer(i64),
    /// Milliseconds since 1970.
    Instant(i64),
}

/// The fields of a sentence.
#[derive(Clone, Copy)]
struct Fields<'a> {
    text: &'a str,
    places: &'a [(usize, usize)],
}

impl<'a> Fields<'a> {
    /// The field of this number, from 1 on; empty when there is none.
    fn get(&self, number: usize) -> &'a str {
        let place = number
            .checked_sub(1)
            .and_then(|index| self.places.get(index));
        let text = place.and_then(|(start, end)| self.text.get(*start..*end));
        text.unwrap_or_default().trim()
    }

    fn found(&self, number: usize) -> Found<'a> {
        match self.get(number) {
            "" => Found::Nothing,
            text => Found::Text(text),
        }
    }
}

/// Leaves out a tag block (`\s:…*hh\`) in front of a sentence.
fn without_tags(line: &str) -> Result<&str, Reject> {
    let Some(inside) = line.strip_prefix('\\') else {
        return Ok(line);
    };
    let behind = inside.split_once('\\').map(|(_, sentence)| sentence);
    behind.ok_or_else(|| Reject::new(Reason::Malformed, "a tag block that does not end"))
}

/// What stands between `$` and `*`, when the checksum behind it is right.
fn checked(sentence: &str, checksum: Checksum) -> Result<&str, Reject> {
    let malformed = |what: String| Err(Reject::new(Reason::Malformed, what));
    if sentence.len() > SENTENCE_BYTES_MAX {
        let detail = format!("a sentence of {} bytes", sentence.len());
        return Err(Reject::new(Reason::TooLarge, detail));
    }
    let Some(inside) = sentence.strip_prefix(['$', '!']) else {
        return malformed("a sentence begins with `$` or `!`".to_owned());
    };
    let Some((inside, written)) = inside.rsplit_once('*') else {
        return match checksum {
            Checksum::Required => malformed("a sentence without a checksum".to_owned()),
            Checksum::IfPresent | Checksum::Ignore => Ok(inside),
        };
    };
    let expected = inside.bytes().fold(0, |sum, byte| sum ^ byte);
    let is_hex = written.len() == 2 && written.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_right = is_hex && u8::from_str_radix(written, 16) == Ok(expected);
    if is_right || checksum == Checksum::Ignore {
        return Ok(inside);
    }
    let written = super::text::excerpt(written);
    malformed(format!(
        "the checksum is `{written}` and should be `{expected:02X}`"
    ))
}

/// `GPRMC` is talker `GP` and sentence `RMC`; `PGRME`, a vendor's own, is talker `P` and `GRME`.
fn parts_of(address: &str) -> (&str, &str) {
    let at = match address.starts_with('P') {
        true => 1,
        false => 2,
    };
    address.split_at_checked(at).unwrap_or((address, ""))
}

fn take(written: &str) -> Result<Take, String> {
    match written {
        "talker" => return Ok(Take::Talker),
        "sentence" => return Ok(Take::Sentence),
        _ => {}
    }
    let ready: Vec<&'static Ready> = READY.iter().filter(|ready| ready.name == written).collect();
    if !ready.is_empty() {
        return Ok(Take::Ready(ready));
    }
    let (sentence, number) = match written.split_once('.') {
        Some((sentence, number)) => (Some(sentence.to_ascii_uppercase()), number),
        None => (None, written),
    };
    let number = number.parse::<usize>().ok();
    match number.filter(|number| (1..=FIELD_NUMBER_MAX).contains(number)) {
        Some(number) => Ok(Take::Field { sentence, number }),
        None => {
            let mut names: Vec<&str> = READY.iter().map(|ready| ready.name).collect();
            names.sort_unstable();
            names.dedup();
            Err(format!(
                "`{written}` is neither a field's number, such as `3` or `RMC.7`, nor one of \
                 talker, sentence, {}",
                names.join(", ")
            ))
        }
    }
}

/// That a column of this type can hold it.
fn fitting(take: Take, written: &str, ty: Type) -> Result<Take, String> {
    let fits = |types: &[Type], names: &str| match types.contains(&ty) {
        true => Ok(()),
        false => Err(format!(
            "`{written}` needs a column that is {names}, not {ty}"
        )),
    };
    match &take {
        Take::Talker | Take::Sentence => fits(&[Type::String], "STRING")?,
        Take::Field { .. } => {}
        Take::Ready(all) => {
            for ready in all {
                match ready.kind {
                    Kind::Text(_) => {}
                    Kind::Latitude(_) | Kind::Longitude(_) | Kind::Number(_) => {
                        fits(&[Type::Double, Type::Float], "DOUBLE or FLOAT")?;
                    }
                    Kind::DateTime { .. } | Kind::Zda => fits(&[Type::Timestamp], "TIMESTAMP")?,
                    Kind::TimeOfDay(_) => fits(&[Type::Int, Type::Long], "INT or BIGINT")?,
                }
            }
        }
    }
    Ok(take)
}
