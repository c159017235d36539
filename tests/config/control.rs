//! `[control]` and `[security]`: everything that is wrong with them is told before anything runs.

use std::path::Path;

use eventflux::config::{AllowRemote, ControlMode, HIDDEN};
use eventflux::daemon::{Failure, Prepared, prepare};
use eventflux::diagnostic::Severity;

const NOTHING: &str = "CREATE STREAM S (a INT); INSERT INTO T SELECT a FROM S;";

fn prepared(control: &str) -> (tempfile::TempDir, Result<Prepared, Failure>) {
    let folder = tempfile::tempdir().unwrap();
    let toml = format!("[application]\nsql = \"{NOTHING}\"\n{control}");
    let path = folder.path().join("e.toml");
    std::fs::write(&path, toml).unwrap();
    let prepared = prepare(&path, &|_| None);
    (folder, prepared)
}

/// What is said, without the excerpts: `line:column: message = hint`.
fn said(folder: &Path, control: &str) -> Vec<String> {
    let path = folder.join("e.toml");
    let toml = format!("[application]\nsql = \"{NOTHING}\"\n{control}");
    std::fs::write(&path, toml).unwrap();
    let found = match prepare(&path, &|_| None) {
        Ok(prepared) => prepared.warnings,
        Err(failure) => failure.diagnostics,
    };
    let lines = found.iter().map(|found| {
        let place = found.place.unwrap();
        let word = match found.severity {
            Severity::Error => "",
            Severity::Warning => "warning: ",
        };
        let hint = found.hint.as_deref().unwrap_or("");
        let (line, column, message) = (place.line, place.column, &found.message);
        let shown = format!("{line}:{column}: {word}{message} = {hint}");
        shown.replace(&folder.display().to_string(), "FOLDER")
    });
    lines.collect()
}

#[test]
fn what_is_wrong_with_the_connection_has_its_place_and_its_hint() {
    let folder = tempfile::tempdir().unwrap();
    let table: [(&str, &[&str]); 9] = [
        ("", &[]),
        (
            "[control]\nmode = \"off\"\n[security]\ntrusted_path = \"none\"\n",
            &[],
        ),
        (
            "[control]\nmqtt.brokr = \"mqtt://a\"\n",
            &["4:6: unknown option 'mqtt.brokr' of [control] = did you mean 'mqtt.broker'?"],
        ),
        (
            "[control]\nallow_remot = \"never\"\n",
            &["4:1: unknown option 'allow_remot' of [control] = did you mean 'allow_remote'?"],
        ),
        (
            "[control]\nmode = \"monitor\"\n",
            &["3:2: [control] needs the option 'mqtt.broker' = \
               write it under [control]: Where the broker listens: mqtt:"],
        ),
        (
            "[control]\nmode = \"monitor\"\nmqtt.broker = \"localhost\"\n",
            &["5:15: 'mqtt.broker' of [control]: `localhost` is not a URL"],
        ),
        (
            "[control]\nmode = \"monitor\"\n[control.mqtt]\nbroker = \"mqtt://a\"\n\
             tls.alpn = \"x\"\nkeep_alive = 1\n",
            &["8:14: 'mqtt.keep_alive' must be a span of time such as '5 s' from 1 s"],
        ),
        (
            "[control]\nmode = \"monitor\"\nmqtt.broker = \"mqtt://a\"\nmqtt.tls.alpn = \"x\"\n",
            &[
                "6:17: 'mqtt.tls.alpn' of [control]: the broker is spoken to without TLS: \
               write mqtts:// in mqtt.broker",
            ],
        ),
        (
            "[control]\nmode = \"monitor\"\nmqtt.broker = \"mqtt://a\"\nmqtt.will.topic = \"x\"\n",
            &[
                "6:11: unknown option 'mqtt.will.topic' of [control] = it knows mode, root, node, \
               groups, max_bytes, metrics",
            ],
        ),
    ];
    for (control, expected) in table {
        let said = said(folder.path(), control);
        let mut pairs = said.iter().zip(expected);
        let begin_so = pairs.all(|(said, beginning)| said.starts_with(beginning));
        assert!(
            begin_so && said.len() == expected.len(),
            "{control}: {said:#?}"
        );
    }
}

#[test]
fn whoever_is_not_trusted_is_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let control = "[control]\nmode = \"unsigned\"\nmqtt.broker = \"mqtt://a\"\n";
    let unsigned = said(folder.path(), control);
    let [warning] = unsigned.as_slice() else {
        panic!("{unsigned:?}");
    };
    assert!(
        warning.starts_with("4:8: warning: whoever may publish to the broker may change"),
        "{warning}"
    );
    let control = "[control]\nmode = \"signed\"\nmqtt.broker = \"mqtt://a\"\n\
                   [security]\ntrusted_path = \"keys\"\n";
    let nobody = "4:8: warning: nobody is trusted, so that no document is accepted: there is no \
                  key in 'FOLDER/keys' = put public keys there as *.pub, or name another folder \
                  in [security]: trusted_path = \"…\"";
    assert_eq!(said(folder.path(), control), [nobody]);
    let keys = folder.path().join("keys");
    std::fs::create_dir(&keys).unwrap();
    std::fs::write(keys.join("ops.key"), "").unwrap();
    assert_eq!(said(folder.path(), control), [nobody]);
    std::fs::write(keys.join("ops.pub"), "").unwrap();
    assert_eq!(said(folder.path(), control), [] as [&str; 0]);
}

#[test]
fn what_is_written_is_what_holds() {
    let control = "[control]\nmode = \"validate\"\nroot = \"site/flux\"\nnode = \"pump-7\"\n\
        groups = [\"pumps\", \"north\"]\nmax_bytes = \"64 KiB\"\nmetrics_interval = 0\n\
        allow_remote = \"endpoint\"\npublish_active = true\nhome_assistant = true\n\
        error_ratio_max = 1\nmqtt.broker = \"mqtt://a\"\nmqtt.username = \"u\"\n\
        mqtt.password = \"hunter2\"\n";
    let (folder, prepared) = prepared(control);
    let prepared = prepared.unwrap_or_else(|failure| panic!("{failure}"));
    let settings = &prepared.settings.control;
    assert_eq!(settings.mode, ControlMode::Validate);
    assert_eq!(settings.root, "site/flux");
    assert_eq!(settings.node.as_deref(), Some("pump-7"));
    assert_eq!(settings.groups, ["pumps", "north"]);
    assert_eq!(settings.bytes_max, 64 << 10);
    assert_eq!(settings.metrics_interval_ms, None);
    assert_eq!(settings.allow_remote, AllowRemote::Endpoint);
    assert!(settings.publish_active);
    assert_eq!(settings.discovery.as_deref(), Some("homeassistant"));
    assert!((settings.error_ratio_max - 1.0).abs() < f64::EPSILON);
    assert_eq!(prepared.control.text("mqtt.password"), Some("hunter2"));
    assert_eq!(prepared.control.integer("mqtt.keep_alive"), Some(30_000));
    let trusted = &prepared.settings.security.trusted_path;
    assert_eq!(trusted, Path::new("/etc/eventflux/trusted.d"));

    let listed = eventflux::config::list(&prepared.settings, &[], &prepared.control);
    let listed: Vec<String> = listed.iter().map(ToString::to_string).collect();
    let path = folder.path().join("e.toml");
    let path = path.display();
    for line in [
        format!("control.mode = \"validate\"  # file, {path}:4"),
        format!("control.mqtt.broker = [\"mqtt://a\"]  # file, {path}:14"),
        format!("control.mqtt.password = {HIDDEN}  # file, {path}:16"),
        "control.mqtt.keep_alive = \"30 s\"  # default".to_owned(),
        "security.trusted_path = \"/etc/eventflux/trusted.d\"  # default".to_owned(),
    ] {
        assert!(listed.contains(&line), "{line} is not in {listed:#?}");
    }
    let all = format!("{listed:?}");
    assert!(!all.contains("hunter2"), "{all}");
}

#[test]
fn nothing_of_the_application_holds_for_the_connection() {
    let (_folder, prepared) = prepared(
        "mqtt.broker = \"mqtt://data\"\nmqtt.username = \"u\"\n\
         [control]\nmode = \"monitor\"\nmqtt.broker = \"mqtt://a\"\n",
    );
    let prepared = prepared.unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(prepared.control.list("mqtt.broker"), ["mqtt://a"]);
    assert!(!prepared.control.has("mqtt.username"));
}
