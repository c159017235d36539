//! What the pages say works as they say it: every block of SQL and TOML in them passes
//! `eventflux check`, and so does every example in `config/`.
//!
//! A block that shows only a part is completed with what its page leaves out: the streams of
//! [`COMMON`] that it reads or writes and does not define, a broker, and the secrets it names. One
//! that is no whole statement by design has the line `<!-- fragment -->` before it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const FRAGMENT: &str = "<!-- fragment -->";

/// How many fragments the pages may have: a page that shows whole statements can be copied.
const FRAGMENTS_MAX: usize = 8;

/// Streams that pages talk about without defining them, each with its columns.
const COMMON: &[(&str, &str)] = &[
    (
        "Readings",
        "device STRING, line STRING, temp DOUBLE, temperature DOUBLE, ts BIGINT",
    ),
    ("Orders", "id BIGINT, product STRING, amount INT"),
    ("Prices", "product STRING, price DOUBLE"),
    ("Announcements", "id STRING, line STRING, ts BIGINT"),
    ("Goodbyes", "id STRING"),
    ("Ack", "id STRING"),
    ("Ask", "line STRING"),
    (
        "Bad",
        "originalEvent STRING, errorMessage STRING, errorType STRING, timestamp BIGINT, \
         attemptCount INT, streamName STRING",
    ),
];

struct Block {
    page: String,
    line: usize,
    language: String,
    text: String,
    fragment: bool,
}

fn blocks(page: &Path) -> Vec<Block> {
    let text = std::fs::read_to_string(page).unwrap();
    let mut found: Vec<Block> = Vec::new();
    let mut open = false;
    let mut before = "";
    for (number, line) in text.lines().enumerate() {
        if open {
            match line.starts_with("```") {
                true => open = false,
                false => writeln!(found.last_mut().unwrap().text, "{line}").unwrap(),
            }
        } else if let Some(language) = line.strip_prefix("```") {
            open = true;
            found.push(Block {
                page: page.display().to_string(),
                line: number + 1,
                language: language.to_owned(),
                text: String::new(),
                fragment: before == FRAGMENT,
            });
        }
        before = line;
    }
    assert!(!open, "{}: a block has no end", page.display());
    found.retain(|block| block.language == "sql" || block.language == "toml");
    found
}

fn pages() -> Vec<PathBuf> {
    let mut pages: Vec<PathBuf> = vec!["README.md".into()];
    for folder in ["docs", "docs/connectors"] {
        let entries = std::fs::read_dir(folder).unwrap();
        pages.extend(entries.map(|entry| entry.unwrap().path()));
    }
    pages.retain(|page| page.extension().is_some_and(|extension| extension == "md"));
    pages.sort();
    pages
}

/// The names between `${secret:` and `}`.
fn secrets(text: &str) -> impl Iterator<Item = &str> {
    let parts = text.split("${secret:").skip(1);
    parts.map(|part| part.split_once('}').unwrap().0)
}

fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
        .any(|other| other == word)
}

/// The streams that `sql` talks about and does not define.
fn missing(sql: &str) -> String {
    let mut streams = String::new();
    for (name, columns) in COMMON {
        let defined = sql.contains(&format!("CREATE STREAM {name} "));
        if has_word(sql, name) && !defined {
            writeln!(streams, "CREATE STREAM {name} ({columns});").unwrap();
        }
    }
    streams
}

/// The streams that the tables `[streams.…]` of `toml` are for.
fn configured(toml: &str) -> String {
    let mut streams = String::new();
    let tables = toml
        .lines()
        .filter_map(|line| line.strip_prefix("[streams."));
    for name in tables.map(|table| table.split_once(']').unwrap().0) {
        let kind = match name {
            "Readings" => "'type' = 'source', 'extension' = 'mqtt'",
            _ => "'type' = 'sink', 'extension' = 'http', 'http.url' = 'http://127.0.0.1/'",
        };
        writeln!(
            streams,
            "CREATE STREAM {name} (device STRING, temp DOUBLE) WITH ({kind});"
        )
        .unwrap();
    }
    streams
}

/// Writes the block as an application of its own and gives its configuration.
fn complete(block: &Block, folder: &Path) -> PathBuf {
    let private = std::fs::Permissions::from_mode(0o600);
    for name in secrets(&block.text) {
        let path = folder.join(name);
        std::fs::write(&path, "hush\n").unwrap();
        std::fs::set_permissions(&path, private.clone()).unwrap();
    }
    let config = folder.join("app.toml");
    let surroundings = |sql: &str| {
        let broker = match sql.contains("'mqtt'") && !sql.contains("'mqtt.broker'") {
            true => "mqtt.broker = \"mqtt://localhost:1883\"\n",
            false => "",
        };
        format!("[application]\nsql = \"app.sql\"\n{broker}[secrets]\npath = \".\"\n")
    };
    if block.language == "sql" {
        std::fs::write(&config, surroundings(&block.text)).unwrap();
        // Behind what the page shows, so that the lines of a fault are those of the block.
        let sql = format!("{}{}", block.text, missing(&block.text));
        std::fs::write(folder.join("app.sql"), sql).unwrap();
        return config;
    }
    // The block may have an [application] of its own: it is the second file, over ours.
    std::fs::write(folder.join("block.toml"), &block.text).unwrap();
    let sql = configured(&block.text) + "CREATE STREAM Unused (device STRING);\n";
    for name in ["app.sql", "streams.sql"] {
        std::fs::write(folder.join(name), &sql).unwrap();
    }
    std::fs::write(
        folder.join("alerts.sql"),
        "CREATE STREAM More (device STRING);\n",
    )
    .unwrap();
    let broker = "mqtt.broker = \"mqtt://localhost:1883\"\nmqtt.topic = \"in\"\n";
    let text = format!("[application]\nsql = \"app.sql\"\n{broker}[secrets]\npath = \".\"\n");
    std::fs::write(&config, text).unwrap();
    config
}

/// What `check` says against it, or nothing.
fn refused(arguments: &[&Path], folder: &Path) -> Option<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_eventflux"))
        .arg("check")
        .args(arguments)
        .current_dir(folder)
        .env_remove("CREDENTIALS_DIRECTORY")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    (!output.status.success()).then_some(said)
}

#[test]
fn every_block_of_the_pages_passes_check() {
    let mut faults = String::new();
    let (mut checked, mut fragments) = (0, 0);
    for block in pages().iter().flat_map(|page| blocks(page)) {
        if block.fragment {
            fragments += 1;
            continue;
        }
        checked += 1;
        let folder = tempfile::tempdir().unwrap();
        let config = complete(&block, folder.path());
        let second = folder.path().join("block.toml");
        let arguments: &[&Path] = match block.language.as_str() {
            "sql" => &[&config],
            _ => &[&config, Path::new("--config"), &second],
        };
        if let Some(said) = refused(arguments, folder.path()) {
            writeln!(faults, "{}:{}\n{said}", block.page, block.line).unwrap();
        }
    }
    assert!(faults.is_empty(), "blocks that do not work:\n{faults}");
    assert!(checked > 30, "only {checked} blocks were found");
    assert!(
        fragments <= FRAGMENTS_MAX,
        "{fragments} blocks are fragments; show whole statements where you can"
    );
}

/// A second file that holds over a first one, which is checked with it.
const OVER: &[(&str, &str)] = &[(
    "config/examples/site-north.toml",
    "config/examples/plant.toml",
)];

#[test]
fn every_example_passes_check() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut checked = 0;
    for entry in std::fs::read_dir("config/examples").unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let over = OVER.iter().find(|(second, _)| Path::new(second) == path);
        let folder = tempfile::tempdir().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let secret = Block {
            page: String::new(),
            line: 0,
            language: "toml".to_owned(),
            text: text.clone(),
            fragment: false,
        };
        complete(&secret, folder.path());
        // Only where secrets are looked up is the test's own.
        let places = folder.path().join("places.toml");
        let here_secrets = format!("[secrets]\npath = '{}'\n", folder.path().display());
        std::fs::write(&places, here_secrets).unwrap();
        let flag = Path::new("--config");
        let said = match over {
            Some((_, first)) => refused(&[Path::new(first), flag, &path, flag, &places], here),
            None => refused(&[&path, flag, &places], here),
        };
        assert_eq!(said, None, "{}", path.display());
        checked += 1;
    }
    assert!(checked >= 5, "only {checked} examples were found");
}
