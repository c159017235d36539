//! When a replayed line is due, by the time of its row.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::Definition;
use crate::config::options::OptionFault;
use crate::decode::Decoder;
use crate::event::{Batch, Type, Value};

/// How the time of a row is written.
#[derive(Clone, Copy, Debug)]
enum Written {
    /// So many units to a second.
    Number(i64),
    Iso8601,
}

/// Lets lines go by as their rows' time did.
#[derive(Debug)]
pub(super) struct Pace {
    decoder: Decoder,
    rows: Batch,
    column: usize,
    written: Written,
    speed: u32,
    /// The time of the first row, and when it was taken.
    began: Option<(i64, Instant)>,
}

impl Pace {
    /// A pace, where one is wanted. The columns `taken` are not the format's.
    ///
    /// # Errors
    /// Rows have no time that can be read here.
    pub(super) fn new(
        definition: &Definition<'_>,
        is_replay: bool,
        taken: &[usize],
    ) -> Result<Option<Pace>, OptionFault> {
        let Definition {
            options,
            schema,
            format,
            ..
        } = *definition;
        if options.text("file.pace") != Some("rows") {
            return Ok(None);
        }
        let fault = |problem: &str| Err(OptionFault::new("file.pace", problem));
        if !is_replay {
            return fault("`rows` goes with 'file.mode' = 'replay'");
        }
        let types = [
            Type::Timestamp,
            Type::Long,
            Type::Int,
            Type::Double,
            Type::String,
        ];
        let Some(column) = definition.column("timestamp.field", &types)? else {
            return fault("`rows` needs 'timestamp.field', the column with the time of a row");
        };
        let written = match options.text("timestamp.format") {
            Some("s") => Written::Number(1),
            Some("ms") | None => Written::Number(1_000),
            Some("us") => Written::Number(1_000_000),
            Some("ns") => Written::Number(1_000_000_000),
            Some("iso8601") => Written::Iso8601,
            Some(_) => {
                return fault("`rows` reads times in s, ms, us, ns and iso8601, and no patterns");
            }
        };
        Ok(Some(Pace {
            decoder: Decoder::new(format, options, schema, taken)?,
            rows: Batch::new(schema.width()),
            column,
            written,
            speed: options
                .integer("file.speed")
                .and_then(|speed| u32::try_from(speed).ok())
                .unwrap_or(1),
            began: None,
        }))
    }

    /// When a line is due. None for one that has no time, which is due at once.
    pub(super) fn due(&mut self, line: &[u8]) -> Option<Instant> {
        self.rows = Batch::new(self.rows.width());
        self.decoder.decode(line, &mut self.rows).ok()?;
        let first = self.rows.rows().row(0)?;
        let time_us = self.written.micros(first.values.get(self.column)?)?;
        let (first_us, at) = *self.began.get_or_insert_with(|| (time_us, Instant::now()));
        let passed_us = u64::try_from(time_us.saturating_sub(first_us)).unwrap_or(0);
        at.checked_add(Duration::from_micros(passed_us) / self.speed)
    }
}

impl Written {
    fn micros(self, value: &Value) -> Option<i64> {
        match (self, value) {
            (Written::Number(per_second), Value::Int(time)) => {
                let micros = i128::from(*time) * 1_000_000 / i128::from(per_second);
                i64::try_from(micros).ok()
            }
            (Written::Number(1), Value::Float(time)) => whole(time * 1e6),
            (Written::Number(1_000), Value::Float(time)) => whole(time * 1e3),
            (Written::Number(1_000_000), Value::Float(time)) => whole(*time),
            (Written::Number(_), Value::Float(time)) => whole(time / 1e3),
            (Written::Iso8601, Value::Str(text)) => {
                let zoned = text.parse::<jiff::Timestamp>();
                let time = zoned.or_else(|_| {
                    let civil = text.parse::<jiff::civil::DateTime>()?;
                    Ok(civil.to_zoned(jiff::tz::TimeZone::UTC)?.timestamp())
                });
                time.map_err(|_: jiff::Error| ())
                    .ok()
                    .map(jiff::Timestamp::as_microsecond)
            }
            (Written::Number(_) | Written::Iso8601, _) => None,
        }
    }
}

fn whole(micros: f64) -> Option<i64> {
    Duration::try_from_secs_f64(micros / 1e6)
        .ok()
        .and_then(|since| i64::try_from(since.as_micros()).ok())
}
