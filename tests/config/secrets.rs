//! A secret is shown nowhere: not by a command, not in a message about it, not in what Rust prints
//! of a structure.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use eventflux::config::options::OptionValue;
use eventflux::daemon::prepare;

/// Some letters of it alone tell nothing; all of them together stand nowhere else.
const SECRET: &str = "xQ7-hunter2-Zk9";
/// As much of it must not be read anywhere either.
const PIECES: [&str; 4] = ["xQ7-", "hunt", "nter2", "-Zk9"];

fn folder(toml: &str, sql: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let secrets = folder.path().join("secrets");
    std::fs::create_dir(&secrets).unwrap();
    for (name, text) in [("s", SECRET), ("url", &format!("mqtt://u:{SECRET}@h:x"))] {
        let path = secrets.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let toml = format!(
        "[application]\nsql = \"app.sql\"\n[secrets]\npath = \"secrets\"\n\
         [store]\npath = \"state\"\n{toml}"
    );
    std::fs::write(folder.path().join("app.toml"), toml).unwrap();
    std::fs::write(folder.path().join("app.sql"), sql).unwrap();
    folder
}

const SQL: &str = "\
CREATE STREAM In (a STRING, t STRING) WITH ('type' = 'source', 'extension' = 'mqtt',
  'format' = 'json');
CREATE STREAM Posted (a STRING) WITH ('type' = 'sink', 'extension' = 'http', 'format' = 'json',
  'http.header.Authorization' = 'Bearer ${secret:s}');
CREATE STREAM Sent (a STRING) WITH ('type' = 'sink', 'extension' = 'mqtt', 'format' = 'json',
  'mqtt.broker' = 'mqtt://localhost:1883');
INSERT INTO Posted SELECT a FROM In;
INSERT INTO Sent SELECT a FROM In;
";

/// Every option that is set, and right.
const RIGHT: &str = "\
[streams.In]
mqtt.broker = \"mqtt://localhost:1883\"
mqtt.topic = \"in/${secret:s}\"
mqtt.client_id = \"${secret:s}\"
mqtt.username = \"u\"
mqtt.password = \"${secret:s}\"
[streams.Posted]
http.url = \"http://localhost:1/${secret:s}\"
[streams.Sent]
mqtt.topic = \"out/${secret:s}\"
mqtt.username = \"u${secret:s}\"
mqtt.password = \"${secret:s}\"
";

fn tells_nothing(what: &str, shown: &str) {
    for piece in PIECES {
        assert!(!shown.contains(piece), "{what} shows the secret:\n{shown}");
    }
}

/// What the commands say; none of them starts anything.
fn commands(folder: &Path) -> Vec<(String, String, i32)> {
    let commands = [
        "check app.toml",
        "config list app.toml",
        "config list --json app.toml",
        "explain app.toml",
        "restore app.toml --at 1 --dry-run",
        "inspect ls --config app.toml",
    ];
    let run = |line: &&str| {
        let output = Command::new(env!("CARGO_BIN_EXE_eventflux"))
            .args(line.split(' '))
            .current_dir(folder)
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8(said).unwrap();
        ((*line).to_owned(), said, output.status.code().unwrap())
    };
    commands.iter().map(run).collect()
}

#[test]
fn nothing_shows_a_secret_that_is_used() {
    let folder = folder(RIGHT, SQL);
    for (command, said, code) in commands(folder.path()) {
        let expected = match command.split(' ').next() {
            Some("restore" | "inspect") => 4,
            _ => 0,
        };
        assert_eq!(code, expected, "{command}: {said}");
        tells_nothing(&command, &said);
        if command.starts_with("config list app") {
            assert!(
                said.contains("streams.In.mqtt.topic = [hidden]  # stream"),
                "{said}"
            );
        }
        if command.contains("--json") {
            assert!(said.contains("\"secret\":true,\"value\":null"), "{said}");
        }
    }
    let prepared = prepare(&folder.path().join("app.toml"), &|_| None);
    let prepared = prepared.unwrap_or_else(|failure| panic!("{failure}"));
    tells_nothing("Debug", &format!("{prepared:?}"));
    let options = ["In", "Posted", "Sent"].map(|name| &prepared.options[name]);
    let values = options.iter().flat_map(|options| options.iter());
    let holds = |value: &OptionValue| match value {
        OptionValue::Text(text) => text.contains(SECRET),
        OptionValue::List(texts) => texts.iter().any(|text| text.contains(SECRET)),
        OptionValue::Integer(_) | OptionValue::Flag(_) | OptionValue::Number(_) => false,
    };
    let used = values.filter(|(_, value, _)| holds(value)).count();
    assert_eq!(
        used, 8,
        "the test must not pass because nothing is a secret"
    );
}

#[test]
fn no_message_shows_a_secret_that_cannot_be_used() {
    let wrong = [
        "[streams.In]\nmqtt.qos = \"${secret:s}\"",
        "[streams.In]\nmqtt.keep_alive = \"${secret:s}\"",
        "[streams.In]\nmqtt.retained = \"${secret:s}\"",
        "[streams.In]\nmqtt.broker = \"${secret:s}\"",
        "[streams.In]\nmqtt.broker = \"${secret:url}\"",
        "[streams.In]\nmqtt.broker = \"mqtt://${secret:s}:port\"",
        "[streams.In]\nmqtt.topic = \"a/#/${secret:s}\"",
        "[streams.In]\nmqtt.topic = [\"a\", \"#/${secret:s}\"]",
        "[streams.In]\nmqtt.topic.column = \"${secret:s}\"",
        "[streams.In]\njson.mapping.a = \"$.[${secret:s}\"",
        "[streams.In]\ntimestamp.field = \"${secret:s}\"",
        "[streams.In]\ntimestamp.field = \"t\"\ntimestamp.format = \"%${secret:s}\"",
        "[streams.In]\nerror.dlq.stream = \"${secret:s}\"\nerror.strategy = \"dlq\"",
        "[streams.In]\n${secret:s} = 1",
        "[streams.Posted]\nhttp.url = \"${secret:s}\"",
        "[streams.Posted]\noutbox.ttl = \"${secret:s}\"",
        "[streams.Posted]\noutbox.dead_letter = \"${secret:s}\"",
        "[log]\nlevel = \"${secret:s}\"",
        "[shutdown]\ndeadline = \"${secret:s}\"",
    ];
    for toml in wrong {
        let folder = folder(toml, SQL);
        let path = folder.path().join("app.toml");
        let failure = prepare(&path, &|_| None).expect_err(toml);
        tells_nothing(toml, &failure.to_string());
        tells_nothing(toml, &format!("{failure:?}"));
    }
    let folder = folder(&wrong[..8].join("\n").replace("[streams.In]\n", "#"), SQL);
    for (command, said, code) in commands(folder.path()) {
        assert_eq!(code, 3, "{command}: {said}");
        tells_nothing(&command, &said);
    }
}
