//! The pages in `docs/connectors` tell every option there is, and no other.
//!
//! A table stands between `<!-- options: source mqtt -->` and `<!-- end -->`. Besides `source NAME`
//! there are `sink NAME`, `format NAME`, of which `reading NAME` and `writing NAME` are the halves,
//! and `every stream`, `every source`, `every sink` and `shared framing`. A page `mqtt.md` or `format-csv.md` may also
//! say `<!-- options -->`: that is everything with its name.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use eventflux::daemon::catalogue::{Use, catalogue, page, table};

use super::compare;

const BEGIN: &str = "<!-- options";
const END: &str = "<!-- end -->";

/// A page with its tables made anew, and what they are about.
fn made_anew(path: &Path, text: &str) -> (String, BTreeSet<(String, String)>) {
    let shown = path.display();
    let stem = path.file_stem().unwrap().to_str().unwrap();
    let (mut out, mut about) = (String::new(), BTreeSet::new());
    let mut rest = text;
    while let Some(at) = rest.find(BEGIN) {
        let (before, from) = rest.split_at(at);
        let (mark, after) = from.split_once("-->\n").expect("a mark is a line");
        let (_, after) = after
            .split_once(END)
            .unwrap_or_else(|| panic!("{shown}: no {END} after a table"));
        let words = mark[BEGIN.len()..]
            .trim_start_matches(':')
            .split_whitespace();
        let words: Vec<&str> = words.collect();
        let made = match words.as_slice() {
            [] => {
                let name = stem.strip_prefix("format-").unwrap_or(stem);
                for kind in ["source", "sink", "reading", "writing"] {
                    if table(kind, name).is_some() {
                        about.insert((kind.to_owned(), name.to_owned()));
                    }
                }
                page(name)
            }
            ["format", name] => {
                for kind in ["reading", "writing"] {
                    if table(kind, name).is_some() {
                        about.insert((kind.to_owned(), (*name).to_owned()));
                    }
                }
                table("format", name)
            }
            [kind, name] => {
                about.insert(((*kind).to_owned(), (*name).to_owned()));
                table(kind, name)
            }
            _ => panic!("{shown}: write `{BEGIN}: source NAME -->`, not `{mark}-->`"),
        };
        let made = made.unwrap_or_else(|| panic!("{shown}: there is no such thing: `{mark}-->`"));
        out.push_str(&format!("{before}{mark}-->\n\n{made}\n{END}"));
        rest = after;
    }
    out.push_str(rest);
    (out, about)
}

#[test]
fn every_connector_and_format_has_its_options_on_a_page() {
    let entries = std::fs::read_dir("docs/connectors").unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let mut told = BTreeSet::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap();
        let (made, about) = made_anew(&path, &text);
        let shown = path.display();
        assert!(
            !about.is_empty(),
            "{shown} is about no connector: write `{BEGIN} -->` into it"
        );
        for thing in about {
            assert!(
                told.insert(thing.clone()),
                "{shown}: {thing:?} is on another page too"
            );
        }
        compare(&path, &made);
    }
    let there_is: BTreeSet<(String, String)> = catalogue()
        .iter()
        .map(|entry| {
            let kind = match entry.used {
                Use::Source => "source",
                Use::Sink => "sink",
                Use::Reading => "reading",
                Use::Writing => "writing",
            };
            (kind.to_owned(), entry.name.to_owned())
        })
        .collect();
    let missing: Vec<_> = there_is.difference(&told).collect();
    assert!(
        missing.is_empty(),
        "no page in docs/connectors has the options of {missing:?}"
    );
}

/// What the declarations promise to everything that is made of them.
#[test]
fn every_option_is_declared_soundly() {
    use eventflux::config::options::{OptionKind, OptionSpec};
    for entry in catalogue() {
        let mut names = BTreeSet::new();
        for OptionSpec {
            name,
            kind,
            default,
            required,
            doc,
            range,
            unit,
            ..
        } in entry.options
        {
            assert!(
                names.insert(name),
                "{}: {name} is declared twice",
                entry.name
            );
            assert!(!doc.trim().is_empty(), "{name} says nothing");
            assert!(
                !(*required && default.is_some()),
                "{name} is required and has a default"
            );
            let has_range = matches!(kind, OptionKind::Duration | OptionKind::Bytes);
            assert!(
                range.is_none() || has_range,
                "{name}: its kind has the bounds"
            );
            let has_unit = matches!(kind, OptionKind::Integer { .. } | OptionKind::Number { .. });
            assert!(unit.is_none() || has_unit, "{name}: its kind has the unit");
        }
    }
}
