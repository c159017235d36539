//! The reference of the configuration file and of options, made from the declarations.

use std::fmt::Write as _;

use super::keys::{SECTIONS, of_section};
use super::options::{OptionKind, OptionSpec};
use super::value;

/// Every table and key in Markdown, and the options of streams of any connector: groups of them,
/// each with a sentence. `control` are the options of the connection for `[control]`.
#[must_use]
pub fn reference(any_stream: &[(&str, &[OptionSpec])], control: &[OptionSpec]) -> String {
    let mut out = String::new();
    for (section, doc) in SECTIONS {
        let keys = of_section(section).map(|(name, key)| OptionSpec { name, ..*key });
        let keys: Vec<OptionSpec> = keys.collect();
        let _ = writeln!(out, "### `[{section}]`\n\n{doc}\n\n{}", option_table(&keys));
        if *section == "control" && !control.is_empty() {
            let about =
                "Options of its connection; `mqtt.broker` is needed unless `mode` is `off`.";
            let _ = writeln!(out, "{about}\n\n{}", option_table(control));
        }
    }
    out.push_str(
        "### `[streams.<name>]`\n\nOptions of connectors and formats stand on their pages.\n\n",
    );
    for (about, options) in any_stream {
        let _ = writeln!(out, "{about}\n\n{}", option_table(options));
    }
    out
}

/// A table in Markdown: name, what may be written, default, meaning.
#[must_use]
pub fn option_table(options: &[OptionSpec]) -> String {
    let mut out = String::from("| name | value | default | meaning |\n| --- | --- | --- | --- |\n");
    for option in options {
        let default = match option.default {
            Some(default) => format!("`{default}`"),
            None if option.required => "required".to_owned(),
            None => "none".to_owned(),
        };
        let secret = match option.secret {
            true => " Never shown; write it as `${secret:name}`.",
            false => "",
        };
        let doc = option.doc.trim_end_matches('.');
        let cells = [
            format!("`{}`", option.name),
            form(option),
            default,
            format!("{doc}.{secret}"),
        ];
        let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
        let _ = writeln!(out, "| {} |", cells.join(" | "));
    }
    out
}

/// What may be written, in a cell of a table.
fn form(option: &OptionSpec) -> String {
    match option.kind {
        OptionKind::Text => "text".to_owned(),
        OptionKind::Choice(words) => {
            let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
            words.join(", ")
        }
        OptionKind::List => "texts: `a, b` or `[\"a\", \"b\"]`".to_owned(),
        OptionKind::Flag => "`true` or `false`".to_owned(),
        OptionKind::Integer { .. }
        | OptionKind::Number { .. }
        | OptionKind::Duration
        | OptionKind::Bytes => value::expected(option).replace('\'', "`"),
    }
}
