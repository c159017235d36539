//! A document from afar over the local files: what it may say, what it may not, and where each
//! value comes from.

use std::path::{Path, PathBuf};

use eventflux::config;
use eventflux::daemon::{Document, Failure, Prepared, fingerprint, prepare_all, prepare_document};
use eventflux::diagnostic::Severity;

const LOCAL: &str = "\
[application]
sql = 7
unknown.option = 1
[nonsense]
x = 1
[streams.None]
y = 1
[store]
path = \"state\"
pth = \"x\"
[secrets]
path = \"secrets\"
[control]
mode = \"unsigned\"
node = \"pump-7\"
mqtt.broker = \"mqtt://fleet\"
mqtt.username = \"u\"
mqtt.password = \"hunter2\"
[security]
trusted_path = \"keys\"
";

const SQL: &str = "CREATE STREAM S (a INT) WITH ('type' = 'source', 'extension' = 'mqtt', \
    'mqtt.broker' = 'mqtt://data', 'mqtt.topic' = 't'); INSERT INTO T SELECT a FROM S;";

/// A folder with a local file, its SQL and a secret.
fn folder(local: &str) -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("local.toml"), local).unwrap();
    std::fs::write(path("app.sql"), SQL).unwrap();
    std::fs::create_dir(path("secrets")).unwrap();
    std::fs::write(path("secrets/s"), "geheim").unwrap();
    let private = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(path("secrets/s"), private).unwrap();
    folder
}

fn over(folder: &Path, text: &str) -> Result<Prepared, Failure> {
    let document = Document {
        name: "desired.toml".to_owned(),
        text: text.to_owned(),
    };
    let environment = |name: &str| (name == "STATE").then(|| "state".to_owned());
    prepare_document(&[folder.join("local.toml")], &document, &environment)
}

fn right(folder: &Path, text: &str) -> Prepared {
    over(folder, text).unwrap_or_else(|failure| panic!("{text}: {failure}"))
}

/// `line:column: message` of every fault, without the folder.
fn faults(folder: &Path, text: &str) -> (Vec<String>, bool) {
    let Err(failure) = over(folder, text) else {
        panic!("it is right: {text}");
    };
    let errors = failure.diagnostics.iter();
    let errors = errors.filter(|found| found.severity == Severity::Error);
    let shown = errors.map(|found| {
        let place = found.place.map(|place| (place.line, place.column));
        let (line, column) = place.unwrap_or_default();
        let shown = format!("{}:{line}:{column}: {}", found.path, found.message);
        shown.replace(&format!("{}/", folder.display()), "")
    });
    (shown.collect(), failure.is_local_only)
}

#[test]
fn a_document_holds_but_for_what_is_local() {
    let folder = folder(LOCAL);
    let document = "[application]\nsql = \"app.sql\"\n[outbox]\nttl = \"1 h\"\n\
        [streams.S]\nmqtt.username = \"v\"\nmqtt.password = \"${secret:s}\"\n";
    let prepared = right(folder.path(), document);
    let settings = &prepared.settings;
    assert_eq!(settings.store.path, folder.path().join("state"));
    assert_eq!(settings.security.trusted_path, folder.path().join("keys"));
    assert_eq!(settings.control.node.as_deref(), Some("pump-7"));
    assert_eq!(settings.outbox.ttl_ms, Some(3_600_000));
    assert_eq!(prepared.control.text("mqtt.password"), Some("hunter2"));
    let streams = prepared.options.iter();
    let streams: Vec<_> = streams.map(|(name, of)| (name.as_str(), of)).collect();
    assert_eq!(prepared.options["S"].text("mqtt.password"), Some("geheim"));
    assert!(!prepared.moves_control);
    let listed = config::list(settings, &streams, &prepared.control);
    let listed: Vec<String> = listed.iter().map(ToString::to_string).collect();
    let local = folder.path().join("local.toml");
    let local = local.display();
    for line in [
        "outbox.ttl = \"1 h\"  # file, desired.toml:4".to_owned(),
        "streams.S.mqtt.username = \"v\"  # stream, desired.toml:6".to_owned(),
        format!("control.node = \"pump-7\"  # file, {local}:15"),
        format!("control.mqtt.broker = [\"mqtt://fleet\"]  # file, {local}:16"),
        format!("store.path = \"state\"  # file, {local}:9"),
    ] {
        assert!(listed.contains(&line), "{line} is not in {listed:#?}");
    }
}

#[test]
fn what_is_local_may_be_repeated_and_not_changed() {
    let folder = folder(LOCAL);
    let begin = "[application]\nsql = \"app.sql\"\n";
    let absolute = format!("[store]\npath = \"{}/state\"\n", folder.path().display());
    let same = [
        "[control]\nmode = \"unsigned\"\nroot = \"eventflux\"\nmqtt.keep_alive = 30000\n",
        "[store]\npath = \"${STATE}\"\ncache_bytes = \"2 MiB\"\n",
        &absolute,
        "[secrets]\npath = \"secrets\"\n[security]\ntrusted_path = \"./keys\"\n",
        "[control.mqtt]\nbroker = [\"mqtt://fleet\"]\nusername = \"u\"\n",
    ];
    for document in same {
        let prepared = right(folder.path(), &format!("{begin}{document}"));
        assert_eq!(prepared.settings.control.node.as_deref(), Some("pump-7"));
    }
    let other = [
        ("[control]\nmode = \"signed\"\n", "4:8: 'control.mode'"),
        (
            "[control]\nmetrics_interval = 0\n",
            "4:20: 'control.metrics_interval'",
        ),
        (
            "[control]\nallow_remote = \"endpoint\"\n",
            "4:16: 'control.allow_remote'",
        ),
        (
            "[control.mqtt]\nbroker = \"mqtt://evil\"\n",
            "4:10: 'control.mqtt.broker'",
        ),
        (
            "[control]\nmqtt.version = \"5\"\n",
            "4:16: 'control.mqtt.version'",
        ),
        (
            "[security]\ntrusted_path = \"mine\"\n",
            "4:16: 'security.trusted_path'",
        ),
        ("[store]\npath = \"elsewhere\"\n", "4:8: 'store.path'"),
        ("[secrets]\npath = \"elsewhere\"\n", "4:8: 'secrets.path'"),
    ];
    for (document, what) in other {
        let (found, is_local_only) = faults(folder.path(), &format!("{begin}{document}"));
        let said =
            format!("desired.toml:{what} is for the local file alone, which says something else");
        assert_eq!(found, [said]);
        assert!(is_local_only, "{document}");
    }
    let (_, is_local_only) = faults(folder.path(), "[application]\nsql = \"none.sql\"\n");
    assert!(!is_local_only);
}

#[cfg(feature = "broker")]
#[test]
fn no_document_switches_something_on_that_listens() {
    let begin = "[application]\nsql = \"app.sql\"\n";
    let with = |table: &str| format!("{begin}[{table}]\n");
    let without = folder(LOCAL);
    for table in ["broker", "simulator"] {
        let (found, is_local_only) = faults(without.path(), &with(table));
        let said = format!(
            "desired.toml:3:2: [{table}] is for the local file alone, which says something else"
        );
        assert_eq!((found, is_local_only), (vec![said], true));
        let on = folder(&format!("{LOCAL}[{table}]\n"));
        right(on.path(), &with(table));
        right(on.path(), begin);
    }
}

#[test]
fn the_connection_may_move_where_that_is_allowed() {
    let local = LOCAL.replace("[control]\n", "[control]\nallow_remote = \"endpoint\"\n");
    let folder = folder(&local);
    let begin = "[application]\nsql = \"app.sql\"\n[control]\n";
    let moved = right(
        folder.path(),
        &format!("{begin}mqtt.broker = \"mqtt://new\"\n"),
    );
    assert!(moved.moves_control);
    assert_eq!(moved.control.list("mqtt.broker"), ["mqtt://new"]);
    assert_eq!(moved.control.text("mqtt.password"), Some("hunter2"));
    let same = right(
        folder.path(),
        &format!("{begin}mqtt.broker = \"mqtt://fleet\"\n"),
    );
    assert!(!same.moves_control);
    let (found, is_local_only) = faults(folder.path(), &format!("{begin}root = \"x\"\n"));
    assert_eq!((found.len(), is_local_only), (1, true), "{found:?}");
}

#[test]
fn secrets_do_not_travel() {
    let folder = folder(LOCAL);
    let begin = "[application]\n";
    let secret = "must not be written into a document";
    let sql = "sql = \"\"\"CREATE STREAM S (a INT) WITH ('type' = 'source', 'extension' = 'mqtt',
  'mqtt.broker' = 'mqtt://data', 'mqtt.topic' = 't', 'mqtt.username' = 'u',
  'mqtt.password' = 'hunter3');\"\"\"\n";
    let table = [
        (
            "sql = \"app.sql\"\n[streams.S]\nmqtt.username = \"v\"\nmqtt.password = \"hunter3\"\n",
            "5:17: 'mqtt.password'",
        ),
        (
            "sql = \"app.sql\"\nmqtt.username = \"v\"\nmqtt.password = \"${NONE:hunter3}\"\n",
            "4:17: 'mqtt.password'",
        ),
        (sql, "4:21: 'mqtt.password'"),
    ];
    for (document, what) in table {
        let (found, is_local_only) = faults(folder.path(), &format!("{begin}{document}"));
        assert_eq!(found, [format!("desired.toml:{what} {secret}")]);
        assert!(!is_local_only);
        let failure = over(folder.path(), &format!("{begin}{document}")).unwrap_err();
        assert!(!failure.to_string().contains("hunter3"), "{failure}");
    }
    let references = sql.replace("hunter3", "${secret:s}");
    right(folder.path(), &format!("{begin}{references}"));
}

#[test]
fn whatever_is_shown_of_a_text_hides_its_secrets() {
    let sql = SQL.replace(
        "'t')",
        "'t', 'mqtt.username' = 'u', 'mqtt.password' = 'swordfish')",
    );
    let folder = folder(LOCAL);
    std::fs::write(folder.path().join("app.sql"), sql).unwrap();
    let document = "[application]\nsql = \"app.sql\" # not swordfish\n[outbox]\nttl = 0\n";
    let prepared = right(folder.path(), document);
    let shown = prepared.redacted("desired.toml").unwrap();
    assert_eq!(shown, document.replace("swordfish", "[hidden]"));
    let path = |name: &str| folder.path().join(name).display().to_string();
    let sql = prepared.redacted(&path("app.sql")).unwrap();
    assert!(
        sql.contains("'mqtt.username' = 'u', 'mqtt.password' = '[hidden]')"),
        "{sql}"
    );
    let local = prepared.redacted(&path("local.toml")).unwrap();
    assert_eq!(local, LOCAL.replace("hunter2", "[hidden]"));
    assert_eq!(prepared.redacted("none"), None);
    let shown = format!("{:?}{prepared:?}", prepared.shown);
    assert!(
        !shown.contains("swordfish") && !shown.contains("hunter2"),
        "{shown}"
    );
    let (found, _) = faults(
        folder.path(),
        "[control]\nnode = \"swordfish\"\n\"hunter2\" = 1\n",
    );
    assert!(found.len() > 1, "{found:?}");
    let shown = format!("{found:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn what_the_local_file_says_must_be_readable() {
    let document = "[application]\nsql = \"app.sql\"\n";
    let broken = folder("[control\nmode = \"off\"\n");
    let (found, _) = faults(broken.path(), document);
    assert!(
        found[0].starts_with("local.toml:1:9: this is not TOML"),
        "{found:?}"
    );
    let wrong = folder("[control]\nmode = \"of\"\n[store]\ncache_bytes = -1\n");
    let (found, is_local_only) = faults(wrong.path(), document);
    assert_eq!(found.len(), 1);
    assert!(
        found[0].starts_with("local.toml:2:8: 'control.mode' must be"),
        "{found:?}"
    );
    assert!(!is_local_only);
    std::fs::remove_file(wrong.path().join("local.toml")).unwrap();
    let (found, _) = faults(wrong.path(), document);
    assert!(found[0].contains("cannot read"), "{found:?}");
    let application = Document {
        name: "desired.toml".to_owned(),
        text: document.to_owned(),
    };
    let prepared = prepare_document(&[wrong.path().join("app.sql")], &application, &|_| None);
    let prepared = prepared.unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(
        prepared.settings.store.path,
        Path::new("/var/lib/eventflux")
    );
}

#[test]
fn whoever_changes_a_file_changes_the_fingerprint() {
    let local = "[application]\nsql = \"app.sql\"\n[store]\npath = \"state\"\n";
    let folder = folder(local);
    let paths: [PathBuf; 1] = [folder.path().join("local.toml")];
    let now = || fingerprint(&prepare_all(&paths, &|_| None).unwrap().texts);
    let first = now();
    assert!(first.len() == 64 && first.bytes().all(|byte| byte.is_ascii_hexdigit()));
    assert_eq!(first, now());
    std::fs::write(folder.path().join("app.sql"), format!("{SQL} ")).unwrap();
    let second = now();
    std::fs::write(&paths[0], format!("{local} ")).unwrap();
    let third = now();
    assert!(first != second && second != third && first != third);
    std::fs::write(&paths[0], local).unwrap();
    std::fs::write(folder.path().join("app.sql"), SQL).unwrap();
    assert_eq!(first, now());
}
