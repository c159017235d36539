//! A gateway that is configured from afar: a control broker with the access list of
//! docs/operate.md and passwords, a broker for data, the real binary, and who watches it all.
//!
//! What the gateway forwards is numbers, from `in/n` to `out` at the data broker; each says in `c`
//! which configuration made it.

#![allow(dead_code, reason = "each test program uses its part")]

use std::cell::Cell;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::client::{Client, Packet, Version};
use crate::daemon::Site;
use crate::mosquitto::{DEADLINE, Mosquitto, wait_until};
use crate::operator::{ADMIN, Message, Moment, Observer, kept};
use crate::signing::{Key, envelope};
use crate::traffic::{Traffic, check};

/// The node, as the access list of the page has it.
pub(crate) const NODE: &str = "pump-7";
/// What all its topics begin with.
pub(crate) const R: &str = "eventflux/v1/pump-7";
pub(crate) const OPERATOR: (&str, &str) = ("operator", "of-the-plant");
pub(crate) const PASSWORD: &str = "of-the-pump";
/// Numbers under way at a time.
const UNDER_WAY: u64 = 40;
/// Where a document has come to its end.
const ENDS: [&str; 5] = ["in_sync", "valid", "rejected", "rolled_back", "expired"];

/// The control broker of the page, with accounts for everybody in it and one more for tests.
pub(crate) fn control_broker(folder: &Path) -> Mosquitto {
    control_broker_with(folder, "")
}

/// The same, with more in its configuration.
fn control_broker_with(folder: &Path, more: &str) -> Mosquitto {
    let page = std::fs::read_to_string("docs/operate.md").unwrap();
    let (_, behind) = page.split_once("<!-- acl -->\n```text\n").unwrap();
    let (list, _) = behind.split_once("```").unwrap();
    let (acl, passwords) = (folder.join("acl"), folder.join("passwd"));
    let admin = ADMIN.0;
    std::fs::write(&acl, format!("{list}\nuser {admin}\ntopic readwrite #\n")).unwrap();
    std::fs::write(&passwords, "").unwrap();
    for (name, password) in [
        OPERATOR,
        ADMIN,
        (NODE, PASSWORD),
        ("pump-8", "of-another"),
        ("observer", "looks"),
    ] {
        let made = Command::new("mosquitto_passwd")
            .arg("-b")
            .arg(&passwords)
            .args([name, password])
            .output()
            .expect("mosquitto_passwd is installed");
        assert!(made.status.success(), "{made:?}");
    }
    Mosquitto::start_with(&format!(
        "allow_anonymous false\npassword_file {}\nacl_file {}\nmessage_size_limit 16777216\n{more}",
        passwords.display(),
        acl.display()
    ))
}

/// All of it.
pub(crate) struct Fleet {
    pub(crate) site: Site,
    pub(crate) broker: Mosquitto,
    pub(crate) data: Mosquitto,
    pub(crate) observer: Observer,
    pub(crate) key: Key,
    requests: Cell<u64>,
    folder: tempfile::TempDir,
}

impl Fleet {
    /// A node in mode `signed` that trusts [`Fleet::key`]; it does not run yet.
    pub(crate) fn new() -> Fleet {
        Fleet::with("mode = \"signed\"\n")
    }

    /// The same with these lines in `[control]`, of which one has the mode.
    pub(crate) fn with(control: &str) -> Fleet {
        Fleet::behind(control, "")
    }

    /// The same behind a control broker with more in its configuration.
    pub(crate) fn behind(control: &str, more: &str) -> Fleet {
        let folder = tempfile::tempdir().unwrap();
        let broker = control_broker_with(folder.path(), more);
        let fleet = Fleet {
            site: Site::new("", ""),
            observer: Observer::new(broker.port),
            broker,
            data: Mosquitto::new(),
            key: Key::new(),
            requests: Cell::new(0),
            folder,
        };
        let trusted = fleet.site.path("trusted.d");
        std::fs::create_dir(&trusted).unwrap();
        set_mode(&trusted, 0o755);
        fleet.trust(&fleet.key, "fleet.pub");
        std::fs::create_dir(fleet.site.path("secrets")).unwrap();
        fleet.secret("control", PASSWORD);
        fleet.configure(1, control);
        fleet
    }

    /// Has the node trust a key.
    pub(crate) fn trust(&self, key: &Key, name: &str) {
        let path = self.site.path("trusted.d").join(name);
        key.write_public(&path);
        set_mode(&path, 0o644);
    }

    /// Gives the node a secret.
    pub(crate) fn secret(&self, name: &str, value: &str) {
        let path = self.site.path("secrets").join(name);
        std::fs::write(&path, value).unwrap();
        set_mode(&path, 0o600);
    }

    /// Writes the local file: that of configuration `c`, with these lines in `[control]`.
    pub(crate) fn configure(&self, c: u64, control: &str) {
        let broker = self.broker.url();
        self.configure_at(c, &broker, control);
    }

    /// The same with another control broker.
    pub(crate) fn configure_at(&self, c: u64, broker: &str, control: &str) {
        let login = format!(
            "mqtt.username = \"{NODE}\"\nmqtt.password = \"${{secret:control}}\"\n{control}"
        );
        self.site
            .configure(&self.sql(c), &self.toml("", broker, &login));
    }

    /// The local file: these lines in `[store]`, and these in `[control]`, which does not say as
    /// whom it speaks.
    pub(crate) fn toml(&self, store: &str, broker: &str, control: &str) -> String {
        format!(
            "{store}[checkpoint]\ninterval = \"500 ms\"\n\
             [secrets]\npath = \"secrets\"\n[security]\ntrusted_path = \"trusted.d\"\n\
             [control]\nnode = \"{NODE}\"\nmqtt.broker = \"{broker}\"\n\
             mqtt.reconnect.min = \"50 ms\"\nmqtt.reconnect.max = \"200 ms\"\n{control}"
        )
    }

    /// What configuration `c` does.
    pub(crate) fn sql(&self, c: u64) -> String {
        let data = self.data.url();
        format!(
            "CREATE STREAM Readings (n BIGINT) WITH ('type'='source', 'extension'='mqtt', \
             'format'='json', 'mqtt.broker'='{data}', 'mqtt.topic'='in/+');\n\
             CREATE STREAM Alerts (n BIGINT, c BIGINT) WITH ('type'='sink', 'extension'='mqtt', \
             'mqtt.broker'='{data}', 'mqtt.topic'='out');\n\
             INSERT INTO Alerts SELECT n, {c} AS c FROM Readings;\n"
        )
    }

    /// The document of configuration `c`.
    pub(crate) fn document(&self, c: u64) -> String {
        self.document_with(c, "")
    }

    /// The same, and some SQL more.
    pub(crate) fn document_with(&self, c: u64, more: &str) -> String {
        let sql = self.sql(c);
        format!("[application]\nname = \"test\"\nsql = \"\"\"\n{sql}{more}\"\"\"\n")
    }

    /// A document whose source finds nobody: its node is to come back by itself.
    pub(crate) fn wrong_broker(&self, c: u64, port: u16) -> String {
        self.document_with(
            c,
            &format!(
                "CREATE STREAM Far (n BIGINT) WITH ('type'='source', 'extension'='mqtt', \
                 'format'='json', 'mqtt.broker'='mqtt://127.0.0.1:{port}', \
                 'mqtt.topic'='far', 'required'='true');\n\
                 INSERT INTO Alerts SELECT n, {c} AS c FROM Far;\n"
            ),
        )
    }

    /// Starts the node and waits until it has said its birth and what it runs.
    pub(crate) fn start(&mut self) -> Value {
        let from = self.observer.now();
        self.site.spawn();
        self.online(from)
    }

    /// The birth of a node that is up, from a moment on.
    pub(crate) fn online(&self, from: Moment) -> Value {
        self.said("the node is online", from, "state", |state| {
            state["state"] == "online"
        })
    }

    /// Has numbers flow without an end.
    pub(crate) fn flow(&self) -> Flow {
        wait_until("the subscription", || self.data.log().contains("in/+"));
        let (port, version) = (self.data.port, Version::V311);
        Flow(Traffic::start_within(
            version,
            port,
            port,
            u64::MAX / 2,
            UNDER_WAY,
        ))
    }

    /// Publishes something as somebody, and waits until the broker has it.
    pub(crate) fn publish(&self, who: (&str, &str), topic: &str, retain: bool, payload: &[u8]) {
        let (port, version) = (self.broker.port, Version::V311);
        let number = self.requests.get() + 1;
        self.requests.set(number);
        let id = format!("publisher-{number}");
        let client = Client::connect_as(Some(who), port, &id, version, false, DEADLINE);
        let mut client = client.unwrap();
        match retain {
            true => client.retain(topic, 1, payload).unwrap(),
            false => client.publish(topic, 1, payload).unwrap(),
        }
        let answer = client.next().unwrap();
        assert!(matches!(answer, Some(Packet::PubAck(1))), "{answer:?}");
        client.disconnect().unwrap();
    }

    /// Leaves a document for the node.
    pub(crate) fn push(&self, envelope: &Value) {
        let text = envelope.to_string();
        self.push_bytes(text.as_bytes());
    }

    pub(crate) fn push_bytes(&self, payload: &[u8]) {
        self.publish(OPERATOR, &format!("{R}/config/desired"), true, payload);
    }

    /// A signed envelope for the node.
    pub(crate) fn signed(&self, rev: u64, content: &str) -> Value {
        self.key.signed(NODE, envelope(rev, content))
    }

    /// Pushes a document and waits for its end.
    pub(crate) fn apply(&self, envelope: &Value) -> Value {
        let from = self.observer.now();
        self.push(envelope);
        self.end_of(from, &envelope["rev"])
    }

    /// What is reported at the end of the document of a revision, from a moment on.
    pub(crate) fn end_of(&self, from: Moment, rev: &Value) -> Value {
        self.reported(&format!("the end of {rev}"), from, |reported| {
            let is_end = ENDS.iter().any(|end| reported["status"] == *end);
            is_end && reported["desired"]["rev"] == *rev
        })
    }

    /// What is reported from a moment on and `is_it`.
    pub(crate) fn reported(
        &self,
        what: &str,
        from: Moment,
        is_it: impl FnMut(&Value) -> bool,
    ) -> Value {
        self.said(what, from, "config/reported", is_it)
    }

    /// What the node says from a moment on below one of its topics, and `is_it`.
    pub(crate) fn said(
        &self,
        what: &str,
        from: Moment,
        topic: &str,
        mut is_it: impl FnMut(&Value) -> bool,
    ) -> Value {
        let topic = format!("{R}/{topic}");
        let is_it = |message: &Message| message.topic == topic && is_it(&message.json());
        self.observer.wait(what, from, is_it).json()
    }

    /// What the broker keeps at one of the node's topics.
    pub(crate) fn kept(&self, topic: &str) -> Value {
        let found = kept(&self.broker, &format!("{R}/{topic}"));
        found.first().map(Message::json).unwrap_or_default()
    }

    /// Asks the node for something and waits for the answer.
    pub(crate) fn request(&self, verb: &str, args: &Value) -> Value {
        let id = format!("request-{}", self.requests.get());
        let body = json!({"v": 1, "id": id, "args": args, "ttl_s": 30});
        self.ask(verb, &id, body.to_string().as_bytes())
    }

    /// The same, as a signed request of the moment `ts`.
    pub(crate) fn request_signed(&self, verb: &str, ts: u64, args: &str) -> Value {
        let id = format!("signed-{}", self.requests.get());
        let body = self.key.request(NODE, verb, &id, ts, args);
        self.ask(verb, &id, body.as_bytes())
    }

    /// Publishes a request and waits for the answer with its id.
    pub(crate) fn ask(&self, verb: &str, id: &str, body: &[u8]) -> Value {
        let from = self.observer.now();
        self.publish(OPERATOR, &format!("{R}/request/{verb}"), false, body);
        let topic = format!("response/{verb}");
        let what = format!("the answer to {verb}");
        self.said(&what, from, &topic, |answer| answer["id"] == id)
    }

    /// How often the daemon has connected to the data broker.
    pub(crate) fn data_connections(&self) -> usize {
        let log = self.data.log();
        let connected = log
            .lines()
            .filter(|line| line.contains("New client connected"));
        connected
            .filter(|line| !line.contains(" as publisher ") && !line.contains(" as recorder "))
            .count()
    }

    /// How often another configuration has been put in force in this run.
    pub(crate) fn changes(&self) -> usize {
        let log = self.site.log();
        log.matches("the configuration has changed").count()
    }
}

/// Numbers that flow meanwhile.
pub(crate) struct Flow(Traffic);

impl Flow {
    /// Which configuration makes what comes out of what comes in from now on.
    pub(crate) fn made_by(&self) -> u64 {
        let (published, _) = self.0.progress();
        let mut made_by = 0;
        self.0.wait("something comes out", |state| {
            let newest = state.delivered.last();
            let is_new = newest.is_some_and(|one| one.number >= published);
            made_by = newest.and_then(|one| one.made_by).unwrap_or_default();
            is_new
        });
        made_by
    }

    /// Waits until something new has come out.
    pub(crate) fn goes_on(&self) {
        self.made_by();
    }

    pub(crate) fn traffic(&self) -> &Traffic {
        &self.0
    }

    /// Ends the flow: everything that went in has come out, once, or again with the same id. How
    /// many numbers it were.
    pub(crate) fn finish(self) -> u64 {
        self.0.pause();
        let (published, _) = self.0.progress();
        let all = |state: &crate::traffic::State| state.distinct == published;
        self.0.wait("everything comes out", all);
        check(&self.0.finish(), published);
        published
    }
}

pub(crate) fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}
