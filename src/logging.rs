//! Where the daemon's log goes and how a line of it looks.
//!
//! * `text`: for people, with colours on a terminal.
//! * `json`: an object a line, `ts`, `level`, `target` and `message`, then the line's own fields.
//! * `journal`: the fields of the journal's own protocol: `MESSAGE`, `PRIORITY`, `TARGET`, and the
//!   line's own in capitals, such as `STREAM` and `QUERY`. It takes the feature `systemd`; without
//!   it, and when the journal does not take a line, text with its priority in front, as
//!   `sd-daemon(3)` has it.
//!
//! What nobody asks for by name is the journal where the standard error leads to it, else text.

mod levels;

use std::io::{IsTerminal, Write};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

pub use self::levels::{LevelFault, LogControl, OWN_TARGET, SET_MAX};

use self::levels::Levels;
use crate::clock;

/// Where the journal takes lines.
#[cfg(feature = "systemd")]
const JOURNAL: &str = "/run/systemd/journal/socket";

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// An object a line.
    Json,
    /// For the journal.
    Journal,
}

impl Format {
    /// The one for wherever the standard error leads to.
    #[must_use]
    pub fn of_environment() -> Format {
        let journal = std::env::var("JOURNAL_STREAM").ok();
        let stderr = nix::sys::stat::fstat(std::io::stderr()).ok();
        let leads_there = journal.zip(stderr).is_some_and(|(journal, stderr)| {
            journal == format!("{}:{}", stderr.st_dev, stderr.st_ino)
        });
        if leads_there {
            Format::Journal
        } else {
            Format::Text
        }
    }
}

/// Begins to write the log at `level`; gives what has it follow another one. `EVENTFLUX_LOG`
/// overrides the level, in the form of `tracing`'s filters.
pub fn start(format: Format, level: &str) -> LogControl {
    let written: Option<Targets> = std::env::var("EVENTFLUX_LOG")
        .ok()
        .and_then(|text| text.parse().ok());
    let levels = Levels::new(written, level);
    let (filter, handle) = reload::Layer::new(levels.filter());
    let lines: Box<dyn Layer<_> + Send + Sync> = match format {
        Format::Text => Box::new(
            tracing_subscriber::fmt::layer()
                .with_target(false)
                .with_writer(std::io::stderr)
                .with_ansi(std::io::stderr().is_terminal()),
        ),
        Format::Json => Box::new(Lines(write_json)),
        Format::Journal => Box::new(Lines(write_journal)),
    };
    // A second call in one process keeps the first one's.
    let _ = tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .try_init();
    LogControl::new(levels, move |filter| {
        // It fails when nobody writes any more.
        let _ = handle.reload(filter);
    })
}

/// Writes every line with its fields apart.
struct Lines(fn(&Line));

struct Line {
    level: Level,
    target: &'static str,
    message: String,
    fields: Map<String, Value>,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let mut line = Line {
            level: *metadata.level(),
            target: metadata.target(),
            message: String::new(),
            fields: Map::new(),
        };
        event.record(&mut line);
        (self.0)(&line);
    }
}

impl Line {
    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            (name, value) => drop(self.fields.insert(name.to_owned(), value)),
        }
    }

    /// As `sd-daemon(3)` counts them.
    fn priority(&self) -> u8 {
        match self.level {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        }
    }

    fn json(&self, ts: &str) -> String {
        let level = self.level.as_str().to_ascii_lowercase();
        let own = [
            ("ts", ts),
            ("level", &level),
            ("target", self.target),
            ("message", &self.message),
        ];
        let own = own.map(|(name, text)| (name.to_owned(), Value::from(text)));
        let mut object = Map::from_iter(own);
        for (name, value) in &self.fields {
            object.entry(name).or_insert_with(|| value.clone());
        }
        Value::Object(object).to_string()
    }

    /// The fields as the journal has them: `NAME=value`.
    #[cfg_attr(
        not(feature = "systemd"),
        allow(dead_code, reason = "nobody takes them then")
    )]
    fn journal(&self) -> Vec<String> {
        let mut all = vec![
            format!("MESSAGE={}", self.message),
            format!("PRIORITY={}", self.priority()),
            "SYSLOG_IDENTIFIER=eventflux".to_owned(),
            format!("TARGET={}", self.target),
        ];
        for (name, value) in &self.fields {
            let name = name.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
            let name = name.trim_start_matches('_').to_ascii_uppercase();
            all.push(format!("{name}={}", plain(value)));
        }
        all
    }

    /// Text in which every line has the priority in front.
    fn with_priority(&self) -> String {
        let mut text = self.message.clone();
        for (name, value) in &self.fields {
            text.push_str(&format!(" {name}={value}"));
        }
        let priority = self.priority();
        let lines = text.lines().map(|line| format!("<{priority}>{line}\n"));
        lines.collect()
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
}

fn write_json(line: &Line) {
    let ts = clock::wall().utc();
    write(&format!("{}\n", line.json(&ts)));
}

fn write_journal(line: &Line) {
    #[cfg(feature = "systemd")]
    // libsystemd drops a line without a word when the socket is not there.
    if std::path::Path::new(JOURNAL).exists() {
        let fields = line.journal();
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        if systemd::journal::send(&fields).is_ok() {
            return;
        }
    }
    write(&line.with_priority());
}

/// At once, so that lines of several threads do not mix. That nobody reads is no reason to fail.
fn write(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> Line {
        Line {
            level: Level::WARN,
            target: "eventflux::source",
            message: "two\nlines".to_owned(),
            fields: Map::from_iter([
                ("stream".to_owned(), Value::from("boiler")),
                ("count".to_owned(), Value::from(3)),
                ("ts".to_owned(), Value::from("never")),
            ]),
        }
    }

    #[test]
    fn json_keeps_numbers_and_its_own_names() {
        let text = line().json("2026-11-21T10:00:00Z");
        let object: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(object["ts"], "2026-11-21T10:00:00Z");
        assert_eq!(object["level"], "warn");
        assert_eq!(object["message"], "two\nlines");
        assert_eq!(object["stream"], "boiler");
        assert_eq!(object["count"], 3);
        assert!(!text.contains('\n'));
    }

    #[test]
    fn the_journal_gets_fields_in_capitals() {
        let fields = line().journal();
        for wanted in [
            "MESSAGE=two\nlines",
            "PRIORITY=4",
            "SYSLOG_IDENTIFIER=eventflux",
            "STREAM=boiler",
            "COUNT=3",
        ] {
            assert!(fields.iter().any(|field| field == wanted), "{fields:?}");
        }
    }

    #[test]
    fn without_the_journal_every_line_has_its_priority() {
        let text = line().with_priority();
        assert_eq!(
            text,
            "<4>two\n<4>lines count=3 stream=\"boiler\" ts=\"never\"\n"
        );
    }
}
