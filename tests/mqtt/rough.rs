//! Brokers that flood, go away, forget and change, and sources that share: nothing is lost.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::Ordering;

use eventflux::decode::Reason;
use eventflux::event::{Field, ReportKind, Schema, Type, Value};

use crate::ends::{Delivering, Running, VERSIONS, numbered, schema};
use crate::mosquitto::{DEADLINE, Mosquitto, wait_until};

/// Publishes `count` numbers with QoS 1 in one go, each to its topic, and returns when the broker
/// has them all.
fn flood(broker: &Mosquitto, count: u16, retain: bool, topic: impl Fn(u16) -> String) {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, broker.port)).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut reader = stream.try_clone().unwrap();
    let answers = usize::from(count) * 4 + 4;
    let reading = std::thread::spawn(move || reader.read_exact(&mut vec![0; answers]).unwrap());
    let mut bytes = b"\x10\x11\0\x04MQTT\x04\x02\0\0\0\x05flood".to_vec();
    for number in 0..count {
        let topic = topic(number);
        let mut body = u16::try_from(topic.len()).unwrap().to_be_bytes().to_vec();
        body.extend(topic.as_bytes());
        body.extend((number + 1).to_be_bytes());
        body.extend(format!("{{\"n\":{number}}}").as_bytes());
        bytes.push(if retain { 0x33 } else { 0x32 });
        bytes.push(u8::try_from(body.len()).unwrap());
        assert!(body.len() < 128);
        bytes.extend(body);
    }
    stream.write_all(&bytes).unwrap();
    reading.join().unwrap();
    stream.write_all(b"\xE0\0").unwrap();
}

#[test]
fn a_retained_flood_into_a_small_queue_loses_nothing() {
    const COUNT: u16 = 3_000;
    for version in VERSIONS {
        let broker = Mosquitto::start_with("max_inflight_messages 1000");
        flood(&broker, COUNT, true, |number| format!("plant/{number}"));
        let more = [("mqtt.version", version), ("queue.bytes_max", "20000")];
        let source = Running::with_capacity(&broker, &more, Vec::new(), 1);
        let deferred = || source.metrics.deferred.load(Ordering::Relaxed);
        wait_until("messages are left to the broker", || deferred() > 0);
        let rows = source.drain(|rows| rows.len() >= usize::from(COUNT));
        let distinct: BTreeSet<i64> = rows.iter().copied().collect();
        assert_eq!((rows.len(), distinct.len()), (3_000, 3_000), "{version}");
        assert!(source.stop().is_empty());
    }
}

#[test]
fn a_burst_into_a_stalled_pipeline_loses_nothing() {
    const COUNT: u16 = 10_000;
    for (version, qos) in VERSIONS.into_iter().zip(["1", "2"]) {
        let broker = Mosquitto::start_with("max_inflight_messages 1000");
        let more = [
            ("mqtt.version", version),
            ("mqtt.qos", qos),
            ("queue.bytes_max", "200000"),
        ];
        let source = Running::with_capacity(&broker, &more, Vec::new(), 1);
        flood(&broker, COUNT, false, |_| "plant/a".to_owned());
        let received = || source.metrics.received.load(Ordering::Relaxed);
        // The pipeline takes nothing and releases nothing, and the source goes on reading.
        wait_until("the broker has sent what it may", || received() >= 1_000);
        let rows = source.drain(|rows| rows.len() >= usize::from(COUNT));
        assert!(
            rows.into_iter().eq(0..i64::from(COUNT)),
            "{version}: in order, once"
        );
        assert!(source.stop().is_empty());
    }
}

#[test]
fn two_sources_share_a_subscription() {
    for version in VERSIONS {
        let broker = Mosquitto::new();
        let start = |id| {
            let more = [
                ("mqtt.version", version),
                ("mqtt.topic", "$share/pair/plant/#"),
                ("mqtt.client_id", id),
            ];
            let source = Running::start(&broker, &more, Vec::new());
            wait_until("it is subscribed", || {
                broker.log().contains(&format!("Sending SUBACK to {id}"))
            });
            source
        };
        let (one, other) = (start("one"), start("other"));
        broker.publish("plant/a", 1, &numbered(0..400));
        let (mut rows, mut shares) = (Vec::new(), [0, 0]);
        wait_until("all have come", || {
            for (share, source) in shares.iter_mut().zip([&one, &other]) {
                for arrival in source.arrivals.try_iter() {
                    let all = arrival.rows.rows();
                    *share += arrival.rows.len();
                    rows.extend(all.iter().filter_map(|row| row.values[0].as_int()));
                    source.release(arrival.through);
                }
            }
            rows.len() >= 400
        });
        rows.sort_unstable();
        assert!(rows.into_iter().eq(0..400), "each to one of them");
        assert!(shares[0] > 0 && shares[1] > 0, "{shares:?}");
    }
}

#[test]
fn a_broker_that_forgets_us_is_subscribed_to_again() {
    for version in VERSIONS {
        let mut broker = Mosquitto::start_with("persistence false");
        let more = [("mqtt.version", version), ("mqtt.reconnect.min", "1")];
        let source = Running::start(&broker, &more, Vec::new());
        broker.publish("plant/a", 1, &numbered(0..5));
        // Received, and not acknowledged when the broker forgets that it has sent it.
        let received = source.receive(5);
        broker.stop();
        broker.start();
        let subscribed = || broker.log().matches("Sending SUBACK to tester").count() == 2;
        wait_until("it is subscribed again", subscribed);
        broker.publish("plant/a", 1, &numbered(5..10));
        let more = source.receive(5);
        assert_eq!(
            (received.rows, more.rows),
            (vec![0, 1, 2, 3, 4], vec![5, 6, 7, 8, 9])
        );
        source.release(more.through);
        assert!(source.stop().is_empty());
    }
}

/// Ids that start over in a new session are no ids that are used again, also for a later process.
#[test]
fn repeats_are_recognised_though_the_session_before_was_lost() {
    for version in VERSIONS {
        let mut broker = Mosquitto::start_with("persistence false");
        let more = [("mqtt.version", version), ("mqtt.reconnect.min", "1")];
        let source = Running::start(&broker, &more, Vec::new());
        broker.publish("plant/a", 1, &numbered(0..2));
        let lost = source.receive(2);
        source.release(lost.through);
        broker.stop();
        broker.start();
        let subscribed = || broker.log().matches("Sending SUBACK to tester").count() == 2;
        wait_until("it is subscribed again", subscribed);
        broker.publish("plant/a", 1, &numbered(2..12));
        // The first ids of a session are in doubt by themselves: these are acknowledged.
        let next = source.receive(10);
        source.release(next.through);
        broker.publish("plant/a", 1, &numbered(12..17));
        // In the log, and not acknowledged when the process dies.
        let last = source.receive(5);
        source.kill();
        let log = [lost.marks, next.marks, last.marks].concat();
        let source = Running::start(&broker, &more, log);
        broker.publish("plant/a", 1, &numbered(17..18));
        assert_eq!(source.drain(|rows| !rows.is_empty()), [17]);
        assert_eq!(source.duplicates(), 5);
        assert!(source.stop().is_empty());
    }
}

#[test]
fn the_next_broker_of_a_list_takes_over() {
    for version in VERSIONS {
        let (mut first, mut second) = (Mosquitto::new(), Mosquitto::new());
        first.stop();
        let list = format!("{}, {}", first.url(), second.url());
        let more = [("mqtt.version", version), ("mqtt.reconnect.min", "1")];
        let source = Running::at(&list, &more, Vec::new(), 64);
        let sink = Delivering::start(&list, &more);
        let subscribed = |broker: &Mosquitto, count| {
            wait_until("it is subscribed", || {
                broker.log().matches("Sending SUBACK to tester").count() == count
            });
        };
        subscribed(&second, 1);
        second.publish("plant/a", 1, &numbered(0..3));
        assert_eq!(source.drain(|rows| rows.len() == 3), [0, 1, 2]);
        sink.send(1);
        sink.wait_confirmed(1);
        first.start();
        second.stop();
        subscribed(&first, 1);
        first.publish("plant/a", 1, &numbered(3..6));
        assert_eq!(source.drain(|rows| rows.len() == 3), [3, 4, 5]);
        sink.send(2);
        sink.wait_confirmed(2);
        assert!(source.stop().is_empty());
    }
}

#[test]
fn a_watcher_sees_us_come_and_go() {
    for version in VERSIONS {
        let broker = Mosquitto::start_with("queue_qos0_messages true");
        broker.open_mailbox("status/+");
        let more = [
            ("mqtt.version", version),
            ("mqtt.will.topic", "status/gateway"),
            ("mqtt.will.payload", "offline"),
            ("mqtt.birth.topic", "status/gateway"),
            ("mqtt.birth.payload", "here"),
        ];
        Running::start(&broker, &more, Vec::new()).kill();
        assert!(Running::start(&broker, &more, Vec::new()).stop().is_empty());
        let sink = Delivering::start(&broker.url(), &more);
        sink.send(1);
        sink.wait_confirmed(1);
        drop(sink.to);
        sink.thread.join().unwrap();
        let lines = broker.collect("status/+", 6, "%p");
        let expected = ["here", "offline", "here", "offline", "here", "offline"];
        assert_eq!(lines, expected, "{version}");
    }
}

#[test]
fn levels_of_the_topic_go_into_columns() {
    let columns = [
        ("n", Type::Long),
        ("line", Type::String),
        ("device", Type::Int),
        ("kept", Type::Bool),
    ];
    let field = |(name, ty): &(&str, Type)| Field {
        name: (*name).to_owned(),
        ty: *ty,
    };
    let schema = Schema::new(columns.iter().map(field).collect());
    let broker = Mosquitto::new();
    let url = broker.url();
    let more = [
        ("mqtt.broker", url.as_str()),
        ("mqtt.topic", "plant/{line}/{device}/temp, other/{line}/#"),
        ("mqtt.retained.column", "kept"),
    ];
    let source = Running::of(&schema, &more, Vec::new(), 64);
    wait_until("it is subscribed", || {
        let log = broker.log();
        log.contains("plant/+/+/temp") && log.contains("other/+/#")
    });
    let mut published = String::new();
    for (topic, number) in [
        ("plant/press/7/temp", 1),
        ("plant/press/x/temp", 2),
        ("other/é", 3),
    ] {
        broker.publish(topic, 1, &numbered(number..number + 1));
        writeln!(published, "{topic}").unwrap();
    }
    let (mut rows, mut rejected) = (Vec::new(), Vec::new());
    while rows.len() + rejected.len() < 3 {
        let arrival = source.arrivals.recv_timeout(DEADLINE).unwrap();
        rows.extend(arrival.rows.rows().iter().map(|row| row.values.to_vec()));
        rejected.extend(arrival.rejected);
        assert!(!arrival.marks.is_empty(), "rejects are recognised too");
    }
    let row = |n, line, device| vec![Value::Int(n), Value::text(line), device, Value::Bool(false)];
    let expected = [row(1, "press", Value::Int(7)), row(3, "é", Value::Null)];
    assert_eq!(rows, expected, "{published}");
    assert_eq!(rejected[0].reason, Reason::WrongType.word());
    assert_eq!(
        rejected[0].detail,
        "the topic's level `x` is not a whole number"
    );
}

#[test]
fn a_stream_that_fails_ends_without_acknowledging() {
    for version in VERSIONS {
        let broker = Mosquitto::new();
        let more = [("mqtt.version", version), ("error.strategy", "fail")];
        let source = Running::start(&broker, &more, Vec::new());
        broker.publish("plant/a", 1, &numbered(0..2));
        broker.publish_bytes("plant/a", b"no JSON");
        broker.publish("plant/a", 1, &numbered(3..4));
        assert_eq!(source.drain(|rows| rows.len() == 2), [0, 1]);
        let report = source.report(ReportKind::SourceFailed);
        assert!(report.reason.starts_with("malformed"), "{}", report.reason);
        // It ends by itself, and says farewell.
        source.thread.join().unwrap();
        let next = Running::start(&broker, &[("mqtt.version", version)], Vec::new());
        let received = next.receive(2);
        assert_eq!((received.rows, received.rejected.len()), (vec![3], 1));
    }
}

#[test]
fn a_quiet_stream_is_heard_to_be_silent() {
    let broker = Mosquitto::new();
    let url = broker.url();
    let all = [
        ("mqtt.broker", url.as_str()),
        ("mqtt.topic", "plant/#"),
        ("idle_timeout", "50"),
    ];
    let source = Running::of(&schema(), &all, Vec::new(), 64);
    source.report(ReportKind::SourceUp);
    source.report(ReportKind::SourceSilent);
    broker.publish("plant/a", 1, &numbered(0..1));
    source.report(ReportKind::SourceHeard);
}
