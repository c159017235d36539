//! TLS with a CA of the test's own: whom a source and a sink talk to, and what they say of whom
//! they do not.

use std::path::Path;

use eventflux::event::ReportKind;

use crate::authority::Authority;
use crate::ends::{Delivering, Running, VERSIONS, numbered, schema};
use crate::mosquitto::{Mosquitto, free_port};

/// A broker that also listens with TLS, as `localhost`, and at which port.
fn broker(authority: &Authority, more: &str) -> (Mosquitto, u16) {
    authority.certify("localhost");
    let port = free_port();
    let listener = authority.listener(port, "localhost", more);
    (Mosquitto::start_with(&listener), port)
}

/// What a source says of a connection that it does not get.
fn reason(all: &[(&str, &str)]) -> String {
    let mut written = vec![("mqtt.topic", "plant/#"), ("mqtt.reconnect.min", "10000")];
    written.extend(all);
    let source = Running::of(&schema(), &written, Vec::new(), 64);
    let reason = source.report(ReportKind::SourceDown).reason;
    source.kill();
    reason
}

#[test]
fn a_source_and_a_sink_talk_in_confidence() {
    let authority = Authority::new();
    let (broker, port) = broker(&authority, "");
    let url = format!("mqtts://localhost:{port}");
    let ca = authority.text("ca.pem");
    let inline = std::fs::read_to_string(&ca).unwrap();
    for (version, ca) in VERSIONS.into_iter().zip([ca.as_str(), &inline]) {
        let more = [
            ("mqtt.broker", url.as_str()),
            ("mqtt.version", version),
            ("mqtt.tls.ca", ca),
            ("mqtt.topic", "alerts"),
        ];
        let source = Running::at(&url, &more, Vec::new(), 64);
        let sink = Delivering::start(&url, &more);
        sink.send(7);
        sink.wait_confirmed(1);
        assert_eq!(source.drain(|rows| !rows.is_empty()), [7]);
        sink.send(8);
        assert_eq!(source.drain(|rows| !rows.is_empty()), [8]);
        assert!(source.stop().is_empty());
    }
    drop(broker);
}

#[test]
fn another_name_is_asked_for_and_verified() {
    let authority = Authority::new();
    let (broker, port) = broker(&authority, "");
    let url = format!("mqtts://127.0.0.1:{port}");
    let ca = authority.text("ca.pem");
    for version in VERSIONS {
        let all = [
            ("mqtt.broker", url.as_str()),
            ("mqtt.version", version),
            ("mqtt.tls.ca", &ca),
        ];
        let told = reason(&all);
        assert!(told.contains("for another name"), "{told}");
        let mut named = all.to_vec();
        named.push(("mqtt.tls.server_name", "localhost"));
        let source = Running::at(&url, &named, Vec::new(), 64);
        broker.publish("plant/a", 1, &numbered(0..3));
        assert_eq!(source.drain(|rows| rows.len() == 3), [0, 1, 2]);
        assert!(source.stop().is_empty());
        named.push(("mqtt.tls.server_name", "elsewhere"));
        let told = reason(&named);
        assert!(told.contains("for another name"), "{told}");
    }
}

#[test]
fn whom_we_do_not_trust_is_told_with_what_to_do() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (broker, port) = broker(&theirs, "");
    let url = format!("mqtts://localhost:{port}");
    let plain = broker
        .url()
        .replace("mqtt:", "mqtts:")
        .replace("127.0.0.1", "localhost");
    for version in VERSIONS {
        let all = |url, ca| {
            let written = [("mqtt.broker", url), ("mqtt.version", version)];
            written
                .into_iter()
                .chain([("mqtt.tls.ca", ca)])
                .collect::<Vec<_>>()
        };
        let ca = ours.text("ca.pem");
        let told = reason(&all(url.as_str(), ca.as_str()));
        assert!(
            told.contains("not of an authority that we trust: see mqtt.tls.ca"),
            "{told}"
        );
        let told = reason(&all(plain.as_str(), ca.as_str()));
        assert!(
            told.starts_with("TLS: ") || told.contains("closed"),
            "{told}"
        );
    }
    // What the system trusts does not include a CA of the test.
    let told = reason(&[("mqtt.broker", &url)]);
    assert!(told.contains("not of an authority that we trust"), "{told}");
}

#[test]
fn a_broker_may_want_a_certificate_of_ours() {
    let authority = Authority::new();
    let more = "require_certificate true\nuse_identity_as_username true";
    let (broker, port) = broker(&authority, more);
    authority.certify("gateway");
    let url = format!("mqtts://localhost:{port}");
    let (ca, cert) = (authority.text("ca.pem"), authority.text("gateway.pem"));
    let key = authority.text("gateway.key");
    for version in VERSIONS {
        let mut all = vec![
            ("mqtt.broker", url.as_str()),
            ("mqtt.version", version),
            ("mqtt.tls.ca", &ca),
        ];
        let told = reason(&all);
        assert!(told.contains("see mqtt.tls.cert"), "{told}");
        all.extend([("mqtt.tls.cert", cert.as_str()), ("mqtt.tls.key", &key)]);
        let source = Running::at(&url, &all, Vec::new(), 64);
        broker.publish("plant/a", 1, &numbered(0..1));
        assert_eq!(source.drain(|rows| !rows.is_empty()), [0]);
        assert!(
            broker.log().contains("u'gateway'"),
            "known by its certificate"
        );
        assert!(source.stop().is_empty());
    }
}

#[test]
fn a_password_is_right_or_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("passwords");
    make_password(&file, "gateway", "right");
    let extra = format!("password_file {}\nallow_anonymous false", file.display());
    let broker = Mosquitto::start_with(&extra);
    let url = broker.url();
    for version in VERSIONS {
        let all = |password| {
            let written = [("mqtt.broker", url.as_str()), ("mqtt.version", version)];
            let login = [("mqtt.username", "gateway"), ("mqtt.password", password)];
            written.into_iter().chain(login).collect::<Vec<_>>()
        };
        let told = reason(&all("wrong"));
        assert!(
            told.starts_with("the broker refused the connection: "),
            "{told}"
        );
        let source = Running::at(&url, &all("right"), Vec::new(), 64);
        assert!(source.stop().is_empty());
    }
}

fn make_password(file: &Path, user: &str, password: &str) {
    let made = std::process::Command::new("mosquitto_passwd")
        .args(["-b", "-c"])
        .arg(file)
        .args([user, password])
        .status();
    assert!(made.unwrap().success());
}
