//! The control connection in confidence: whom the node speaks to, as whom, what it says of brokers
//! that it does not believe, and how it moves from a plain listener to an encrypted one and back.

use serde_json::{Value, json};

use crate::authority::Authority;
use crate::fleet::{Fleet, Flow, NODE};
use crate::mosquitto::{free_port, wait_until};
use crate::proxy::Link;
use crate::signing::envelope;

const SIGNED: &str = "mode = \"signed\"\n";
const MOVABLE: &str = "mode = \"signed\"\nallow_remote = \"endpoint\"\n";

/// An option with a text of several lines.
fn lines(name: &str, text: &str) -> String {
    format!("{name} = '''\n{text}'''\n")
}

fn encrypted(port: u16) -> String {
    format!("mqtts://localhost:{port}")
}

fn with_probation(fleet: &Fleet, rev: u64, content: &str, confirm_s: u64) -> Value {
    let mut asked = envelope(rev, content);
    asked["confirm_s"] = json!(confirm_s);
    fleet.key.signed(NODE, asked)
}

#[test]
fn a_node_speaks_in_confidence() {
    let authority = Authority::new();
    authority.certify("localhost");
    let port = free_port();
    let mut fleet = Fleet::behind(SIGNED, &authority.listener(port, "localhost", ""));
    let path = format!("mqtt.tls.ca = \"{}\"\n", authority.text("ca.pem"));
    let inline = lines("mqtt.tls.ca", &authority.pem("ca.pem"));
    let mut flow = None;
    for (round, (ca, version)) in (1..).zip([(path, "3.1.1"), (inline, "5")]) {
        let control = format!("{SIGNED}mqtt.version = \"{version}\"\n{ca}");
        fleet.configure_at(10 * round, &encrypted(port), &control);
        let birth = fleet.start();
        let flow = flow.get_or_insert_with(|| fleet.flow());
        let reported = fleet.apply(&fleet.signed(round, &fleet.document(round)));
        assert_eq!(reported["status"], "in_sync", "{reported:#}");
        assert_eq!(flow.made_by(), round);
        assert_eq!(fleet.request("ping", &json!({}))["status"], "ok");
        let from = fleet.observer.now();
        fleet.site.kill();
        let is_gone = |state: &Value| state["state"] == "offline";
        let death = fleet.said("the death", from, "state", is_gone);
        assert_eq!(death["conn"], birth["conn"], "{death}");
        fleet.start();
        assert_eq!(flow.made_by(), round);
        if round == 1 {
            fleet.site.stop();
        }
    }
    flow.unwrap().finish();
    fleet.site.stop();
}

/// Waits until this run says of the control broker what is wrong with it, while numbers flow and
/// nothing is said there.
fn is_refused(fleet: &mut Fleet, flow: &Flow, why: &str) {
    let from = fleet.observer.now();
    fleet.site.wait_for(why);
    let log = fleet.site.log();
    let line = log.lines().find(|line| line.contains(why)).unwrap();
    let expected = "no connection to the control broker: TLS: ";
    assert!(line.contains(expected), "{line}");
    flow.goes_on();
    let said = fleet.observer.since(from);
    assert!(said.is_empty(), "{said:?}");
}

#[test]
fn a_broker_may_want_a_certificate_of_the_node() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    authority.certify("localhost");
    for one in [&authority, &stranger] {
        one.certify(NODE);
    }
    let port = free_port();
    let more = "require_certificate true\nuse_identity_as_username true";
    let mut fleet = Fleet::behind(SIGNED, &authority.listener(port, "localhost", more));
    let configure = |fleet: &Fleet, identity: &str| {
        let ca = authority.text("ca.pem");
        let control = format!("{SIGNED}mqtt.tls.ca = \"{ca}\"\n{identity}");
        let toml = fleet.toml("", &encrypted(port), &control);
        fleet.site.configure(&fleet.sql(1), &toml);
    };
    let identity = |of: &Authority, key: &str| {
        let cert = of.text(&format!("{NODE}.pem"));
        format!("mqtt.tls.cert = \"{cert}\"\nmqtt.tls.key = \"{key}\"\n")
    };
    let key = |of: &Authority| of.text(&format!("{NODE}.key"));
    configure(&fleet, "");
    fleet.site.start();
    let flow = fleet.flow();
    let connections = fleet.data_connections();
    is_refused(&mut fleet, &flow, "see mqtt.tls.cert");
    fleet.site.stop();
    configure(&fleet, &identity(&stranger, &key(&stranger)));
    fleet.site.start();
    is_refused(&mut fleet, &flow, "see mqtt.tls.cert");
    // The key as a file, and as a secret.
    let secret = authority.pem(&format!("{NODE}.key"));
    fleet.secret("control-key", &secret);
    let from = fleet.observer.now();
    configure(&fleet, &identity(&authority, &key(&authority)));
    fleet.site.signal("HUP");
    let birth = fleet.online(from);
    let from = fleet.observer.now();
    configure(&fleet, &identity(&authority, "${secret:control-key}"));
    fleet.site.signal("HUP");
    fleet.said("its birth with the other", from, "state", |state| {
        state["state"] == "online" && state["conn"].as_u64() > birth["conn"].as_u64()
    });
    let reported = fleet.apply(&fleet.signed(1, &fleet.document(2)));
    assert_eq!(reported["status"], "in_sync", "{reported:#}");
    assert_eq!(flow.made_by(), 2);
    assert_eq!(fleet.data_connections(), connections + 2, "one more start");
    // Known by its certificate, as no password was told.
    assert!(fleet.broker.log().contains(&format!("u'{NODE}'")));
    let text = fleet.request("config.get", &json!({})).to_string();
    let all: Vec<String> = fleet.site.logs().chain([text]).collect();
    for line in secret.lines().filter(|line| line.len() > 30) {
        assert!(all.iter().all(|text| !text.contains(line)), "{line}");
    }
    flow.finish();
    fleet.site.stop();
}

/// A control broker with a listener for each certificate that is not believed, and one that is;
/// which they are, and what is said of them.
struct Doubtful {
    authority: Authority,
    fleet: Fleet,
    good: u16,
    plain: String,
    /// Where, believing whom, and why not.
    wrong: Vec<(String, String, &'static str)>,
}

fn doubtful(control: &str) -> Doubtful {
    let (authority, stranger) = (Authority::new(), Authority::new());
    authority.certify("localhost");
    authority.certify("elsewhere");
    authority.certify_late("late", "localhost");
    let [good, elsewhere, late] = [(); 3].map(|()| free_port());
    let listeners = [
        authority.listener(good, "localhost", ""),
        authority.listener(elsewhere, "elsewhere", ""),
        authority.listener(late, "late", ""),
    ];
    let fleet = Fleet::behind(control, &listeners.concat());
    let (ours, theirs) = (authority.pem("ca.pem"), stranger.pem("ca.pem"));
    let untrusted = "not of an authority that we trust: see mqtt.tls.ca";
    Doubtful {
        good,
        plain: fleet.broker.url(),
        wrong: vec![
            (encrypted(good), theirs, untrusted),
            (encrypted(elsewhere), ours.clone(), "for another name"),
            (encrypted(late), ours, "not valid at this time"),
        ],
        authority,
        fleet,
    }
}

#[test]
fn a_broker_that_is_not_believed_is_told_of_and_nothing_else_happens() {
    let Doubtful {
        authority,
        mut fleet,
        good,
        wrong,
        ..
    } = doubtful(SIGNED);
    let control = |ca: &str| format!("{SIGNED}{}", lines("mqtt.tls.ca", ca));
    let mut flow = None;
    for (url, ca, why) in &wrong {
        fleet.configure_at(1, url, &control(ca));
        match &flow {
            None => {
                fleet.site.start();
                flow = Some((fleet.flow(), fleet.data_connections()));
            }
            Some(_) => fleet.site.signal("HUP"),
        }
        let (flow, _) = flow.as_ref().unwrap();
        is_refused(&mut fleet, flow, why);
    }
    let (flow, connections) = flow.unwrap();
    let from = fleet.observer.now();
    let ca = authority.pem("ca.pem");
    fleet.configure_at(1, &encrypted(good), &control(&ca));
    fleet.site.signal("HUP");
    fleet.online(from);
    assert_eq!(fleet.data_connections(), connections);
    assert_eq!(flow.made_by(), 1);
    flow.finish();
    fleet.site.stop();
}

#[test]
fn a_node_that_is_sent_where_it_believes_nobody_comes_back_and_says_why() {
    let Doubtful {
        mut fleet, wrong, ..
    } = doubtful(MOVABLE);
    fleet.start();
    let flow = fleet.flow();
    let connections = fleet.data_connections();
    for (rev, (url, ca, why)) in (1..).zip(&wrong) {
        let ca = lines("mqtt.tls.ca", ca);
        let control = format!("[control]\nmqtt.broker = \"{url}\"\n{ca}");
        let content = format!("{}{control}", fleet.document(2));
        let reported = fleet.apply(&with_probation(&fleet, rev, &content, 2));
        assert_eq!(reported["status"], "rolled_back", "{reported:#}");
        assert_eq!(reported["code"], "E_UNCONFIRMED", "{reported:#}");
        assert!(
            reported["errors"].to_string().contains(why),
            "{why}: {reported:#}"
        );
        assert_eq!(flow.made_by(), 1);
    }
    assert_eq!(fleet.data_connections(), connections);
    flow.finish();
    fleet.site.stop();
}

#[test]
fn a_node_moves_to_an_encrypted_listener_and_back() {
    let Doubtful {
        authority,
        mut fleet,
        good,
        plain,
        ..
    } = doubtful(MOVABLE);
    // The way of the local file, which can be cut.
    let link = Link::to(fleet.broker.port);
    let local = format!("mqtt://127.0.0.1:{}", link.port);
    fleet.configure_at(1, &local, MOVABLE);
    let birth = fleet.start();
    let flow = fleet.flow();
    let connections = fleet.data_connections();
    let ca = lines("mqtt.tls.ca", &authority.pem("ca.pem"));
    let there = format!("[control]\nmqtt.broker = \"{}\"\n{ca}", encrypted(good));
    let back = format!("[control]\nmqtt.broker = \"{plain}\"\n");
    let mut conn = birth["conn"].as_u64();
    for (rev, control) in [
        (1, there.as_str()),
        (2, back.as_str()),
        (3, ""),
        (4, &there),
    ] {
        if rev == 3 {
            link.mend();
        }
        let content = format!("{}{control}", fleet.document(rev + 1));
        let from = fleet.observer.now();
        fleet.push(&with_probation(&fleet, rev, &content, 600));
        let waits = |said: &Value| said["awaits"] == "operator" && said["desired"]["rev"] == rev;
        fleet.reported("it waits for somebody", from, waits);
        let moved = fleet.said("its birth there", from, "state", |state| {
            state["state"] == "online" && state["conn"].as_u64() > conn
        });
        conn = moved["conn"].as_u64();
        let answer = fleet.request("config.confirm", &json!({ "rev": rev }));
        assert_eq!(answer["status"], "ok", "{answer}");
        let reported = fleet.end_of(from, &json!(rev));
        assert_eq!(reported["status"], "in_sync", "{reported:#}");
        assert_eq!(flow.made_by(), rev + 1);
        if rev == 1 {
            // It does not need the way it came.
            let made = link.connections();
            link.swallow();
            link.cut();
            assert_eq!(fleet.request("ping", &json!({}))["status"], "ok");
            fleet.site.kill();
            let again = fleet.start();
            assert_eq!(link.connections(), made);
            assert_eq!(again["config"]["rev"], 1, "{again}");
            conn = again["conn"].as_u64();
        }
    }
    assert_eq!(fleet.data_connections(), connections + 2, "one more start");
    wait_until("it is known there", || {
        fleet.kept("config/reported")["active"]["rev"] == 4
    });
    flow.finish();
    fleet.site.stop();
}
