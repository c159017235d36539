//! Every connector and format with its options: what `check` knows, and what the documentation and
//! the schema are made from.

use std::fmt::Write as _;

use crate::config::options::OptionSpec;
use crate::config::{self, option_table};
use crate::{decode, encode, framing, sink, source, sql};

/// What something of the catalogue is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Use {
    /// `'type' = 'source', 'extension' = …`.
    Source,
    /// `'type' = 'sink', 'extension' = …`.
    Sink,
    /// `'format' = …` of a source.
    Reading,
    /// `'format' = …` of a sink.
    Writing,
}

/// A connector or a format.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// What it is for.
    pub used: Use,
    /// The word in SQL.
    pub name: &'static str,
    /// What can be set.
    pub options: &'static [OptionSpec],
}

/// All of them, the connectors before the formats.
#[must_use]
pub fn catalogue() -> Vec<Entry> {
    let all = [
        (Use::Source, source::EXTENSIONS),
        (Use::Sink, sink::EXTENSIONS),
        (Use::Reading, decode::FORMATS),
        (Use::Writing, encode::FORMATS),
    ];
    let entries = all.into_iter().flat_map(|(used, known)| {
        known.iter().map(move |(name, options)| Entry {
            used,
            name,
            options,
        })
    });
    entries.collect()
}

/// Options that do not go by the connector.
#[derive(Clone, Copy, Debug)]
pub struct Shared {
    /// `stream`, `source` or `sink`: who has them.
    pub of: &'static str,
    /// A sentence about it.
    pub about: &'static str,
    /// What can be set.
    pub options: &'static [OptionSpec],
}

/// The options of the connection for `[control]`.
#[cfg(feature = "mqtt")]
pub const CONTROL: &[OptionSpec] = &crate::mqtt::LINK;
/// A build without MQTT has no such connection.
#[cfg(not(feature = "mqtt"))]
pub const CONTROL: &[OptionSpec] = &[];

/// All of these.
pub const ANY_STREAM: &[Shared] = &[
    Shared {
        of: "stream",
        about: "Options of every stream but sinks.",
        options: sql::time::OPTIONS,
    },
    Shared {
        of: "source",
        about: "Options of every source.",
        options: source::INTAKE_OPTIONS,
    },
    Shared {
        of: "sink",
        about: "Options of every sink.",
        options: config::OUTBOX_OPTIONS,
    },
    Shared {
        of: "sink",
        about: "What a sink does with what its far side will never take.",
        options: config::SINK_ERROR_OPTIONS,
    },
];

/// The reference of the configuration: every key, and the options of every stream.
#[must_use]
pub fn reference() -> String {
    let shared = ANY_STREAM
        .iter()
        .map(|shared| (shared.about, shared.options));
    config::reference(&shared.collect::<Vec<_>>(), CONTROL)
}

/// Every table of options that a stream can have.
#[must_use]
pub fn all_options() -> Vec<&'static [OptionSpec]> {
    let connectors = catalogue().into_iter().map(|entry| entry.options);
    let any = ANY_STREAM.iter().map(|shared| shared.options);
    connectors.chain(any).collect()
}

/// What there is, in Markdown.
#[must_use]
pub fn names() -> String {
    let mut out = String::new();
    let headings = [
        (Use::Source, "Sources"),
        (Use::Sink, "Sinks"),
        (Use::Reading, "Formats of sources"),
        (Use::Writing, "Formats of sinks"),
    ];
    let catalogue = catalogue();
    for (used, heading) in headings {
        let entries = catalogue.iter().filter(|entry| entry.used == used);
        let names: Vec<String> = entries.map(|entry| format!("`{}`", entry.name)).collect();
        let _ = writeln!(out, "{heading}: {}\n", names.join(", "));
    }
    let lacking = lacking();
    if !lacking.is_empty() {
        let _ = writeln!(out, "Not in this build: {}\n", lacking.join(", "));
    }
    out.push_str("`eventflux connectors NAME` lists the options of one.\n");
    out
}

/// What this build has not, each with the feature that has it.
fn lacking() -> Vec<String> {
    let connectors = [("source", source::ABSENT), ("sink", sink::ABSENT)];
    let mut lacking: Vec<String> = Vec::new();
    for (kind, absent) in connectors {
        for (name, feature) in absent {
            lacking.push(format!("{kind} `{name}` (feature `{feature}`)"));
        }
    }
    if cfg!(not(feature = "tls")) {
        lacking.push("TLS (feature `tls`)".to_owned());
    }
    lacking
}

/// The options of everything with this name, in Markdown; `None` when there is nothing.
#[must_use]
pub fn page(name: &str) -> Option<String> {
    let tables: Vec<(&str, String)> = ["source", "sink", "format"]
        .into_iter()
        .filter_map(|kind| Some((kind, table(kind, name)?)))
        .collect();
    match tables.as_slice() {
        [] => None,
        [(_, table)] => Some(table.clone()),
        several => {
            let parts = several.iter().map(|(kind, table)| {
                let about = match *kind {
                    "format" => format!("The format `{name}`:"),
                    kind => format!("As a {kind}:"),
                };
                format!("{about}\n\n{table}")
            });
            Some(parts.collect::<Vec<_>>().join("\n"))
        }
    }
}

/// The options of the `source`, `sink` or `format` with this name, or of a format for `reading` or
/// `writing` alone, or of `every` `stream`, `source` or `sink`, or what connectors share (`shared`
/// `framing`), in Markdown; `None` if there is no such thing.
#[must_use]
pub fn table(kind: &str, name: &str) -> Option<String> {
    let catalogue = catalogue();
    let of = |used: Use| {
        let mut entries = catalogue.iter();
        let found = entries.find(|entry| entry.used == used && entry.name == name);
        found.map(|entry| entry.options)
    };
    let specs: Vec<OptionSpec> = match kind {
        "source" => of(Use::Source)?.to_vec(),
        "sink" => of(Use::Sink)?.to_vec(),
        "reading" => of(Use::Reading)?.to_vec(),
        "writing" => of(Use::Writing)?.to_vec(),
        "shared" if name == "framing" => framing::FRAMING_OPTIONS.to_vec(),
        "every" => {
            let shared = ANY_STREAM.iter().filter(|shared| shared.of == name);
            let shared = shared.flat_map(|shared| shared.options.iter().copied());
            Some(shared.collect::<Vec<_>>()).filter(|specs| !specs.is_empty())?
        }
        "format" => match (of(Use::Reading), of(Use::Writing)) {
            (Some(reading), Some(writing)) => return Some(both_ways(reading, writing)),
            (reading, writing) => reading.or(writing)?.to_vec(),
        },
        _ => return None,
    };
    Some(match specs.is_empty() {
        true => "It has no options.\n".to_owned(),
        false => option_table(&specs),
    })
}

/// A format that is read and written: what both know, and what one of them knows alone.
fn both_ways(reading: &[OptionSpec], writing: &[OptionSpec]) -> String {
    let knows = |specs: &[OptionSpec], name| specs.iter().any(|spec| spec.name == name);
    let parts = [
        ("", reading, true, writing),
        ("For reading:\n\n", reading, false, writing),
        ("For writing:\n\n", writing, false, reading),
    ];
    let mut out = Vec::new();
    for (about, specs, shared, others) in parts {
        let some = specs
            .iter()
            .filter(|spec| knows(others, spec.name) == shared);
        let some: Vec<OptionSpec> = some.copied().collect();
        if !some.is_empty() {
            out.push(format!("{about}{}", option_table(&some)));
        }
    }
    match out.is_empty() {
        true => "It has no options.\n".to_owned(),
        false => out.join("\n"),
    }
}
