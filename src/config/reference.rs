//! The reference of the configuration file, made from the declarations.

use std::fmt::Write as _;

use super::keys::{KEYS, KeySpec, SECTIONS};
use super::options::{OptionKind, OptionSpec};
use super::value;

/// Every table and key in Markdown.
#[must_use]
pub fn reference() -> String {
    let mut out = String::new();
    for (section, doc) in SECTIONS {
        let _ = writeln!(out, "### `[{section}]`\n\n{doc}\n");
        out.push_str("| key | value | default | meaning |\n| --- | --- | --- | --- |\n");
        for key in KEYS.iter().filter(|key| key.section() == *section) {
            out.push_str(&row(key));
        }
        out.push('\n');
    }
    out
}

fn row(key: &KeySpec) -> String {
    let OptionSpec {
        name,
        kind,
        default,
        doc,
        ..
    } = key.option;
    let name = name.split_once('.').map_or(name, |(_, name)| name);
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
