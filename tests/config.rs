//! Every bad configuration in `tests/config/` beside its exact messages, the configuration as
//! shipped, and the reference as generated.
//!
//! `EVENTFLUX_BLESS=1 cargo test --test config` writes what is produced over what is expected;
//! read the difference before you commit it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails says where"
)]

#[path = "config/control.rs"]
mod control;
#[path = "config/pages.rs"]
mod pages;
#[path = "config/remote.rs"]
mod remote;
#[path = "config/schema.rs"]
mod schema;
#[path = "config/secrets.rs"]
mod secrets;
#[path = "config/together.rs"]
mod together;

use std::path::{Path, PathBuf};

use eventflux::config::options::Options;
use eventflux::config::{self, Durability, Environment, Loaded};
use proptest::prelude::*;

const ENVIRONMENT: Environment<'static> = &|name| (name == "PLANT").then(|| "north".to_owned());

/// Compares with a file, or writes it when told to.
fn compare(path: &Path, produced: &str) {
    if std::env::var_os("EVENTFLUX_BLESS").is_some() {
        std::fs::write(path, produced).unwrap();
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    let path = path.display();
    assert_eq!(
        produced, expected,
        "{path} is stale; run: EVENTFLUX_BLESS=1 cargo test --test config"
    );
}

fn bad_files() -> Vec<PathBuf> {
    let entries = std::fs::read_dir("tests/config").unwrap();
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    paths.sort();
    paths
}

#[test]
fn every_bad_file_gets_its_messages() {
    let paths = bad_files();
    assert!(paths.len() >= 7, "the bad files are not where they belong");
    for path in paths {
        let other_build = match cfg!(feature = "broker") {
            true => "no-broker.toml",
            false => "with-broker.toml",
        };
        if path.ends_with(other_build) {
            continue;
        }
        let failure = config::load(&path, ENVIRONMENT).expect_err("a bad file");
        compare(&path.with_extension("txt"), &failure.to_string());
    }
}

#[test]
fn the_file_as_shipped_says_what_is_built_in() {
    let path = Path::new("config/eventflux.toml");
    let shipped = config::load(path, ENVIRONMENT).unwrap();
    let mut built_in = config::read("", "x", Path::new("config"), ENVIRONMENT).unwrap();
    built_in.settings.path = shipped.settings.path.clone();
    built_in.settings.files = shipped.settings.files.clone();
    built_in.settings.application.options = shipped.settings.application.options.clone();
    built_in.settings.control.options = shipped.settings.control.options.clone();
    assert_eq!(shipped.settings, built_in.settings);

    let text = std::fs::read_to_string(path).unwrap();
    let switched_on: String = text
        .lines()
        .map(|line| line.strip_prefix("#: ").unwrap_or(line))
        .map(|line| format!("{line}\n"))
        .collect();
    let with_everything = config::read(&switched_on, "x", Path::new("config"), ENVIRONMENT);
    let with_everything = with_everything.unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(with_everything.settings.store, built_in.settings.store);
    assert_eq!(with_everything.settings.outbox, built_in.settings.outbox);
    for key in config::keys::KEYS {
        let (section, name) = key.name.split_once('.').unwrap();
        let demo = ["broker", "simulator"].contains(&section);
        let line = format!("#: {name} = ");
        assert!(
            demo || text.contains(&line),
            "{} is not in {path:?}",
            key.name
        );
    }
}

#[test]
fn the_reference_is_fresh() {
    let path = Path::new("docs/config.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (begin, end) = ("<!-- generated -->\n", "<!-- /generated -->");
    let (before, rest) = page
        .split_once(begin)
        .expect("the mark before the reference");
    let (_, after) = rest.split_once(end).expect("the mark after the reference");
    let reference = eventflux::daemon::catalogue::reference();
    compare(path, &format!("{before}{begin}{reference}{end}{after}"));
}

fn load_with(toml: &str, files: &[(&str, &str)]) -> (tempfile::TempDir, Loaded) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let path = folder.path().join("e.toml");
    std::fs::write(&path, toml).unwrap();
    let loaded = config::load(&path, ENVIRONMENT).unwrap_or_else(|failure| panic!("{failure}"));
    (folder, loaded)
}

#[test]
fn sql_comes_from_files_beside_the_configuration() {
    let files = [("a b.sql", "one"), ("north.sql", "two")];
    let toml = "[application]\nsql = [\"a b.sql\", \"${PLANT}.sql\"]\n";
    let (folder, loaded) = load_with(toml, &files);
    let texts: Vec<&str> = loaded
        .settings
        .application
        .sql
        .iter()
        .map(|sql| sql.text.as_str())
        .collect();
    assert_eq!(texts, ["one", "two"]);
    for sql in &loaded.settings.application.sql {
        assert_eq!(loaded.texts.get(&sql.path), Some(&sql.text));
        assert!(Path::new(&sql.path).starts_with(folder.path()));
    }
}

#[test]
fn inline_sql_keeps_its_line_and_column() {
    let toml = "[application]\nname = \"x\"\nsql = \"\"\"\n  SELECT a;\n  SELECT ${b};\"\"\"\n";
    let (_folder, loaded) = load_with(toml, &[]);
    let [sql] = loaded.settings.application.sql.as_slice() else {
        panic!("one text");
    };
    assert_eq!(sql.text, "\n\n\n  SELECT a;\n  SELECT ${b};");
    assert_eq!(sql.path, loaded.settings.path);

    let (_folder, loaded) = load_with("[application]\nsql = \"SELECT 'ä' AS b;\"\n", &[]);
    let [sql] = loaded.settings.application.sql.as_slice() else {
        panic!("one text");
    };
    assert_eq!(sql.text, "\n       SELECT 'ä' AS b;");

    let (_folder, loaded) = load_with("[application]\nsql = \"SELECT \\\"a\\\";\"\n", &[]);
    let [sql] = loaded.settings.application.sql.as_slice() else {
        panic!("one text");
    };
    assert_eq!(
        (sql.path.as_str(), sql.text.as_str()),
        ("inline SQL 1", "SELECT \"a\";")
    );
    assert_eq!(loaded.texts.get("inline SQL 1"), Some(&sql.text));
}

#[test]
fn a_sql_file_alone_is_an_application() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("quick.sql");
    std::fs::write(&path, "SELECT 1;").unwrap();
    let loaded = config::load(&path, ENVIRONMENT).unwrap();
    assert_eq!(loaded.warnings, []);
    assert_eq!(
        loaded.settings.store.durability,
        Durability::Interval { ms: 5 }
    );
    assert_eq!(loaded.settings.store.path, Path::new("/var/lib/eventflux"));
    let [sql] = loaded.settings.application.sql.as_slice() else {
        panic!("one text");
    };
    assert_eq!(sql.text, "SELECT 1;");
    assert_eq!(loaded.texts.get(&sql.path), Some(&sql.text));
}

#[test]
fn values_come_in_every_spelling() {
    let toml = "[application]\nsql = \"x;\"\n\
        [store]\npath = \"s/${PLANT}\"\ncache_bytes = 2097152\n\
        durability = \"always\"\nsync_interval = 7\n\
        [checkpoint]\ninterval = \"1 MINUTE 30 SECONDS\"\nkeep = \"3\"\n\
        [outbox]\nbytes_max = \"1 MB\"\n";
    let (folder, loaded) = load_with(toml, &[]);
    let settings = &loaded.settings;
    assert_eq!(settings.store.path, folder.path().join("s/north"));
    assert_eq!(settings.store.cache_bytes, 2 << 20);
    assert_eq!(settings.store.durability, Durability::Always);
    assert_eq!(settings.checkpoint.interval_ms, Some(90_000));
    assert_eq!(settings.checkpoint.keep, 3);
    assert_eq!(settings.outbox.bytes_max, 1_000_000);
    let warnings: Vec<&str> = loaded
        .warnings
        .iter()
        .map(|found| found.message.as_str())
        .collect();
    assert_eq!(
        warnings,
        ["'store.sync_interval' has no effect with 'store.durability' = 'always'"]
    );
}

#[test]
fn the_list_tells_every_value_and_its_layer() {
    let toml = "[application]\nsql = \"x;\"\n[store]\ncache_bytes = 2097152\n\
        path = \"/${PLANT}\"\n[streams.S]\nmqtt.password = \"${secret:where}\"\n";
    let folder = tempfile::tempdir().unwrap();
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(folder.path(), private).unwrap();
    std::fs::write(folder.path().join("where"), "hunter2").unwrap();
    let environment = |name: &str| match name {
        "CREDENTIALS_DIRECTORY" => Some(folder.path().display().to_string()),
        name => ENVIRONMENT(name),
    };
    let loaded = config::read(toml, "e.toml", Path::new("/etc"), &environment).unwrap();
    let listed = config::list(&loaded.settings, &[], &Options::default());
    let listed: Vec<String> = listed.iter().map(ToString::to_string).collect();
    let beginning = [
        "application.name = \"eventflux\"  # default",
        "application.sql = \"e.toml\"  # file, e.toml:2",
        "application.state_policy = \"keep_compatible\"  # default",
        "application.on_fail = \"continue\"  # default",
        "store.path = \"/north\"  # file, e.toml:5",
        "store.cache_bytes = \"2 MiB\"  # file, e.toml:4",
        "store.durability = \"interval\"  # default",
    ];
    assert_eq!(listed[..beginning.len()], beginning);
    assert!(!format!("{loaded:?}").contains("hunter2"), "{loaded:?}");

    let toml = "[store]\npath = \"${secret:where}\"\n";
    let failure = config::read(toml, "e.toml", Path::new("/etc"), &environment).unwrap_err();
    let expected = "e.toml:2:8: error: 'store.path' cannot be a secret, as it is shown\n \
        2 | path = \"${secret:where}\"\n   |        ^^^^^^^^^^^^^^^^^\n   \
        = write the value itself, or use ${VAR}\n";
    assert_eq!(failure.to_string(), expected);
}

#[test]
fn a_missing_file_is_said_in_a_sentence() {
    let failure = config::load(Path::new("tests/config/none"), ENVIRONMENT).unwrap_err();
    let expected = "tests/config/none: error: cannot read 'tests/config/none': \
        No such file or directory (os error 2)\n";
    assert_eq!(failure.to_string(), expected);
}

proptest! {
    /// Whatever is in a configuration, it is read or refused.
    #[test]
    fn no_text_brings_the_reader_down(
        lines in prop::collection::vec(
            prop_oneof![
                Just("[application]".to_owned()),
                Just("[store]".to_owned()),
                Just("[streams.S]".to_owned()),
                Just("sql = \"\"\"\nSELECT '${X}';\"\"\"".to_owned()),
                "[a-z]{1,6}(\\.[a-z]{1,5}){0,2} = [\\[\"$\\{\\}0-9a-z\\]]{0,12}",
                "\\PC{0,20}",
            ],
            0..12,
        )
    ) {
        let text = lines.join("\n");
        if let Err(failure) = config::read(&text, "x", Path::new("tests"), ENVIRONMENT) {
            prop_assert!(!failure.to_string().is_empty());
        }
    }
}
