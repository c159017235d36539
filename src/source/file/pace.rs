//! When a replayed line is due, by the time of its row.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::Definition;
use crate::config::options::OptionFault;
use crate::decode::Decoder;
use crate::event::{Batch, TimeFormat, Type};

/// A longer wait than this is none that was meant: a clock that was not set yet, or an hour without
/// rows. The pace begins anew behind it.
const WAIT_MAX: Duration = Duration::from_secs(3_600);

/// Lets lines go by as their rows' time did.
#[derive(Debug)]
pub(super) struct Pace {
    decoder: Decoder,
    rows: Batch,
    column: usize,
    format: TimeFormat,
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
        let named = options.text("timestamp.format").unwrap_or("ms");
        let times =
            TimeFormat::named(named).map_err(|why| OptionFault::new("timestamp.format", why))?;
        Ok(Some(Pace {
            decoder: Decoder::new(format, options, schema, taken)?,
            rows: Batch::new(schema.width()),
            column,
            format: times,
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
        let time_ms = self.format.read(first.values.get(self.column)?)?.0;
        Some(self.due_at(time_ms, Instant::now()))
    }

    /// When a row of this time is due.
    fn due_at(&mut self, time_ms: i64, now: Instant) -> Instant {
        let (first_ms, began) = *self.began.get_or_insert((time_ms, now));
        let passed_ms = u64::try_from(time_ms.saturating_sub(first_ms)).unwrap_or(0);
        let passed = Duration::from_millis(passed_ms) / self.speed;
        match began.checked_add(passed) {
            Some(due) if due.saturating_duration_since(now) <= WAIT_MAX => due,
            Some(_) | None => {
                self.began = Some((time_ms, now));
                now
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::options::{Layer, OptionValue, Options};
    use crate::event::{Field, Schema};

    #[test]
    fn rows_go_by_as_their_times_did_but_none_waits_for_ever() {
        let mut options = Options::default();
        for (name, text) in [
            ("file.pace", "rows"),
            ("timestamp.field", "t"),
            ("timestamp.format", "%Y-%m-%d %H:%M:%S"),
        ] {
            options.set(name, OptionValue::Text(text.to_owned()), Layer::Sql);
        }
        let schema = Schema::new(vec![Field {
            name: "t".to_owned(),
            ty: Type::String,
        }]);
        let definition = Definition {
            stream: "S",
            extension: "file",
            format: "json",
            options: &options,
            schema: &schema,
            client_id: "",
        };
        let mut pace = Pace::new(&definition, true, &[]).unwrap().unwrap();
        let begin = Instant::now();
        let mut due = |time: &str| {
            let due = pace.due(format!(r#"{{"t":"{time}"}}"#).as_bytes());
            due.map(|due| due.saturating_duration_since(begin).as_secs())
        };
        // A gateway without a battery: its first rows are of 1970.
        assert_eq!(due("1970-01-01 00:00:00"), Some(0));
        assert_eq!(due("1970-01-01 00:00:07"), Some(7));
        assert_eq!(due("2026-05-01 12:00:00"), Some(0));
        assert_eq!(due("2026-05-01 12:00:30"), Some(30));
        assert_eq!(due("9999-01-01 00:00:00"), Some(0));
        // What lies behind is due at once.
        assert_eq!(due("2026-05-01 12:00:40"), Some(0));
        assert_eq!(due("no time"), None);
    }
}
