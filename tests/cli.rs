//! The program as somebody types it: what it says, and with which code it ends.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn eventflux(arguments: &[&str], folder: &Path, input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_eventflux"))
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    child.wait_with_output().unwrap()
}

fn said(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (
        output.status.code().unwrap(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

const SQL: &str = "\
CREATE STREAM S (k STRING, v INT) WITH ('type' = 'source', 'extension' = 'mqtt', 'format' = 'json',
  'mqtt.broker' = 'mqtt://localhost:1883', 'mqtt.topic' = 'in', 'mqtt.password' = 'hush',
  'mqtt.username' = 'me');
INSERT INTO Out SELECT k, sum(v) AS s FROM S WINDOW('tumbling', 1 SECOND) GROUP BY k;
";

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

#[test]
fn help_teaches_and_lists_the_exit_codes() {
    let folder = folder(&[]);
    let (code, out, _) = said(&eventflux(&["--help"], folder.path(), ""));
    assert_eq!(code, 0);
    for part in [
        "eventflux check",
        "eventflux run",
        "Exit codes:",
        "3  the configuration",
    ] {
        assert!(out.contains(part), "{part} is missing in\n{out}");
    }
    let (code, _, err) = said(&eventflux(&["chekc", "x"], folder.path(), ""));
    assert_eq!(code, 2);
    assert!(err.contains("check"), "{err}");
}

#[test]
fn check_shows_every_fault_and_starts_nothing() {
    let folder = folder(&[
        (
            "app.toml",
            "[application]\nsql = [\"a.sql\", \"b.sql\"]\n[store]\npath = \"state\"\n",
        ),
        (
            "a.sql",
            "CREATE STREAM S (v INT) WITH ('type' = 'source', 'extension' = 'mqqt');\n",
        ),
        (
            "b.sql",
            "INSERT INTO Out SELECT w FROM S;\nINSERT INTO Out2 SELECT v FROM T;\n",
        ),
    ]);
    let (code, out, err) = said(&eventflux(&["check", "app.toml"], folder.path(), ""));
    assert_eq!((code, out.as_str()), (3, ""));
    for part in [
        "unknown source 'extension' 'mqqt'",
        "b.sql:1:24: error: unknown column 'w' in stream 'S'",
        "b.sql:2:32: error: unknown stream 'T'",
        "INSERT INTO Out SELECT w FROM S;",
        "3 errors; nothing was started",
    ] {
        assert!(err.contains(part), "{part} is missing in\n{err}");
    }
    assert!(!folder.path().join("state").exists());
    let (code, _, err) = said(&eventflux(&["run", "app.toml"], folder.path(), ""));
    assert_eq!(code, 3, "{err}");
    assert!(!folder.path().join("state").exists());
}

#[test]
fn what_is_right_is_checked_explained_and_listed_without_secrets() {
    let folder = folder(&[("app.sql", SQL)]);
    let (code, out, err) = said(&eventflux(&["check", "app.sql"], folder.path(), ""));
    assert_eq!(code, 0, "{err}");
    assert!(
        out.contains("2 streams (1 sources, 0 sinks), 1 queries"),
        "{out}"
    );
    let (code, out, _) = said(&eventflux(&["explain", "app.sql"], folder.path(), ""));
    assert_eq!(code, 0);
    assert!(out.contains("window tumbling 1 s"), "{out}");
    let (code, out, _) = said(&eventflux(
        &["config", "list", "app.sql"],
        folder.path(),
        "",
    ));
    assert_eq!(code, 0);
    assert!(out.contains("mqtt.topic = [\"in\"]"), "{out}");
    assert!(!out.contains("hush"), "{out}");
}

#[test]
fn check_warns_of_what_is_right_but_perhaps_not_meant() {
    let sql = "CREATE STREAM A (x INT);\nCREATE STREAM B (x INT);\n\
               INSERT INTO O SELECT A.x FROM A JOIN B ON A.x = B.x;\n";
    let folder = folder(&[("a.sql", sql)]);
    let (code, out, err) = said(&eventflux(&["check", "a.sql"], folder.path(), ""));
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("all right"), "{out}");
    let warning = "a.sql:3:1: warning: no side of this join has a window";
    assert!(err.contains(warning), "{err}");
}

/// The documentation shows what is shown.
#[test]
fn the_documented_plan_is_the_one_that_explain_gives() {
    let path = "docs/sql.md";
    let text = std::fs::read_to_string(path).unwrap();
    let (before, section) = text.split_once("## What explain shows\n").unwrap();
    let (head, rest) = section.split_once("```sql\n").unwrap();
    let (sql, rest) = rest.split_once("```\n").unwrap();
    let (middle, rest) = rest.split_once("```text\n").unwrap();
    let (shown, rest) = rest.split_once("```\n").unwrap();
    let folder = folder(&[("app.sql", sql)]);
    let (code, out, err) = said(&eventflux(&["explain", "app.sql"], folder.path(), ""));
    assert_eq!((code, err.as_str()), (0, ""));
    if std::env::var_os("EVENTFLUX_BLESS").is_some() {
        let text = format!(
            "{before}## What explain shows\n{head}```sql\n{sql}```\n{middle}```text\n{out}```\n\
             {rest}"
        );
        std::fs::write(path, text).unwrap();
        return;
    }
    assert_eq!(out, shown, "EVENTFLUX_BLESS=1 writes it anew");
}

#[test]
fn replay_runs_recorded_events_on_virtual_time() {
    let folder = folder(&[("app.sql", SQL)]);
    let input = "\
{\"stream\":\"S\",\"ts\":100,\"event\":{\"k\":\"a\",\"v\":1}}
{\"stream\":\"S\",\"ts\":900,\"event\":{\"k\":\"a\",\"v\":2}}

{\"advance_to\":5000}
";
    let arguments = ["replay", "app.sql", "--input", "-"];
    let (code, out, err) = said(&eventflux(&arguments, folder.path(), input));
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(
        out,
        "{\"stream\":\"Out\",\"ts\":1000,\"event\":{\"k\":\"a\",\"s\":3}}\n"
    );
    let wrong = "{\"stream\":\"S\",\"ts\":100,\"event\":{\"k\":1}}\n";
    let (code, _, err) = said(&eventflux(&arguments, folder.path(), wrong));
    assert_eq!(code, 1);
    assert!(err.contains(":1: wrong_type"), "{err}");
}

#[test]
fn test_ends_with_the_counts_and_with_1_when_a_case_fails() {
    let good = "CREATE STREAM S (a INT);\nINSERT INTO Out SELECT a FROM S;\n---- input\n\
                1 S {\"a\": 1}\n---- expect\nOut {\"a\": 1}\n";
    let bad = good.replace("Out {\"a\": 1}", "Out {\"a\": 2}");
    let folder = folder(&[("good.case", good), ("bad.case", &bad)]);
    let (code, out, _) = said(&eventflux(&["test", "good.case"], folder.path(), ""));
    assert_eq!((code, out.as_str()), (0, "1 passed, 0 failed\n"));
    let (code, out, _) = said(&eventflux(&["test", "."], folder.path(), ""));
    assert_eq!(code, 1);
    assert!(out.contains("FAILED ./bad.case:1"), "{out}");
    assert!(out.ends_with("1 passed, 1 failed\n"), "{out}");
}

#[test]
fn further_files_hold_over_the_first_and_may_stand_alone() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (base, site) = (
        "config/examples/plant.toml",
        "config/examples/site-north.toml",
    );
    let both = [base, "--config", site];
    let (code, out, err) = said(&eventflux(&[&["check"], &both[..]].concat(), here, ""));
    assert_eq!((code, err.as_str()), (0, ""));
    let right = format!("{base}, {site}: 2 streams (1 sources, 1 sinks), 1 queries: all right\n");
    assert_eq!(out, right);

    let list = [&["config", "list"], &both[..]].concat();
    let (code, out, _) = said(&eventflux(&list, here, ""));
    assert_eq!(code, 0);
    let url = "streams.Alerts.http.url = \"https://central.example/north/alerts\"";
    assert!(
        out.contains(&format!("{url}  # stream, {site}:12\n")),
        "{out}"
    );
    assert!(out.contains("idle_timeout = \"10 min\"  # stream, config/examples/plant.toml:"));
    let alone = ["config", "list", "--config", base, "--config", site];
    assert_eq!(said(&eventflux(&alone, here, "")), (0, out, String::new()));

    let json = [&["config", "list", "--json"], &both[..]].concat();
    let (code, out, _) = said(&eventflux(&json, here, ""));
    assert_eq!(code, 0);
    let objects = out.lines().map(|line| serde_json::from_str(line).unwrap());
    let objects: Vec<serde_json::Value> = objects.collect();
    let find = |name: &str| {
        objects
            .iter()
            .find(|object| object["name"] == name)
            .unwrap()
    };
    let expected = serde_json::json!({
        "name": "store.path", "value": "/media/ssd/eventflux", "secret": false, "layer": "file",
        "file": site, "line": 4, "column": 8,
    });
    assert_eq!(find("store.path"), &expected);
    assert_eq!(find("checkpoint.keep")["value"], 2);
    assert_eq!(find("streams.Alerts.outbox.ttl")["value"], "7 d");

    let (code, _, err) = said(&eventflux(&["check"], here, ""));
    assert_eq!(code, 2, "{err}");
    let (code, _, err) = said(&eventflux(
        &["check", base, "--config", "none.toml"],
        here,
        "",
    ));
    assert_eq!(code, 3);
    assert!(
        err.contains("none.toml: error: cannot read 'none.toml'"),
        "{err}"
    );
}

#[test]
fn connectors_and_the_schema_are_told_by_the_program() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (code, out, _) = said(&eventflux(&["connectors"], here, ""));
    assert_eq!(code, 0);
    assert!(out.contains("Sources: `mqtt`"), "{out}");
    let (code, out, _) = said(&eventflux(&["connectors", "mqtt"], here, ""));
    assert_eq!(code, 0);
    for part in [
        "As a source:",
        "As a sink:",
        "| `mqtt.topic` | ",
        " | required | ",
    ] {
        assert!(out.contains(part), "{part} is missing in\n{out}");
    }
    let (code, out, err) = said(&eventflux(&["connectors", "mqqt"], here, ""));
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("did you mean 'mqtt'?"), "{err}");
    let (code, out, _) = said(&eventflux(&["config", "schema"], here, ""));
    assert_eq!(code, 0);
    let schema: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        schema["$schema"],
        "https://json-schema.org/draft/2020-12/schema"
    );
}

/// What `make run` shows, but with events of our own and without the broker.
#[cfg(feature = "broker")]
#[test]
fn the_quickstart_is_right_and_finds_what_it_should() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (code, out, err) = said(&eventflux(&["check", "config/quickstart.toml"], here, ""));
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("(1 sources, 3 sinks)"), "{out}");
    let input = "\
{\"stream\":\"Readings\",\"ts\":1000,\"event\":{\"device\":\"p\",\"temperature\":79.5}}
{\"stream\":\"Readings\",\"ts\":2000,\"event\":{\"device\":\"p\",\"temperature\":90.5}}
{\"advance_to\":5000}
";
    let arguments = ["replay", "config/quickstart.toml", "--input", "-"];
    let (code, out, err) = said(&eventflux(&arguments, here, input));
    assert_eq!(code, 0, "{err}");
    let alert = "{\"device\":\"p\",\"temperature\":90.5,\"verdict\":\"stop it\"}";
    let climate = "{\"device\":\"p\",\"average\":85.0,\"hottest\":90.5,\"readings\":2}";
    assert_eq!(
        out,
        format!(
            "{{\"stream\":\"Alerts\",\"ts\":2000,\"event\":{alert}}}\n\
             {{\"stream\":\"Shown\",\"ts\":2000,\"event\":{alert}}}\n\
             {{\"stream\":\"Climate\",\"ts\":5000,\"event\":{climate}}}\n"
        )
    );
}
