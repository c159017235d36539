//! `eventflux control` as somebody types it, against a real broker. The node is a stand-in that
//! reads envelopes and answers as the contract says.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;

use crate::client::{Client, Packet, Version};
use crate::mosquitto::Mosquitto;
use eventflux::control::envelope::{self, Demand, Desired, Rules};
use eventflux::control::keys::{SigningKey, Trusted};
use eventflux::control::{Scope, request};
use serde_json::{Value, json};

const DOCUMENT: &str = "[application]\nname = \"pump\"\nsql = \"CREATE STREAM S (v INT);\"\n";

/// A folder with a key and a document.
struct Desk {
    folder: tempfile::TempDir,
    key: SigningKey,
}

/// How a command ended, and what it said: exit code, standard output, standard error.
type Said = (i32, String, String);

impl Desk {
    fn new() -> Desk {
        let folder = tempfile::tempdir().unwrap();
        let key = SigningKey::generate().unwrap();
        key.write(&folder.path().join("ops.pem")).unwrap();
        key.write_public(&folder.path().join("ops.pub")).unwrap();
        std::fs::write(folder.path().join("pump.toml"), DOCUMENT).unwrap();
        Desk { folder, key }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn run(&self, arguments: &[&str]) -> Said {
        said(&self.command(arguments).output().unwrap())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_eventflux"));
        command.arg("control").args(arguments);
        command.current_dir(self.path()).stdin(Stdio::null());
        command
    }

    /// Pushes the document, signed, to the node `pump-7`.
    fn push(&self, broker: &Mosquitto, more: &[&str]) -> Said {
        let (url, key) = (broker.url(), ["--key", "ops.pem"]);
        let to = ["push", "pump.toml", "--broker", &url, "--node", "pump-7"];
        self.run(&[to.as_slice(), &key, more].concat())
    }

    fn trusted(&self) -> Trusted {
        let mut trusted = Trusted::default();
        trusted.add(self.key.public());
        trusted
    }
}

fn said(output: &Output) -> Said {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let code = output.status.code().unwrap();
    (code, text(&output.stdout), text(&output.stderr))
}

/// Publishes a message that the broker keeps.
fn keep(port: u16, topic: &str, payload: &Value) {
    let mut child = Command::new("mosquitto_pub")
        .args(["-p", &port.to_string(), "-q", "1", "-r", "-s", "-t", topic])
        .stdin(Stdio::piped())
        .spawn()
        .expect("mosquitto_pub is installed");
    let text = payload.to_string();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    assert!(child.wait().unwrap().success());
}

/// Hears what comes to a topic, in a thread of its own.
struct Ear {
    port: u16,
    id: String,
    thread: Option<JoinHandle<()>>,
}

impl Ear {
    /// Subscribed when it returns.
    fn new(port: u16, filter: &str, mut heard: impl FnMut(&[u8]) + Send + 'static) -> Ear {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let id = format!("ear-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let mut client = connect(port, &id).unwrap();
        client.subscribe(filter).unwrap();
        let thread = std::thread::spawn(move || {
            // Until somebody else takes its name.
            while let Ok(packet) = client.next() {
                if let Some(Packet::Publish(publish)) = packet {
                    heard(&publish.payload);
                    let _ = client.acknowledge(publish.packet);
                }
            }
        });
        Ear {
            port,
            id,
            thread: Some(thread),
        }
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        let usurper = connect(self.port, &self.id);
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking(), "an ear failed");
        drop(usurper);
    }
}

fn connect(port: u16, id: &str) -> std::io::Result<Client> {
    Client::connect(port, id, Version::V311, false, crate::wait::DEADLINE)
}

const DESIRED: &str = "eventflux/v1/pump-7/config/desired";
const REPORTED: &str = "eventflux/v1/pump-7/config/reported";

/// A node that reports, of each document, what `answer` makes of it: status, phase and the rest.
fn node(desk: &Desk, port: u16, answer: impl Fn(&Desired) -> Vec<Value> + Send + 'static) -> Ear {
    let trusted = desk.trusted();
    Ear::new(port, DESIRED, move |payload| {
        if payload.is_empty() {
            return;
        }
        let rules = Rules {
            scope: &Scope::Node("pump-7".to_owned()),
            content_bytes_max: 256 << 10,
            demand: Demand::Signed,
            trusted: &trusted,
        };
        let desired = envelope::read(payload, &rules).unwrap();
        for report in answer(&desired) {
            keep(port, REPORTED, &reported(&desired, report));
        }
    })
}

/// A report on a document; what is in force is it when it is in sync.
fn reported(desired: &Desired, report: Value) -> Value {
    let mut whole = json!({"v": 1, "code": null, "errors": [], "warnings": [], "changed": null,
        "phase": null, "desired": {"rev": desired.rev, "sha256": desired.sha256},
        "active": {"rev": null, "sha256": "0".repeat(64)}});
    let fields = whole.as_object_mut().unwrap();
    fields.extend(report.as_object().unwrap().clone());
    if whole["status"] == "in_sync" {
        whole["active"] = whole["desired"].clone();
    }
    whole
}

#[test]
fn keys_are_made_once() {
    let desk = Desk::new();
    let (code, kid, err) = desk.run(&["keygen", "night.pem"]);
    assert_eq!(code, 0, "{err}");
    let key = SigningKey::read(&desk.path().join("night.pem")).unwrap();
    assert_eq!(kid.trim(), key.kid());
    let mode = desk.path().join("night.pem").metadata().unwrap().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let (code, _, err) = desk.run(&["keygen", "night.pem"]);
    assert_eq!(code, 2);
    assert!(err.contains("exists"), "{err}");
    let public = std::fs::read_to_string(desk.path().join("night.pub")).unwrap();
    assert_eq!(public, key.public_pem());
}

#[test]
fn an_envelope_is_signed_and_verified() {
    let desk = Desk::new();
    let sign = [
        "sign",
        "pump.toml",
        "--node",
        "pump-7",
        "--rev",
        "7",
        "--compress",
    ];
    let (code, envelope, err) = desk.run(&[&sign[..], &["--key", "ops.pem"]].concat());
    assert_eq!(code, 0, "{err}");
    let write = |name: &str, text: &str| std::fs::write(desk.path().join(name), text).unwrap();
    write("good.json", &envelope);
    write("edited.json", &envelope.replace("\"rev\":7", "\"rev\":8"));
    write("torn.json", &envelope[..envelope.len() / 2]);
    let verify = |file: &str, more: &[&str]| {
        let (code, out, err) = desk.run(&[&["verify", file], more].concat());
        (code, format!("{out}{err}"))
    };
    let other = SigningKey::generate().unwrap();
    other.write_public(&desk.path().join("other.pub")).unwrap();
    let own = ["--node", "pump-7", "--pub", "ops.pub"];
    let (code, out) = verify("good.json", &own);
    assert_eq!(code, 0, "{out}");
    for line in [
        format!("signed_by    {}", desk.key.kid()),
        "rev          7".to_owned(),
    ] {
        assert!(out.contains(&line), "{out}");
    }
    let (code, out) = verify("good.json", &[&own[..], &["--content"]].concat());
    assert_eq!((code, out.as_str()), (0, DOCUMENT));
    let trust = desk.path().join("trust");
    std::fs::create_dir(&trust).unwrap();
    std::fs::set_permissions(&trust, std::fs::Permissions::from_mode(0o755)).unwrap();
    let folder = ["--group", "pumps", "--trusted", "trust"];
    let table: [(&str, &[&str], &str); 6] = [
        (
            "good.json",
            &["--node", "pump-8", "--pub", "ops.pub"],
            "E_NODE",
        ),
        ("good.json", &folder, "E_NODE"),
        (
            "good.json",
            &["--node", "pump-7", "--pub", "other.pub"],
            "E_KEY",
        ),
        (
            "good.json",
            &["--node", "pump-7", "--trusted", "trust"],
            "E_KEY",
        ),
        ("edited.json", &own, "E_SIGNATURE"),
        ("torn.json", &own, "E_ENVELOPE"),
    ];
    for (file, arguments, word) in table {
        let (code, out) = verify(file, arguments);
        assert_eq!(code, 8, "{file} {arguments:?}: {out}");
        assert!(out.contains(word), "{file} {arguments:?}: {out}");
    }
    desk.key.write_public(&trust.join("ops.pub")).unwrap();
    let (code, out) = verify("good.json", &["--node", "pump-7", "--trusted", "trust"]);
    assert_eq!(code, 0, "{out}");
}

#[test]
fn a_key_that_others_may_read_signs_nothing() {
    let desk = Desk::new();
    let open = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(desk.path().join("ops.pem"), open).unwrap();
    let sign = [
        "sign",
        "pump.toml",
        "--node",
        "a",
        "--rev",
        "1",
        "--key",
        "ops.pem",
    ];
    let (code, out, err) = desk.run(&sign);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("others may read"), "{err}");
}

#[test]
fn a_document_is_followed_until_it_is_in_force() {
    let (desk, broker) = (Desk::new(), Mosquitto::new());
    let _node = node(&desk, broker.port, |desired| {
        let changed = json!({"added": [], "removed": [], "restarted": ["S"], "kept": 16});
        let rejected = json!({"status": "rejected", "code": "E_BASE"});
        let base = desired.base_sha256.as_deref();
        // Those behind the first are made from what it made.
        if desired.rev > 1 && base != Some(desired.sha256.as_str()) {
            return vec![rejected];
        }
        vec![
            json!({"status": "applying", "phase": "planned"}),
            json!({"status": "probation", "phase": "probation"}),
            json!({"status": "in_sync", "phase": "committed", "changed": changed}),
        ]
    });
    let (code, out, err) = desk.push(&broker, &["--confirm-s", "7", "--compress"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(
        out,
        "pump-7: in_sync: it is in force (restarted S; kept 16)\n"
    );
    let expected = format!(
        "pump-7: publishing revision 1, {} bytes, signed by {}, sha256 ",
        DOCUMENT.len(),
        desk.key.kid()
    );
    assert!(err.starts_with(&expected), "{err}");
    for line in ["pump-7: applying (planned)\n", "pump-7: probation, 7 s\n"] {
        assert!(err.contains(line), "{err}");
    }
    let (code, _, err) = desk.push(&broker, &["--base", "current", "--json"]);
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("revision 2"), "{err}");
    let (code, _, err) = desk.push(&broker, &["--base", &"0".repeat(64), "--rev", "3"]);
    assert_eq!(code, 8, "{err}");
    assert!(err.contains("it is refused: E_BASE"), "{err}");
}

#[test]
fn a_broker_that_is_away_for_a_while_ends_nothing() {
    let (desk, mut broker) = (Desk::new(), Mosquitto::new());
    let (to, desired) = sync_channel(1);
    let node = node(&desk, broker.port, move |desired| {
        to.send(desired.clone()).unwrap();
        vec![json!({"status": "applying"})]
    });
    let url = broker.url();
    let push = [
        "push",
        "pump.toml",
        "--broker",
        &url,
        "--node",
        "pump-7",
        "--key",
        "ops.pem",
    ];
    let mut command = desk.command(&push);
    let mut child = command
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    // Only now it knows that the broker has the document.
    assert!(lines.any(|line| line.unwrap() == "pump-7: applying"));
    drop(node);
    broker.stop();
    broker.start();
    let desired = desired.recv_timeout(crate::wait::DEADLINE).unwrap();
    keep(
        broker.port,
        REPORTED,
        &reported(&desired, json!({"status": "in_sync"})),
    );
    let (code, out, _) = said(&child.wait_with_output().unwrap());
    assert_eq!(
        (code, out.as_str()),
        (0, "pump-7: in_sync: it is in force\n")
    );
}

#[test]
fn what_is_wrong_reads_as_check_says_it() {
    let (desk, broker) = (Desk::new(), Mosquitto::new());
    let _node = node(&desk, broker.port, |_| {
        let error = json!({"path": "desired.toml", "line": 2, "col": 8,
            "message": "no such name", "hint": "did you mean 'pumps'?"});
        let warning = json!({"path": null, "line": null, "col": null,
            "message": "not_before is ignored", "hint": null});
        vec![
            json!({"status": "rejected", "phase": "planned", "code": "E_CONFIG",
            "errors": [error], "warnings": [warning]}),
        ]
    });
    let (code, out, err) = desk.push(&broker, &["--mode", "validate"]);
    assert_eq!((code, out.as_str()), (8, ""));
    let expected = "pump.toml:2:8: error: no such name\n 2 | name = \"pump\"\n   |        ^\n   \
                    = did you mean 'pumps'?\nwarning: not_before is ignored\n\
                    pump-7: rejected: it is refused: E_CONFIG\n";
    assert!(err.ends_with(expected), "{err}");
}

#[test]
fn every_end_has_its_exit_code() {
    let (desk, broker) = (Desk::new(), Mosquitto::new());
    let rolled_back = json!({"status": "rolled_back", "code": "E_HEALTH"});
    let table = [
        (json!({"status": "valid"}), 0, "it is valid"),
        (rolled_back, 9, "it did not prove itself (E_HEALTH)"),
        (
            json!({"status": "expired", "code": "E_EXPIRED"}),
            8,
            "its time was over",
        ),
        (json!({"status": "applying"}), 10, "no end in time"),
        (
            json!({"status": "applying", "desired": {"rev": 99, "sha256": "theirs"}}),
            8,
            "another document has taken its place: revision 99",
        ),
        (
            json!({"status": "rejected", "code": "E_TOO_LARGE", "desired": null}),
            8,
            "E_TOO_LARGE",
        ),
    ];
    for (report, expected, words) in table {
        let answer = report.clone();
        let _node = node(&desk, broker.port, move |_| vec![answer.clone()]);
        let patience = if expected == 10 { "1" } else { "20" };
        let (code, out, err) = desk.push(&broker, &["--timeout", patience]);
        assert_eq!(code, expected, "{report}: {out}{err}");
        assert!(
            format!("{out}{err}").contains(words),
            "{report}: {out}{err}"
        );
        keep(broker.port, REPORTED, &json!({"status": "in_sync"}));
        desk.run(&[
            "push",
            "--withdraw",
            "--broker",
            &broker.url(),
            "--node",
            "pump-7",
        ]);
    }
}

#[test]
fn without_broker_or_node_there_is_no_answer() {
    let (desk, broker) = (Desk::new(), Mosquitto::new());
    let (code, _, err) = desk.push(&broker, &["--base", "current"]);
    assert_eq!(code, 10, "{err}");
    assert!(err.contains("has not reported"), "{err}");
    let (code, _, err) = desk.push(&broker, &["--detach"]);
    assert_eq!(code, 0, "{err}");
    let url = format!("mqtt://127.0.0.1:{}", crate::mosquitto::free_port());
    let nowhere = ["push", "pump.toml", "--broker", &url, "--node", "pump-7"];
    let (code, _, err) = desk.run(&nowhere);
    assert_eq!(code, 10, "{err}");
    let (code, _, err) = desk.run(&["request", "ping", "--broker", &url, "--node", "pump-7"]);
    assert_eq!(code, 10, "{err}");
    let ask = ["request", "ping", "--node", "pump-7", "--timeout", "1"];
    let (code, _, err) = desk.run(&[&ask[..], &["--broker", &broker.url()]].concat());
    assert_eq!(code, 10, "{err}");
    assert!(err.contains("no answer within 1 s"), "{err}");
}

/// Answers requests of one verb; what was asked goes through `answer`.
fn answering(
    port: u16,
    verb: &'static str,
    answer: impl Fn(&request::Request) -> Value + Send + 'static,
) -> Ear {
    let topic = format!("eventflux/v1/pump-7/request/{verb}");
    Ear::new(port, &topic, move |payload| {
        let asked = request::read(payload).unwrap();
        let mut response = answer(&asked);
        response["id"] = asked.id.json();
        let topic = format!("eventflux/v1/pump-7/response/{verb}");
        // Somebody else's answer comes first.
        for response in [
            json!({"id": "other", "status": "ok", "data": "wrong"}),
            response,
        ] {
            let mut client = connect(port, "answering").unwrap();
            client
                .publish(&topic, 1, response.to_string().as_bytes())
                .unwrap();
            assert!(matches!(client.next().unwrap(), Some(Packet::PubAck(1))));
        }
    })
}

#[test]
fn requests_are_answered() {
    let (desk, broker) = (Desk::new(), Mosquitto::new());
    let trusted = desk.trusted();
    let _ping = answering(
        broker.port,
        "ping",
        |asked| json!({"status": "ok", "data": {"ttl_s": asked.ttl_s, "args": asked.args}}),
    );
    let _restart = answering(broker.port, "restart", move |asked| {
        match asked.verify("pump-7", "restart", &trusted) {
            Ok(kid) => json!({"status": "ok", "data": kid}),
            Err(fault) => json!({"status": "error",
                "error": {"code": fault.code.word(), "message": fault.message}}),
        }
    });
    let url = broker.url();
    let ask = |verb: &[&str]| {
        let to = ["--broker", &url, "--node", "pump-7", "--timeout", "20"];
        desk.run(&[&["request"], verb, &to].concat())
    };
    let (code, out, err) = ask(&["ping", "{\"x\": 1}"]);
    assert_eq!(code, 0, "{err}");
    let data: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(data, json!({"ttl_s": 20, "args": {"x": 1}}));
    let (code, out, err) = ask(&["restart"]);
    assert_eq!((code, out.as_str()), (8, ""));
    assert!(
        err.contains("pump-7: E_UNSIGNED: `restart` wants a signature"),
        "{err}"
    );
    let (code, out, err) = ask(&["restart", "--key", "ops.pem"]);
    assert_eq!((code, out.trim()), (0, desk.key.kid().as_str()), "{err}");
    let (code, out, _) = ask(&["restart", "--json"]);
    let response: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (code, &response["error"]["code"]),
        (8, &json!("E_UNSIGNED"))
    );
    let (code, _, err) = ask(&["ping", "[1]"]);
    assert_eq!(code, 2, "{err}");
}

#[test]
fn an_operator_confirms_with_a_signature() {
    let (desk, broker) = (Desk::new(), Mosquitto::new());
    let (trusted, port) = (desk.trusted(), broker.port);
    let sha256 = eventflux::control::hash::sha256_hex(DOCUMENT.as_bytes());
    let _confirm = answering(port, "config.confirm", move |asked| {
        asked.verify("pump-7", "config.confirm", &trusted).unwrap();
        assert_eq!(asked.args, json!({"rev": 1}));
        let this = json!({"rev": 1, "sha256": sha256});
        let report = json!({"status": "in_sync", "desired": this, "active": this});
        keep(port, REPORTED, &report);
        json!({"status": "ok", "data": null})
    });
    let _node = node(&desk, port, |_| vec![json!({"status": "probation"})]);
    let (code, out, err) = desk.push(&broker, &["--confirm", "operator", "--yes"]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(err.contains("pump-7: confirming\n"), "{err}");
    // Without a terminal nobody is asked, but told what to do.
    let terms = ["--confirm", "operator", "--timeout", "1"];
    let (code, out, err) = desk.push(&broker, &terms);
    assert_eq!(code, 10, "{out}{err}");
    assert!(
        err.contains("control request config.confirm '{\"rev\":2}'"),
        "{err}"
    );
}

#[test]
fn a_group_is_followed_node_by_node() {
    let (desk, broker) = (Desk::new(), Mosquitto::new());
    let port = broker.port;
    let topic = "eventflux/v1/_group/pumps/config/desired";
    let _nodes = Ear::new(port, topic, move |payload| {
        let envelope: Value = serde_json::from_slice(payload).unwrap();
        assert_eq!(envelope["node"], "_group/pumps");
        let this = json!({"rev": envelope["rev"], "sha256": envelope["sha256"],
            "scope": "_group/pumps"});
        for (node, status) in [("pump-1", "in_sync"), ("pump-2", "rolled_back")] {
            let topic = format!("eventflux/v1/{node}/config/reported");
            let report = json!({"status": status, "desired": this, "code": "E_HEALTH"});
            keep(port, &topic, &report);
        }
    });
    let url = broker.url();
    let push = ["push", "pump.toml", "--broker", &url, "--group", "pumps"];
    let (code, out, err) = desk.run(&[&push[..], &["--expect", "2"]].concat());
    assert_eq!(code, 9, "{out}{err}");
    assert!(out.contains("pump-1: in_sync"), "{out}");
    assert!(err.contains("pump-2: rolled_back"), "{err}");
    let (code, out, err) = desk.run(&[&push[..], &["--base", "current"]].concat());
    assert_eq!(code, 2, "{out}{err}");
}

#[test]
fn a_document_is_withdrawn() {
    let (desk, broker) = (Desk::new(), Mosquitto::new());
    let (code, _, err) = desk.push(&broker, &["--detach"]);
    assert_eq!(code, 0, "{err}");
    let (to, heard) = sync_channel(8);
    let _ear = Ear::new(broker.port, DESIRED, move |payload| {
        to.send(payload.len()).unwrap();
    });
    assert!(heard.recv_timeout(crate::wait::DEADLINE).unwrap() > 0);
    let withdraw = [
        "push",
        "--withdraw",
        "--node",
        "pump-7",
        "--broker",
        &broker.url(),
    ];
    let (code, _, err) = desk.run(&withdraw);
    assert_eq!(code, 0, "{err}");
    assert_eq!(heard.recv_timeout(crate::wait::DEADLINE), Ok(0));
}

#[test]
fn nodes_are_watched() {
    let (desk, broker) = (Desk::new(), Mosquitto::new());
    let state = json!({"v": 1, "state": "degraded", "why": ["S is down"], "version": "1.2.3",
        "arch": "arm", "ts": "2026-11-21T10:00:00.000Z"});
    keep(broker.port, "eventflux/v1/pump-7/state", &state);
    keep(
        broker.port,
        "eventflux/v1/pump-8/state",
        &json!({"state": "\u{1b}[2J"}),
    );
    let desired = json!({"rev": 3, "sha256": "x"});
    let report = json!({"status": "rejected", "phase": "parsed", "code": "E_CONFIG",
        "desired": desired, "active": {"rev": null, "sha256": "y"}});
    keep(broker.port, REPORTED, &report);
    let url = broker.url();
    let watch = |more: &[&str]| {
        let (code, out, err) =
            desk.run(&[&["watch", "--broker", &url, "--for", "1"], more].concat());
        assert_eq!(code, 0, "{err}");
        out
    };
    let out = watch(&["--all"]);
    for line in [
        "pump-7 state: degraded: S is down [1.2.3 arm, 2026-11-21T10:00:00.000Z]",
        "pump-8 state: \u{fffd}[2J [? ?, ?]",
        "pump-7 config/reported: rejected (parsed) E_CONFIG; desired revision 3, in force the \
         local file",
    ] {
        assert!(out.lines().any(|other| other == line), "{line}\n{out}");
    }
    let out = watch(&["--node", "pump-7", "--json"]);
    let lines = out
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut topics: Vec<Value> = lines.map(|line| line["topic"].clone()).collect();
    topics.sort_by_key(Value::to_string);
    assert_eq!(topics, [json!("config/reported"), json!("state")]);
}

#[test]
fn who_watches_ends_when_nobody_reads_on() {
    let (desk, broker) = (Desk::new(), Mosquitto::new());
    keep(
        broker.port,
        "eventflux/v1/pump-7/state",
        &json!({"state": "online"}),
    );
    let mut command = desk.command(&["watch", "--broker", &broker.url(), "--all"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    // As `grep -m 1` reads it.
    let mut line = String::new();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    reader.read_line(&mut line).unwrap();
    assert!(line.starts_with("pump-7 state: online"), "{line}");
    drop(reader);
    keep(
        broker.port,
        "eventflux/v1/pump-7/state",
        &json!({"state": "offline"}),
    );
    let mut ended = None;
    crate::wait::wait_until("it ends", || {
        ended = child.try_wait().unwrap();
        ended.is_some()
    });
    assert_eq!(ended.unwrap().code(), Some(0));
}

#[test]
fn a_password_comes_from_a_file_or_the_environment() {
    let desk = Desk::new();
    let passwords = desk.path().join("passwords");
    let made = Command::new("mosquitto_passwd")
        .args([
            "-b",
            "-c",
            passwords.to_str().unwrap(),
            "ops",
            "correct horse",
        ])
        .status()
        .expect("mosquitto_passwd is installed");
    assert!(made.success());
    let extra = format!("password_file {}", passwords.display());
    let broker = Mosquitto::start_with(&extra);
    std::fs::write(desk.path().join("right"), "correct horse\n").unwrap();
    std::fs::write(desk.path().join("wrong"), "battery staple\n").unwrap();
    let url = broker.url();
    let push = [
        "push",
        "pump.toml",
        "--node",
        "a",
        "--detach",
        "--broker",
        &url,
    ];
    let user = ["--username", "ops"];
    let code = |more: &[&str], environment: Option<&str>| {
        let mut command = desk.command(&[&push[..], more].concat());
        command.envs(environment.map(|word| ("EVENTFLUX_MQTT_PASSWORD", word)));
        let (code, out, err) = said(&command.output().unwrap());
        for word in ["horse", "staple"] {
            assert!(!format!("{out}{err}").contains(word), "{out}{err}");
        }
        code
    };
    let file = |name: &'static str| [&user[..], &["--password-file", name]].concat();
    assert_eq!(code(&file("right"), None), 0);
    assert_eq!(code(&user, Some("correct horse")), 0);
    assert_eq!(code(&file("right"), Some("battery staple")), 0);
    assert_eq!(code(&file("wrong"), Some("correct horse")), 10);
    assert_eq!(code(&user, Some("battery staple")), 10);
    assert_eq!(code(&file("none"), None), 2);
}
