//! MQTT sources and sinks against a real mosquitto.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "common/authority.rs"]
mod authority;
#[path = "mqtt/ends.rs"]
mod ends;
#[path = "mqtt/exactly_once.rs"]
mod exactly_once;
#[path = "common/mosquitto.rs"]
mod mosquitto;
#[path = "mqtt/proxy.rs"]
mod proxy;
#[path = "mqtt/rough.rs"]
mod rough;
#[path = "mqtt/tls.rs"]
mod tls;
#[path = "common/wait.rs"]
mod wait;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use eventflux::decode::Reason;
use eventflux::event::Value;
use eventflux::sink;
use eventflux::source::{self, Dropped};

use crate::ends::{Delivering, Running, VERSIONS, key, numbered};
use crate::mosquitto::{DEADLINE, Mosquitto, wait_until};

#[test]
fn nothing_is_acknowledged_before_it_is_released() {
    for version in VERSIONS {
        let broker = Mosquitto::new();
        let more = [("mqtt.version", version)];
        let first = Running::start(&broker, &more, Vec::new());
        broker.publish("plant/a", 1, &numbered(0..5));
        let received = first.receive(5);
        assert_eq!(received.rows, [0, 1, 2, 3, 4]);
        assert_eq!(received.marks.len(), 5);
        first.kill();
        // Without the marks of the log everything is new; now it is released in part.
        let second = Running::start(&broker, &more, Vec::new());
        let received = second.receive(5);
        assert_eq!(received.rows, [0, 1, 2, 3, 4]);
        second.release(3);
        let acknowledged = |count: usize| {
            let log = broker.log();
            log.matches("Received PUBACK from tester").count() == count
        };
        wait_until("three acknowledgements", || acknowledged(3));
        second.kill();
        let third = Running::start(&broker, &more, Vec::new());
        let received = third.receive(2);
        assert_eq!(received.rows, [3, 4]);
        third.release(received.through);
        assert!(third.stop().is_empty());
        // All are acknowledged, so only what is new comes.
        broker.publish("plant/a", 1, &numbered(9..10));
        let fourth = Running::start(&broker, &more, Vec::new());
        assert_eq!(fourth.receive(1).rows, [9]);
    }
}

#[test]
fn what_the_log_has_is_recognised_after_a_restart() {
    for version in VERSIONS {
        let mut broker = Mosquitto::new();
        let more = [("mqtt.version", version)];
        let first = Running::start(&broker, &more, Vec::new());
        broker.publish("plant/a", 1, &numbered(0..3));
        let received = first.receive(3);
        let mut tail = received.marks;
        first.release(received.through);
        assert!(first.stop().is_empty());
        // Logged, and the process dies before any acknowledgement is out.
        let second = Running::start(&broker, &more, tail.clone());
        broker.publish("plant/a", 1, &numbered(3..13));
        let received = second.receive(10);
        tail.extend(received.marks);
        second.kill();
        // The same once more, and the broker restarts as well.
        let third = Running::start(&broker, &more, tail.clone());
        wait_until("ten repeats", || third.duplicates() == 10);
        broker.publish("plant/a", 1, &numbered(13..20));
        let received = third.receive(7);
        assert_eq!(received.rows, (13..20).collect::<Vec<_>>());
        tail.extend(received.marks);
        third.kill();
        broker.stop();
        broker.start();
        let fourth = Running::start(&broker, &more, tail);
        wait_until("seven repeats", || fourth.duplicates() == 7);
        broker.publish("plant/a", 1, &numbered(20..21));
        let received = fourth.receive(1);
        assert_eq!(received.rows, [20]);
        fourth.release(received.through);
        assert!(fourth.stop().is_empty());
        broker.publish("plant/a", 1, &numbered(30..31));
        let fifth = Running::start(&broker, &more, Vec::new());
        assert_eq!(fifth.receive(1).rows, [30]);
    }
}

#[test]
fn a_broker_restart_repeats_nothing_and_loses_nothing() {
    for version in VERSIONS {
        let mut broker = Mosquitto::new();
        let more = [("mqtt.version", version)];
        let source = Running::start(&broker, &more, Vec::new());
        broker.publish("plant/a", 1, &numbered(0..5));
        let received = source.receive(5);
        broker.stop();
        broker.start();
        // Also the first five of the session: this process knows that it acknowledged none.
        wait_until("five repeats", || source.duplicates() == 5);
        // Acknowledgements go to the new connection, for the first receipt.
        source.release(received.through);
        broker.publish("plant/a", 1, &numbered(5..10));
        let more_received = source.receive(5);
        assert_eq!(more_received.rows, [5, 6, 7, 8, 9]);
        // The broker goes on counting ids where it was, which the recognition relies on.
        let packets = received.marks.iter().chain(&more_received.marks);
        assert!(packets.map(|mark| mark.packet).eq(1..=10));
        source.release(more_received.through);
        assert!(source.stop().is_empty());
        broker.publish("plant/a", 1, &numbered(10..11));
        let next = Running::start(&broker, &more, Vec::new());
        assert_eq!(next.receive(1).rows, [10]);
    }
}

#[test]
fn bad_input_is_rejected_counted_and_acknowledged() {
    for version in VERSIONS {
        let broker = Mosquitto::new();
        let more = [("mqtt.version", version)];
        let source = Running::start(&broker, &more, Vec::new());
        let huge = vec![b'x'; 10 << 20];
        let bad: [(&[u8], Reason); 8] = [
            (b"{\"n\":", Reason::Malformed),
            (b"{\"n\":\"x\"}", Reason::WrongType),
            (b"{\"n\":1e999}", Reason::OutOfRange),
            (b"{\"text\":\"\xFF\"}", Reason::InvalidUtf8),
            (b"", Reason::Empty),
            (b"\x00\x01\x02", Reason::Malformed),
            (&huge, Reason::TooLarge),
            (&huge[..(1 << 20) + 1], Reason::TooLarge),
        ];
        for (payload, _) in bad {
            broker.publish_bytes("plant/bad", payload);
        }
        broker.publish("plant/a", 1, &numbered(1..2));
        let received = source.receive(9);
        assert_eq!(received.rows, [1]);
        for (rejected, (payload, reason)) in received.rejected.iter().zip(bad) {
            assert_eq!(rejected.reason, reason.word());
            assert_eq!(rejected.bytes_total, u64::try_from(payload.len()).unwrap());
            let kept = payload.len().min(source::REJECTED_BYTES_MAX);
            assert_eq!(rejected.bytes, payload[..kept]);
        }
        assert_eq!(source.metrics.rejected(Reason::TooLarge), 2);
        assert_eq!(source.metrics.rejected(Reason::Malformed), 2);
        source.release(received.through);
        assert!(source.stop().is_empty());
        broker.publish("plant/a", 1, &numbered(2..3));
        let next = Running::start(&broker, &more, Vec::new());
        assert_eq!(next.receive(1).rows, [2]);
    }
}

#[test]
fn a_pipeline_that_is_behind_loses_no_qos_1_message() {
    for version in VERSIONS {
        let broker = Mosquitto::start_with("max_inflight_messages 1000");
        let more = [
            ("mqtt.version", version),
            ("queue.bytes_max", "4096"),
            ("queue.batch_rows_max", "4"),
        ];
        let source = Running::with_capacity(&broker, &more, Vec::new(), 1);
        broker.publish("plant/a", 1, &numbered(0..300));
        let deferred = || source.metrics.deferred.load(Ordering::Relaxed);
        wait_until("messages are left to the broker", || deferred() > 0);
        let mut seen = Vec::new();
        while seen.last() != Some(&299) {
            let arrival = source.arrivals.recv_timeout(DEADLINE).unwrap();
            seen.extend(
                arrival
                    .rows
                    .rows()
                    .iter()
                    .filter_map(|row| row.values[0].as_int()),
            );
            source.release(arrival.through);
        }
        let jumps: Vec<_> = seen.windows(2).filter(|w| w[1] != w[0] + 1).collect();
        assert!(jumps.is_empty(), "{version}: {jumps:?}");
        // What was acknowledged before the connection was opened anew has reached the broker.
        assert_eq!(source.duplicates(), 0);
        assert!(source.stop().is_empty());
    }
}

#[test]
fn qos_0_beyond_the_queue_is_dropped_and_counted() {
    let broker = Mosquitto::new();
    let more = [
        ("mqtt.qos", "0"),
        ("queue.bytes_max", "4096"),
        ("queue.batch_rows_max", "4"),
    ];
    let source = Running::with_capacity(&broker, &more, Vec::new(), 1);
    broker.publish("plant/a", 0, &numbered(0..300));
    let received = || source.metrics.received.load(Ordering::Relaxed);
    wait_until("all are received", || received() == 300);
    let dropped = source.metrics.dropped(Dropped::QueueFull);
    assert!(dropped > 0);
    let mut rows = 0;
    while rows < 300 - dropped {
        let arrival = source.arrivals.recv_timeout(DEADLINE).unwrap();
        assert!(arrival.marks.is_empty());
        rows += u64::try_from(arrival.rows.len()).unwrap();
    }
    assert_eq!(rows, 300 - dropped);
}

#[test]
fn what_an_old_subscription_brings_is_dropped() {
    let broker = Mosquitto::new();
    let first = Running::start(&broker, &[], Vec::new());
    assert!(first.stop().is_empty());
    let more = [("mqtt.topic", "other/#, third/+")];
    let second = Running::start(&broker, &more, Vec::new());
    broker.publish("plant/a", 1, &numbered(0..1));
    broker.publish("third/a", 1, &numbered(1..2));
    assert_eq!(second.receive(1).rows, [1]);
    assert_eq!(second.metrics.dropped(Dropped::Unmatched), 1);
}

#[test]
fn a_retained_message_can_be_ignored() {
    for (version, choice) in VERSIONS.iter().flat_map(|v| [(v, "accept"), (v, "ignore")]) {
        let broker = Mosquitto::new();
        let port = broker.port.to_string();
        let args = [
            "-p",
            &port,
            "-t",
            "plant/a",
            "-q",
            "1",
            "-r",
            "-m",
            "{\"n\":7}",
        ];
        assert!(
            std::process::Command::new("mosquitto_pub")
                .args(args)
                .status()
                .unwrap()
                .success()
        );
        let more = [("mqtt.version", *version), ("mqtt.retained", choice)];
        let source = Running::start(&broker, &more, Vec::new());
        // A broker that speaks MQTT 5 is told not to send it.
        if (*version, choice) != ("5", "ignore") {
            wait_until("it comes", || {
                source.metrics.received.load(Ordering::Relaxed) == 1
            });
        }
        broker.publish("plant/a", 1, &numbered(8..9));
        let expected: &[i64] = if choice == "accept" { &[7, 8] } else { &[8] };
        let received = source.receive(expected.len());
        assert_eq!(received.rows, expected);
        // Sent with the ordinals of all messages, so that the retained one is acknowledged too.
        source.release(2);
        assert!(source.stop().is_empty());
    }
}

#[test]
fn the_topic_goes_into_its_column() {
    let broker = Mosquitto::new();
    let source = Running::start(&broker, &[("mqtt.topic.column", "text")], Vec::new());
    broker.publish("plant/press é", 1, &["{\"n\":1,\"text\":5}".to_owned()]);
    let arrival = source.arrivals.recv_timeout(DEADLINE).unwrap();
    assert_eq!(
        arrival.rows.row(0).unwrap().values[1],
        Value::text("plant/press é")
    );
}

/// A broker of a few lines: refuses the first two subscriptions, and then sends a message.
fn refusing_broker() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut answers = [0x80, 0x80, 0x01].iter();
        let mut packet = [0; 256];
        while let Ok(2..) = stream.read(&mut packet) {
            match (packet[0], answers.clone().next()) {
                (0x10, _) => stream.write_all(&[0x20, 2, 0, 0]).unwrap(),
                (0x82, Some(code)) => {
                    answers.next();
                    let answer = [0x90, 3, packet[2], packet[3], *code];
                    stream.write_all(&answer).unwrap();
                    if *code == 0x01 {
                        stream
                            .write_all(b"\x32\x12\x00\x07plant/a\x00\x05{\"n\":3}")
                            .unwrap();
                    }
                }
                _ => {}
            }
        }
    });
    port
}

#[test]
fn a_refused_subscription_is_tried_again() {
    let url = format!("mqtt://127.0.0.1:{}", refusing_broker());
    let source = Running::at(&url, &[], Vec::new(), 64);
    assert_eq!(source.receive(1).rows, [3]);
    let refused = source.metrics.subscriptions_refused.load(Ordering::Relaxed);
    assert_eq!(refused, 2);
}

/// MQTT 5 has a word for it; a 3.1.1 broker acknowledges and forgets.
#[test]
fn what_the_broker_does_not_let_us_publish_waits() {
    let acl = tempfile::NamedTempFile::new().unwrap();
    let allow = |topic: &str| {
        std::fs::write(acl.path(), format!("topic readwrite {topic}\n")).unwrap();
    };
    allow("plant/#");
    std::fs::set_permissions(acl.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
    let mut broker = Mosquitto::start_with(&format!("acl_file {}", acl.path().display()));
    let sink = Delivering::start(&broker.url(), &[("mqtt.version", "5")]);
    sink.send(1);
    wait_until("it is tried again", || {
        sink.metrics.retries.load(Ordering::Relaxed) >= 2
    });
    assert!(sink.confirmed.is_empty());
    allow("#");
    broker.stop();
    broker.start();
    sink.wait_confirmed(1);
    assert_eq!(sink.metrics.refused.load(Ordering::Relaxed), 0);
    assert_eq!(sink.metrics.delivered.load(Ordering::Relaxed), 1);
}

#[test]
fn what_is_too_large_for_the_broker_is_refused_in_its_place() {
    let broker = Mosquitto::start_with("max_packet_size 300");
    let sink = Delivering::start(&broker.url(), &[("mqtt.version", "5")]);
    sink.send(1);
    sink.send_text(2, &"x".repeat(400));
    sink.send(3);
    let words = sink.words_until(3);
    let refused = words
        .into_iter()
        .filter_map(|word| Some((word.key.seq.0, word.refused?)));
    let refused: Vec<_> = refused.collect();
    let why = "larger than the broker accepts".to_owned();
    assert_eq!(refused, [(2, sink::Refused { why, attempts: 0 })]);
    assert_eq!(sink.metrics.delivered.load(Ordering::Relaxed), 2);
}

#[test]
fn a_topic_made_of_the_row_goes_its_way_or_is_refused() {
    for version in VERSIONS {
        let broker = Mosquitto::new();
        broker.open_mailbox("plant/#");
        let more = [
            ("mqtt.version", version),
            ("mqtt.topic", "plant/{{text}}/{{_streamName}}"),
            ("mqtt.retain", "true"),
        ];
        let sink = Delivering::start(&broker.url(), &more);
        sink.send_text(1, "a");
        sink.send_text(2, "no+topic");
        sink.send_text(3, "b");
        let words = sink.words_until(3);
        let refused: Vec<_> = words
            .iter()
            .filter_map(|word| word.refused.clone())
            .collect();
        assert_eq!(refused.len(), 1);
        let why = "its topic `plant/no+topic/Alerts` cannot be published to";
        assert_eq!(refused[0].why, why);
        let lines = broker.collect("plant/#", 2, "%t");
        assert_eq!(lines, ["plant/a/Alerts", "plant/b/Alerts"]);
        // And the broker has kept them, which a new session shows.
        let source = Running::at(&broker.url(), &[], Vec::new(), 64);
        assert_eq!(source.receive(2).rows.len(), 2);
    }
}

#[test]
fn a_sink_passes_over_what_was_given_up() {
    let mut broker = Mosquitto::new();
    broker.open_mailbox("alerts");
    broker.stop();
    let sink = Delivering::start(&broker.url(), &[]);
    (1..=5).for_each(|number| sink.send(number));
    sink.settled.send_replace(key(3));
    broker.start();
    sink.wait_confirmed(5);
    let passed_over = sink.metrics.passed_over.load(Ordering::Relaxed);
    assert_eq!(passed_over, 3);
    let lines = broker.collect("alerts", 2, "%p");
    assert!(
        lines[0].contains("\"n\":4") && lines[1].contains("\"n\":5"),
        "{lines:?}"
    );
}

#[test]
fn a_sink_confirms_nothing_while_the_broker_is_away() {
    for version in VERSIONS {
        let mut broker = Mosquitto::new();
        broker.open_mailbox("alerts");
        broker.stop();
        let sink = Delivering::start(&broker.url(), &[("mqtt.version", version)]);
        for number in 1..=250 {
            sink.send(number);
        }
        let attempts = || sink.metrics.disconnects.load(Ordering::Relaxed);
        wait_until("an attempt", || attempts() >= 1);
        assert!(sink.confirmed.is_empty());
        broker.start();
        sink.wait_confirmed(250);
        assert_eq!(sink.metrics.delivered.load(Ordering::Relaxed), 250);
        drop(sink.to);
        sink.thread.join().unwrap();
        let format = if version == "5" { "%P %p" } else { "%p" };
        for (number, line) in (1..).zip(broker.collect("alerts", 250, format)) {
            if version == "5" {
                let (properties, payload) = line.split_once(" {").unwrap();
                let expected = format!("id:ab-{number}-0-0 time:1000 age_ms:");
                assert!(properties.starts_with(&expected), "{properties}");
                assert_eq!(payload, format!("\"n\":{number},\"text\":\"x\"}}"));
                continue;
            }
            let expected = format!("{{\"_id\":\"ab-{number}-0-0\",\"n\":{number},\"text\":\"x\"}}");
            assert_eq!(line, expected);
        }
    }
}

#[test]
fn a_sink_survives_broker_restarts_without_loss() {
    for version in VERSIONS {
        let mut broker = Mosquitto::new();
        broker.open_mailbox("alerts");
        let sink = Delivering::start(&broker.url(), &[("mqtt.version", version)]);
        let mut number = 0;
        for _ in 0..2 {
            for _ in 0..300 {
                number += 1;
                sink.send(number);
            }
            broker.stop();
            broker.start();
        }
        sink.wait_confirmed(number);
        let count = usize::try_from(number).unwrap();
        let repeated = usize::try_from(sink.metrics.retries.load(Ordering::Relaxed)).unwrap();
        drop(sink.to);
        sink.thread.join().unwrap();
        // At least once: a repeat carries the id of the original.
        let mut ids = BTreeSet::new();
        let mut twice = 0;
        while ids.len() < count {
            // The broker gives the next collector again what the one before did not acknowledge in
            // time: only within one of them is what comes twice ours.
            let lines = broker.collect("alerts", count - ids.len(), "%p");
            let numbers = lines.iter().map(|line| {
                let value: serde_json::Value = serde_json::from_str(line).unwrap();
                value["n"].as_u64().unwrap()
            });
            let some: BTreeSet<u64> = numbers.collect();
            twice += lines.len() - some.len();
            ids.extend(some);
        }
        assert!(twice <= repeated, "{twice} came twice, {repeated} repeated");
    }
}

#[test]
fn a_sink_stops_in_time_without_a_broker() {
    let broker_url = format!("mqtt://127.0.0.1:{}", mosquitto::free_port());
    let sink = Delivering::start(&broker_url, &[]);
    sink.send(1);
    wait_until("an attempt", || {
        sink.metrics.disconnects.load(Ordering::Relaxed) >= 1
    });
    let begin = Instant::now();
    sink.stop.send_replace(true);
    sink.thread.join().unwrap();
    assert!(begin.elapsed() < Duration::from_secs(3));
    assert!(sink.confirmed.is_empty());
}

/// What waits for a pause of minutes is no reason to stay.
#[test]
fn a_sink_that_is_held_back_stops_at_once() {
    let broker = Mosquitto::new();
    let options = [
        ("mqtt.topic", "alerts/{{text}}"),
        ("error.strategy", "retry"),
        ("error.retry.min", "600000"),
        ("error.retry.max", "600000"),
    ];
    let sink = Delivering::start(&broker.url(), &options);
    sink.send_text(1, "#");
    wait_until("it is refused", || {
        sink.metrics.retries.load(Ordering::Relaxed) == 1
    });
    let begin = Instant::now();
    sink.stop.send_replace(true);
    sink.thread.join().unwrap();
    let lasted = begin.elapsed();
    assert!(lasted < Duration::from_secs(1), "{lasted:?}");
    assert!(sink.confirmed.try_recv().is_err());
}
