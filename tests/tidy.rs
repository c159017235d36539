//! The rules of the house that no compiler knows: who may use whom, how long a file and a
//! function may be, what may be named only in one place.
//!
//! Every finding names its file and line and says what to do. A rule that makes the code worse is
//! changed here, in the same commit, with the reason.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails says where"
)]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Every module and the modules of ours that it may use. `*` stands for all.
const LAYERS: &[(&str, &[&str])] = &[
    ("event", &[]),
    ("allocator", &[]),
    ("diagnostic", &[]),
    ("pace", &[]),
    ("held", &[]),
    ("report", &["event"]),
    ("clock", &["event"]),
    ("config", &["event", "diagnostic"]),
    ("mqtt", &["event", "config", "pace", "tls"]),
    ("demo", &["mqtt", "event"]),
    ("tls", &["config"]),
    ("http", &["event", "config", "pace", "tls"]),
    (
        "source",
        &[
            "event", "config", "mqtt", "tls", "http", "decode", "pace", "held", "clock", "report",
            "serial", "framing",
        ],
    ),
    ("decode", &["event", "config", "mqtt"]),
    ("framing", &["config", "decode"]),
    ("serial", &["config"]),
    ("store", &[]),
    ("wal", &["event", "store"]),
    // Options of streams that shape the plan are declared and checked as all others are.
    ("sql", &["event", "diagnostic", "config"]),
    ("engine", &["event", "sql"]),
    ("checkpoint", &["event", "store"]),
    ("outbox", &["event", "store"]),
    ("encode", &["event", "config", "diagnostic"]),
    (
        "sink",
        &[
            "event", "config", "mqtt", "tls", "http", "encode", "pace", "held", "clock", "report",
            "serial", "framing",
        ],
    ),
    ("logging", &["clock"]),
    ("observe", &["source", "sink", "engine", "event", "report"]),
    (
        "pipeline",
        &[
            "wal",
            "engine",
            "sql",
            "checkpoint",
            "outbox",
            "store",
            "source",
            "sink",
            "event",
            "observe",
            "clock",
            "pace",
            "held",
        ],
    ),
    (
        "scenario",
        &[
            "event",
            "sql",
            "engine",
            "wal",
            "outbox",
            "store",
            "diagnostic",
            "pipeline",
            // Rows of a case are decoded and shown as the daemon would.
            "config",
            "decode",
            "sink",
        ],
    ),
    ("supervisor", &[]),
    ("daemon", &["*"]),
    ("control", &["*"]),
    ("cli", &["*"]),
];

/// Modules that use everything, and who may use them.
const SUMMITS: &[(&str, &[&str])] = &[
    ("daemon", &["control", "cli"]),
    ("control", &["cli"]),
    ("cli", &[]),
];

/// Names that say nothing about what is inside.
const BANNED_NAMES: &[&str] = &[
    "core", "common", "util", "utils", "helpers", "manager", "impl",
];

/// Files that may hold `unsafe`, each for one system call with its reason beside it.
const UNSAFE_FILES: &[&str] = &["src/allocator.rs"];

/// What may be named in one file only, and what to use elsewhere.
const ONLY_IN: &[(&str, &str, &str)] = &[
    (
        "sled::",
        "src/store/sled/generation.rs",
        "go through the trait in src/store/",
    ),
    ("serde_cbor", "src/event/cbor.rs", "use crate::event::cbor"),
    (
        "SystemTime::now",
        "src/clock.rs",
        "take the time as an argument",
    ),
];

const FILE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 70;
const COLUMNS_MAX: usize = 100;

/// A Rust file: as written, and with comments and the insides of strings blanked out.
struct RustFile {
    /// From the package's folder, with `/`.
    path: String,
    text: String,
    code: String,
}

impl RustFile {
    fn new(path: &Path) -> RustFile {
        let text = std::fs::read_to_string(path).unwrap();
        RustFile {
            path: path.display().to_string().replace('\\', "/"),
            code: blank_out(&text),
            text,
        }
    }

    /// `src/config/load.rs` → `["config", "load"]`; `mod.rs` names its folder.
    fn module(&self) -> Vec<&str> {
        let inside = self.path.strip_prefix("src/").unwrap_or(&self.path);
        let inside = inside.strip_suffix(".rs").unwrap_or(inside);
        let inside = inside.strip_suffix("/mod").unwrap_or(inside);
        inside.split('/').collect()
    }

    fn at(&self, offset: usize) -> String {
        let line = self.code[..offset].matches('\n').count() + 1;
        format!("{}:{line}", self.path)
    }

    /// Where tests begin; the end of the file when there are none.
    fn tests_begin(&self) -> usize {
        if !self.path.starts_with("src/") || self.path.ends_with("tests.rs") {
            return 0;
        }
        let begin = self.code.find("#[cfg(test)]");
        begin.unwrap_or(self.code.len())
    }
}

fn rust_files(folders: &[&str]) -> Vec<RustFile> {
    let mut waiting: Vec<PathBuf> = folders.iter().map(PathBuf::from).collect();
    let mut files = Vec::new();
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            let entries = std::fs::read_dir(&path).unwrap();
            waiting.extend(entries.map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(RustFile::new(&path));
        }
    }
    assert!(
        !files.is_empty(),
        "no Rust files in {folders:?}: run from the package's folder"
    );
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

fn ours() -> Vec<RustFile> {
    rust_files(&["src", "tests", "benches"])
}

fn none(findings: &[String]) {
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

/// The same text, character by character, with blanks for comments and for what stands inside of
/// strings and character literals. Line breaks stay.
fn blank_out(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = skipped_length(rest, out.chars().next_back());
        if length == 0 {
            out.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let (skipped, after) = rest.split_at(length);
        out.extend(skipped.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        rest = after;
    }
    out
}

/// How many bytes at the start of `rest` are a comment or a literal; 0 when it is code.
fn skipped_length(rest: &str, before: Option<char>) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return block_comment_length(rest);
    }
    let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if !in_word {
        let prefix = rest
            .find(|c: char| !matches!(c, 'b' | 'c' | 'r'))
            .unwrap_or(0);
        let (letters, after) = rest.split_at(prefix.min(2));
        if letters.ends_with('r') && after.starts_with(['"', '#']) {
            let marks = after.find(|c| c != '#').unwrap_or(0);
            if after[marks..].starts_with('"') {
                let close = format!("\"{}", "#".repeat(marks));
                let inside = &after[marks + 1..];
                let end = inside
                    .find(&close)
                    .map_or(inside.len(), |at| at + close.len());
                return letters.len() + marks + 1 + end;
            }
        }
    }
    match rest.chars().next() {
        Some('"') => escaped_length(rest, '"'),
        Some('\'') => {
            let mut after = rest.chars().skip(1);
            match (after.next(), after.next()) {
                (Some('\\'), _) | (Some(_), Some('\'')) => escaped_length(rest, '\''),
                _ => 0,
            }
        }
        _ => 0,
    }
}

fn block_comment_length(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        let here = &rest[at..];
        if here.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += here.chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

fn escaped_length(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Every place where `name` stands as a path of its own: not a part of a longer word, and not
/// behind another path (`store::sled::` is ours, `sled::` and `::sled::` are the crate).
fn places_of(code: &str, name: &str) -> Vec<usize> {
    code.match_indices(name)
        .map(|(at, _)| at)
        .filter(|at| {
            let before = &code[..*at];
            let owner = before.strip_suffix("::").unwrap_or("");
            let after = &code[at + name.len()..];
            let in_word = before.ends_with(is_word)
                || (name.ends_with(is_word) && after.starts_with(is_word));
            !in_word && !owner.ends_with(is_word)
        })
        .collect()
}

fn word_at(code: &str) -> &str {
    &code[..code.find(|c| !is_word(c)).unwrap_or(code.len())]
}

/// The first names after every `crate::`, groups in braces taken apart.
fn uses(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for at in places_of(code, "crate::") {
        let start = at + "crate::".len();
        let Some(group) = code[start..].strip_prefix('{') else {
            found.push((at, word_at(&code[start..]).to_owned()));
            continue;
        };
        let mut depth = 1;
        let mut expects_name = true;
        for (offset, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => expects_name = true,
                c if is_word(c) && expects_name => {
                    let at = start + 1 + offset;
                    found.push((at, word_at(&group[offset..]).to_owned()));
                    expects_name = false;
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    found
}

/// The end of the block that opens at or after `from`: the offset behind its `}`. `None` when a
/// `;` comes first.
fn block_end(code: &str, from: usize) -> Option<usize> {
    let mut nested = 0;
    let mut braces = 0;
    for (offset, c) in code[from..].char_indices() {
        match c {
            '(' | '[' => nested += 1,
            ')' | ']' => nested -= 1,
            ';' if nested == 0 && braces == 0 => return None,
            '{' if braces > 0 || nested == 0 => braces += 1,
            '}' if braces > 0 => {
                braces -= 1;
                if braces == 0 {
                    return Some(from + offset + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// Every function with a body: its offset, its name, and how many lines it has.
fn functions(code: &str) -> Vec<(usize, &str, usize)> {
    let mut found = Vec::new();
    for at in places_of(code, "fn ") {
        let name = word_at(code[at + 3..].trim_start());
        if let (false, Some(end)) = (name.is_empty(), block_end(code, at)) {
            found.push((at, name, code[at..end].matches('\n').count() + 1));
        }
    }
    found
}

/// How many modules of the file's own enclose an offset.
fn inner_modules(code: &str, offset: usize) -> usize {
    let begins = places_of(code, "mod ").into_iter();
    begins
        .filter(|at| *at < offset)
        .filter(|at| block_end(code, *at).is_some_and(|end| end > offset))
        .count()
}

#[test]
fn everybody_uses_only_whom_they_may() {
    let mut findings = Vec::new();
    for file in rust_files(&["src"]) {
        let modules = file.module();
        let module = modules[0];
        if module == "lib" || module == "main" {
            continue;
        }
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == module) else {
            findings.push(format!(
                "{}:1: module `{module}` is not in the table: add it to LAYERS in tests/tidy.rs \
                 with the modules it may use, and to the house in ARCHITECTURE.md",
                file.path
            ));
            continue;
        };
        for (at, used) in uses(&file.code) {
            if used == module {
                continue;
            }
            let place = file.at(at);
            let summit = SUMMITS.iter().find(|(name, _)| *name == used);
            if summit.is_some_and(|(_, users)| !users.contains(&module)) {
                findings.push(format!(
                    "{place}: `{module}` uses `{used}`, which nobody below it may use: move what \
                     is needed down to where both can see it"
                ));
            } else if !allowed.contains(&used.as_str()) && *allowed != ["*"] {
                findings.push(format!(
                    "{place}: `{module}` uses `{used}`; it may use {allowed:?}: pass what it needs \
                     as an argument, or change LAYERS in tests/tidy.rs and say why"
                ));
            }
        }
    }
    none(&findings);
}

#[test]
fn nobody_climbs_to_the_root_by_super() {
    let mut findings = Vec::new();
    for file in rust_files(&["src"]) {
        let depth = match file.module()[0] {
            "lib" | "main" => 0,
            _ => file.module().len(),
        };
        for at in places_of(&file.code, "super::") {
            let rest = &file.code[at..];
            let steps = (1..)
                .take_while(|n| rest.starts_with(&"super::".repeat(*n)))
                .count();
            if steps >= depth + inner_modules(&file.code, at) {
                findings.push(format!(
                    "{}: `super` climbs to the crate's root: write `crate::`, so that the layers \
                     can be checked",
                    file.at(at)
                ));
            }
        }
    }
    none(&findings);
}

#[test]
fn files_and_functions_fit_on_a_page() {
    let mut findings = Vec::new();
    for file in ours() {
        let lines = file.text.lines().count();
        if lines > FILE_LINES_MAX {
            findings.push(format!(
                "{}:{FILE_LINES_MAX}: {lines} lines, {FILE_LINES_MAX} are allowed: move a part \
                 that stands on its own into a file of its own",
                file.path
            ));
        }
        for (at, name, lines) in functions(&file.code) {
            if lines > FUNCTION_LINES_MAX {
                findings.push(format!(
                    "{}: `{name}` has {lines} lines, {FUNCTION_LINES_MAX} are allowed: give a \
                     step of it a name",
                    file.at(at)
                ));
            }
        }
        for (index, line) in file.text.lines().enumerate() {
            let columns = line.chars().count();
            if columns > COLUMNS_MAX {
                findings.push(format!(
                    "{}:{}: {columns} columns, {COLUMNS_MAX} are allowed: break the line",
                    file.path,
                    index + 1
                ));
            }
        }
    }
    none(&findings);
}

#[test]
fn names_say_what_is_inside() {
    let mut findings = Vec::new();
    for file in rust_files(&["src"]) {
        for name in file.module() {
            if BANNED_NAMES.contains(&name) {
                findings.push(format!(
                    "{}:1: `{name}` says nothing: name the module for what it is about",
                    file.path
                ));
            }
        }
    }
    none(&findings);
}

#[test]
fn some_things_are_named_in_one_place_only() {
    let mut findings = Vec::new();
    for file in rust_files(&["src"]) {
        for (name, home, instead) in ONLY_IN {
            if file.path == *home {
                continue;
            }
            for at in named(&file.code[..file.tests_begin()], name) {
                findings.push(format!(
                    "{}: `{name}` is named in {home} only: {instead}",
                    file.at(at)
                ));
            }
        }
        if !UNSAFE_FILES.contains(&file.path.as_str()) {
            for at in places_of(&file.code, "unsafe") {
                findings.push(format!(
                    "{}: `unsafe` outside of {UNSAFE_FILES:?}: find a safe way, or list the file \
                     in tests/tidy.rs with a reason",
                    file.at(at)
                ));
            }
        }
    }
    none(&findings);
}

/// A type's function may be named through any path, a crate only at the path's beginning.
fn named(code: &str, name: &str) -> Vec<usize> {
    match name.starts_with(char::is_uppercase) {
        true => code.match_indices(name).map(|(at, _)| at).collect(),
        false => places_of(code, name),
    }
}

#[test]
fn tests_neither_sleep_nor_hide() {
    let mut findings = Vec::new();
    for file in ours() {
        for at in named(&file.code, "todo!") {
            let place = file.at(at);
            findings.push(format!("{place}: `todo!`: do it, or leave the feature out"));
        }
        for (at, _) in file.code.match_indices("&& let ") {
            let place = file.at(at);
            findings.push(format!(
                "{place}: `if … && let`: Rust 1.85 has not got it; nest them"
            ));
        }
        for (at, _) in file.code.match_indices("#[ignore") {
            let place = file.at(at);
            findings.push(format!("{place}: an ignored test: mend it or remove it"));
        }
        for (at, _) in file.code.match_indices("thread::sleep") {
            // Helpers that poll with a deadline live in one place, and everybody waits with them.
            if at >= file.tests_begin() && !file.path.starts_with("tests/common/") {
                findings.push(format!(
                    "{}: a sleeping test: wait for the event itself, with a deadline \
                     (`recv_timeout`, `wait_timeout`)",
                    file.at(at)
                ));
            }
        }
    }
    none(&findings);
}

#[test]
fn every_decision_is_linked() {
    let (Ok(architecture), Ok(entries)) = (
        std::fs::read_to_string("ARCHITECTURE.md"),
        std::fs::read_dir("docs/decisions"),
    ) else {
        return;
    };
    let mut findings = Vec::new();
    for entry in entries {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let link = format!("docs/decisions/{name}");
        if name.ends_with(".md") && !architecture.contains(&link) {
            findings.push(format!("{link}:1: not linked: name it in ARCHITECTURE.md"));
        }
    }
    none(&findings);
}

#[test]
fn the_layers_have_no_circle() {
    let mut settled: BTreeSet<&str> = SUMMITS.iter().map(|(name, _)| *name).collect();
    loop {
        let before = settled.len();
        for (name, used) in LAYERS {
            if used
                .iter()
                .all(|used| *used == "*" || settled.contains(used))
            {
                settled.insert(name);
            }
        }
        if settled.len() == before {
            break;
        }
    }
    let open: Vec<&str> = LAYERS
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| !settled.contains(name))
        .collect();
    assert!(
        open.is_empty(),
        "these use each other, or a module not in LAYERS: {open:?}"
    );
}

#[test]
fn the_scanner_reads_rust() {
    let code = r###"
use crate::{event::{Row, Value}, config};
// crate::no
/* crate::no /* crate::no */ crate::no */
const A: &str = "crate::no \" crate::no";
const B: &str = r#"crate::no " crate::no"#;
const C: char = '"'; const D: char = '\''; const E: &[u8] = br"crate::no";
fn long<'a>(x: &'a str, f: fn(u8) -> u8) -> crate::sql::Plan { let y = '{'; if x { } y }
fn none(_: [u8; 3]);
mod tests { fn a() { super::long(); crate::store::sled::open(); sled::open(); ::sled::x(); } }
"###;
    let blanked = blank_out(code);
    assert_eq!(blanked.lines().count(), code.lines().count());
    let names: Vec<String> = uses(&blanked).into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["event", "config", "sql", "store"]);
    let mut found = String::new();
    for (_, name, lines) in functions(&blanked) {
        let _ = write!(found, "{name} {lines}, ");
    }
    assert_eq!(found, "long 1, a 1, ");
    assert_eq!(places_of(&blanked, "sled::").len(), 2);
    let inside = blanked.find("super::").unwrap();
    assert_eq!(inner_modules(&blanked, inside), 1);
}
