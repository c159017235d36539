//! The real binary between real brokers: killed, stopped, fed with rubbish, left alone.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test may fail where it stands"
)]

#[path = "common/client.rs"]
mod client;
#[path = "common/daemon.rs"]
mod daemon;
#[path = "common/mosquitto.rs"]
mod mosquitto;
#[path = "common/wait.rs"]
mod wait;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use eventflux::event::Seq;
use eventflux::source;
use eventflux::store::{self, sled::StoreOptions};
use eventflux::wal::{Body, ReadEnd, Wal};

use crate::client::{Client, Packet, Version};
use crate::daemon::Site;
use crate::mosquitto::{DEADLINE, Mosquitto};

/// A source that is read, a sink that is written, and what is done in between.
fn application(upstream: &str, uplink: &str, options: &str, query: &str) -> String {
    format!(
        "CREATE STREAM Readings (n BIGINT, small INT) WITH ('type'='source', \
         'extension'='mqtt', 'format'='json', 'mqtt.broker'='{upstream}' {options});\n\
         CREATE STREAM Alerts (n BIGINT, s BIGINT) WITH ('type'='sink', 'extension'='mqtt', \
         'mqtt.broker'='{uplink}', 'mqtt.topic'='out');\n\
         INSERT INTO Alerts {query};\n"
    )
}

const SUM: &str = "SELECT n, sum(n) AS s FROM Readings WINDOW('length', 3)";
const TOPIC: &str = ", 'mqtt.topic'='in/+'";

/// Takes what comes out at a broker.
fn listen(broker: &Mosquitto) -> Client {
    let connected = Client::connect(broker.port, "listener", Version::V311, true, DEADLINE);
    let mut client = connected.unwrap();
    client.subscribe("out").unwrap();
    client
}

/// The next row that came out, as its columns n and s.
fn next_row(client: &mut Client) -> (i64, Option<i64>) {
    loop {
        match client.next().unwrap().expect("a message in time") {
            Packet::Publish(message) => {
                client.acknowledge(message.packet).unwrap();
                let row: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
                return (row["n"].as_i64().unwrap(), row["s"].as_i64());
            }
            Packet::PubAck(_) | Packet::Other(_) => {}
        }
    }
}

/// Publishes payloads to a topic; the broker has them all when it returns.
fn publish(broker: &Mosquitto, topic: &str, payloads: &[&[u8]]) {
    let connected = Client::connect(broker.port, "sensor", Version::V311, false, DEADLINE);
    let mut client = connected.unwrap();
    for (id, payload) in (1..).zip(payloads) {
        client.publish(topic, id, payload).unwrap();
        let answer = client.next().unwrap().expect("an answer in time");
        assert!(matches!(answer, Packet::PubAck(_)), "{answer:?}");
    }
    client.disconnect().unwrap();
}

/// What the log in a store has of rejected messages: reason, kept bytes, bytes in all.
fn rejected(store: &Path) -> Vec<(String, Vec<u8>, u64)> {
    let opened = store::sled::open(store, &StoreOptions::default()).unwrap();
    let wal = Wal::open(opened.store, Seq(1)).unwrap();
    let mut found = Vec::new();
    let end = wal.read(Seq(1), &mut |record| {
        if let Body::Rejected { rejected, .. } = record.body {
            found.push((rejected.reason, rejected.bytes, rejected.bytes_total));
        }
        ControlFlow::Continue(())
    });
    assert!(matches!(end.unwrap(), ReadEnd::Whole { .. }));
    found
}

#[test]
fn bad_input_is_counted_kept_and_stops_nothing() {
    let (upstream, uplink) = (Mosquitto::new(), Mosquitto::new());
    let strict = ", 'json.missing'='reject', 'json.unknown'='reject'";
    let query = "SELECT n, sum(small) AS s FROM Readings WINDOW('length', 1)";
    let sql = |topics: &str| {
        let options = format!(", 'mqtt.topic'='{topics}' {strict}");
        application(&upstream.url(), &uplink.url(), &options, query)
    };
    // A former configuration has subscribed to more, and the broker has not forgotten.
    let mut site = Site::new(&sql("in/+, former/+"), "");
    site.start();
    mosquitto::wait_until("the subscription", || {
        upstream.log().contains("former/+ (QoS 1)")
    });
    site.stop();
    site.configure(&sql("in/+"), "");
    site.start();
    let mut listener = listen(&uplink);
    let huge = vec![b'x'; 10 << 20];
    let bad: [(&str, &[u8]); 11] = [
        ("malformed", b"{\"n\":1,"),
        ("malformed", b"{\"n\":1,\"small\":2}}"),
        ("malformed", b"\x00\x01\x02"),
        ("wrong_type", b"{\"n\":\"one\",\"small\":1}"),
        ("missing_field", b"{\"n\":1}"),
        ("unknown_field", b"{\"n\":1,\"small\":1,\"more\":1}"),
        ("out_of_range", b"{\"n\":1,\"small\":2147483648}"),
        ("out_of_range", b"{\"n\":9223372036854775808,\"small\":1}"),
        ("invalid_utf8", b"{\"n\":1,\"small\":1,\"\xFF\":1}"),
        ("too_large", &huge),
        ("empty", b""),
    ];
    for (_, payload) in bad {
        publish(&upstream, "in/a", &[payload]);
    }
    publish(&upstream, "former/a", &[b"{\"n\":1,\"small\":1}"]);
    publish(&upstream, "in/a", &[b"{\"n\":7,\"small\":8}"]);
    assert_eq!(next_row(&mut listener), (7, Some(8)));
    let said = site.stop();
    let summary = said.lines().find(|line| line.contains("source Readings:"));
    let summary = summary.unwrap_or_else(|| panic!("{said}"));
    for (reason, _) in bad {
        let count = bad.iter().filter(|(other, _)| *other == reason).count();
        assert!(summary.contains(&format!("{reason} {count}")), "{summary}");
        assert!(
            said.contains(&format!("rejected a message: {reason}: ")),
            "{said}"
        );
    }
    assert!(summary.contains("unmatched 1"), "{summary}");
    assert!(said.contains("dropped a message: unmatched"), "{said}");
    assert!(said.contains("rejected 11"), "{said}");
    let kept = rejected(&site.path("store"));
    assert_eq!(kept.len(), bad.len());
    for ((reason, bytes, total), (wanted, payload)) in kept.iter().zip(bad) {
        assert_eq!(reason, wanted);
        assert_eq!(
            *bytes,
            payload[..payload.len().min(source::REJECTED_BYTES_MAX)]
        );
        assert_eq!(*total, u64::try_from(payload.len()).unwrap());
    }
}

#[test]
fn a_stop_in_order_keeps_the_state_of_windows() {
    let (upstream, uplink) = (Mosquitto::new(), Mosquitto::new());
    let mut site = Site::new(&application(&upstream.url(), &uplink.url(), TOPIC, SUM), "");
    let mut listener = listen(&uplink);
    let mut rows = [(1, 1), (2, 3), (3, 6), (4, 9), (5, 12), (6, 15)].into_iter();
    for (number, signal) in (0..).zip(["TERM", "INT", "TERM"]) {
        site.start();
        if number == 0 {
            mosquitto::wait_until("the subscription", || {
                upstream.log().contains("in/+ (QoS 1)")
            });
        } else {
            // The application, and in each run two rows and what the clock is worth.
            let seq = number * 3 + 1;
            let text = format!("went on at {seq}: the checkpoint at {seq} and 0 records");
            assert!(site.log().contains(&text), "{text}: {}", site.log());
        }
        for (n, sum) in rows.by_ref().take(2) {
            publish(&upstream, "in/a", &[format!("{{\"n\":{n}}}").as_bytes()]);
            assert_eq!(next_row(&mut listener), (n, Some(sum)));
        }
        site.signal(signal);
        assert_eq!(site.wait_end(), Some(0), "{}", site.log());
        assert!(site.log().contains("stopping") && site.log().contains("clean at"));
    }
}

/// Takes one client, and never answers what it publishes. Its port.
fn silent_broker() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut some = [0; 1024];
        let _ = stream.read(&mut some);
        stream.write_all(&[0x20, 2, 0, 0]).unwrap();
        while stream.read(&mut some).is_ok_and(|count| count > 0) {}
    });
    port
}

#[test]
fn a_second_signal_ends_it_at_once_and_loses_nothing() {
    let upstream = Mosquitto::new();
    let silent = silent_broker();
    let sql = application(
        &upstream.url(),
        &format!("mqtt://127.0.0.1:{silent}"),
        TOPIC,
        SUM,
    );
    let mut site = Site::new(&sql, "[shutdown]\ndeadline = \"60 s\"\n");
    site.start();
    mosquitto::wait_until("the subscription", || {
        upstream.log().contains("in/+ (QoS 1)")
    });
    publish(&upstream, "in/a", &[b"{\"n\":1}", b"{\"n\":2}"]);
    let acknowledged = || {
        upstream
            .log()
            .matches("Received PUBACK from eventflux")
            .count()
    };
    mosquitto::wait_until("two acknowledgements", || acknowledged() == 2);
    site.wait_for("connected to the broker stream=\"Alerts\"");
    site.signal("TERM");
    site.wait_for("stopping");
    let begin = Instant::now();
    site.signal("INT");
    assert_eq!(site.wait_end(), Some(6), "{}", site.log());
    assert!(begin.elapsed() < Duration::from_secs(5));
    assert!(site.log().contains("told twice to stop"), "{}", site.log());
    // Both wait for the uplink that is there at last.
    let uplink = Mosquitto::new();
    let mut listener = listen(&uplink);
    site.configure(&application(&upstream.url(), &uplink.url(), TOPIC, SUM), "");
    site.start();
    assert_eq!(next_row(&mut listener), (1, Some(1)));
    assert_eq!(next_row(&mut listener), (2, Some(3)));
    site.stop();
}

#[test]
fn a_store_that_cannot_be_opened_is_said_in_a_sentence() {
    let closed = format!("mqtt://127.0.0.1:{}", mosquitto::free_port());
    let mut site = Site::new(&application(&closed, &closed, TOPIC, SUM), "");
    site.start();
    let (code, said) = site.run_another();
    assert_eq!(code, Some(4), "{said}");
    let sentence = format!("cannot open the store `{}`: ", site.path("store").display());
    let holder = format!("{sentence}locked by process {}", site.pid());
    assert!(said.contains(&holder), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    site.stop();
    std::fs::remove_dir_all(site.path("store")).unwrap();
    std::fs::write(site.path("store"), "something else").unwrap();
    let (code, said) = site.run_to_end();
    assert_eq!(code, Some(4), "{said}");
    assert!(said.contains(&sentence), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    let kept = std::fs::read_to_string(site.path("store")).unwrap();
    assert_eq!(kept, "something else");
}

#[test]
fn a_configuration_with_errors_starts_nothing() {
    let closed = format!("mqtt://127.0.0.1:{}", mosquitto::free_port());
    let good = application(&closed, &closed, TOPIC, SUM);
    let sql = format!(
        "{good}INSERT INTO Alerts SELECT m, s FROM Readings;\n\
         INSERT INTO Other SELECT n FROM Reading;\n"
    );
    let toml = "[checkpoint]\nintervall = \"1 s\"\n[turn]\nrows_max = \"many\"\n";
    let cases: [(&str, &str, &[&str]); 2] = [
        (
            &sql,
            "",
            &["app.sql:4:", "'m'", "'s'", "app.sql:5:", "'Reading'"],
        ),
        (
            &good,
            toml,
            &["app.toml:7:", "intervall", "app.toml:9:", "rows_max"],
        ),
    ];
    for (sql, toml, parts) in cases {
        let mut site = Site::new(sql, toml);
        let (code, said) = site.run_to_end();
        assert_eq!(code, Some(3), "{said}");
        for part in parts {
            assert!(said.contains(part), "'{part}' is missing:\n{said}");
        }
        let carets = said
            .lines()
            .filter(|line| line.trim_start_matches(['|', ' ']).starts_with('^'));
        assert!(carets.count() >= 2, "{said}");
        assert!(said.contains("nothing was started"), "{said}");
        assert!(!site.path("store").exists());
    }
}

#[test]
fn without_an_uplink_everything_is_collected() {
    let (upstream, mut uplink) = (Mosquitto::new(), Mosquitto::new());
    // The far side's session is there before the uplink goes away.
    listen(&uplink).disconnect().unwrap();
    uplink.stop();
    let mut site = Site::new(&application(&upstream.url(), &uplink.url(), TOPIC, SUM), "");
    site.start();
    mosquitto::wait_until("the subscription", || {
        upstream.log().contains("in/+ (QoS 1)")
    });
    let acknowledged = || {
        upstream
            .log()
            .matches("Received PUBACK from eventflux")
            .count()
    };
    let payloads: Vec<String> = (0..300).map(|n| format!("{{\"n\":{n}}}")).collect();
    for (number, some) in (1..).zip(payloads.chunks(100)) {
        let some: Vec<&[u8]> = some.iter().map(|payload| payload.as_bytes()).collect();
        publish(&upstream, "in/a", &some);
        mosquitto::wait_until("it is collected", || acknowledged() >= number * 100);
        match number {
            1 => site.kill(),
            2 => {
                let said = site.stop();
                assert!(
                    said.contains("200 outputs wait for the next start"),
                    "{said}"
                );
            }
            _ => break,
        }
        site.start();
    }
    uplink.start();
    let mut listener = listen(&uplink);
    for n in 0..300 {
        let sum = (0.max(n - 2)..=n).sum::<i64>();
        assert_eq!(next_row(&mut listener), (n, Some(sum)));
    }
    let said = site.stop();
    assert!(said.contains("0 outputs wait"), "{said}");
}
