//! What a build lacks is refused when it is asked for, by the name of the feature that has it; and
//! what it has is not.
//!
//! Holds for every build: `make features` runs it for one without any feature, too.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::path::Path;
use std::process::Command;

/// A connector: as what, its name, its feature, and whether this build has that.
type Connector = (&'static str, &'static str, &'static str, bool);

const CONNECTORS: [Connector; 10] = [
    ("source", "mqtt", "mqtt", cfg!(feature = "mqtt")),
    ("sink", "mqtt", "mqtt", cfg!(feature = "mqtt")),
    ("source", "serial", "serial", cfg!(feature = "serial")),
    ("sink", "serial", "serial", cfg!(feature = "serial")),
    ("source", "modbus", "serial", cfg!(feature = "serial")),
    ("source", "http", "http", cfg!(feature = "http")),
    ("source", "http_poll", "http", cfg!(feature = "http")),
    ("sink", "http", "http", cfg!(feature = "http")),
    ("source", "file", "file", cfg!(feature = "file")),
    ("sink", "file", "file", cfg!(feature = "file")),
];

/// What `eventflux check` says about this SQL, and whether it was content.
fn check(sql: &str) -> (String, bool) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sql");
    std::fs::write(&path, sql).unwrap();
    said(&["check", path.to_str().unwrap()], folder.path())
}

fn said(arguments: &[&str], folder: &Path) -> (String, bool) {
    let output = Command::new(env!("CARGO_BIN_EXE_eventflux"))
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (String::from_utf8(text).unwrap(), output.status.success())
}

#[test]
fn a_connector_that_is_not_built_in_is_refused_by_name() {
    for (role, name, feature, is_there) in CONNECTORS {
        let sql =
            format!("CREATE STREAM S (v DOUBLE) WITH ('type' = '{role}', 'extension' = '{name}');");
        let (said, _) = check(&sql);
        let refusal = format!("this build has no {role} 'extension' '{name}'");
        let hint = format!("use one with the feature `{feature}`");
        assert_eq!(said.contains(&refusal), !is_there, "{said}");
        assert_eq!(said.contains(&hint), !is_there, "{said}");
        assert!(!said.contains("unknown"), "{said}");
    }
}

#[test]
fn connectors_lists_what_there_is_and_what_is_lacking() {
    let (said, is_content) = said(&["connectors"], Path::new("."));
    assert!(is_content, "{said}");
    for (role, name, feature, is_there) in CONNECTORS {
        let lacking = format!("{role} `{name}` (feature `{feature}`)");
        assert_eq!(said.contains(&lacking), !is_there, "{said}");
        let heading = match role {
            "source" => "Sources: ",
            _ => "Sinks: ",
        };
        let line = said.lines().find_map(|line| line.strip_prefix(heading));
        let mut names = line.unwrap().split(", ");
        assert_eq!(names.any(|listed| listed == format!("`{name}`")), is_there);
    }
    let has_tls = cfg!(feature = "tls");
    assert_eq!(said.contains("TLS (feature `tls`)"), !has_tls, "{said}");
}

#[test]
fn tls_that_is_not_built_in_is_refused() {
    let sql = |options: &str| {
        format!(
            "CREATE STREAM S (v DOUBLE) WITH ('type' = 'source', 'extension' = 'tcp', \
             'tcp.connect' = 'host:1', {options});"
        )
    };
    let (said, is_content) = check(&sql("'tcp.tls' = 'false'"));
    assert!(is_content, "{said}");
    for asked in [
        "'tcp.tls' = 'true'",
        "'tcp.tls' = 'true', 'tcp.tls.server_name' = 'other'",
    ] {
        let (said, is_content) = check(&sql(asked));
        assert_eq!(is_content, cfg!(feature = "tls"), "{said}");
        assert_eq!(
            said.contains("this build has no TLS: use one with the feature `tls`"),
            !is_content,
            "{said}"
        );
    }
}
