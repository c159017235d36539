//! The reference of the configuration file, made from the declarations.

use std::fmt::Write as _;

use super::keys::{KEYS, KeySpec, SECTIONS};
use super::options::{OptionKind, OptionSpec};
use super::outbox::OUTBOX_OPTIONS;
use super::value;

const HEAD: &str = "| key | value | default | meaning |\n| --- | --- | --- | --- |\n";

/// Every table and key in Markdown, and the options that streams of any connector have.
#[must_use]
pub fn reference(any_stream: &[OptionSpec]) -> String {
    let mut out = String::new();
    for (section, doc) in SECTIONS {
        let _ = writeln!(out, "### `[{section}]`\n\n{doc}\n");
        out.push_str(HEAD);
        for key in KEYS.iter().filter(|key| key.section() == *section) {
            let name = key.option.name;
            let name = name.split_once('.').map_or(name, |(_, name)| name);
            out.push_str(&row(name, key));
        }
        out.push('\n');
    }
    out.push_str(
        "### `[streams.<name>]`\n\nOptions of every stream but sinks. Those of connectors and \
         formats stand on their pages.\n\n",
    );
    options(&mut out, any_stream);
    out.push_str("Options of every sink.\n\n");
    options(&mut out, OUTBOX_OPTIONS);
    out
}

fn options(out: &mut String, specs: &[OptionSpec]) {
    out.push_str(HEAD);
    for option in specs {
        let key = KeySpec {
            option: *option,
            range: None,
        };
        out.push_str(&row(option.name, &key));
    }
    out.push('\n');
}

fn row(name: &str, key: &KeySpec) -> String {
    let OptionSpec {
        kind, default, doc, ..
    } = key.option;
    let form = match kind {
        OptionKind::Text => "text".to_owned(),
        OptionKind::Choice(words) => {
            let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
            words.join(", ")
        }
        OptionKind::Integer { .. }
        | OptionKind::Duration
        | OptionKind::Bytes
        | OptionKind::Flag => value::expected(kind, key.range.as_ref()).replace('\'', "`"),
    };
    let default = default.map_or_else(|| "none".to_owned(), |default| format!("`{default}`"));
    format!("| `{name}` | {form} | {default} | {doc} |\n")
}
