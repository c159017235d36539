//! QoS 2 both ways, while the connection is cut in every phase of the exchange.

use std::sync::atomic::Ordering;

use crate::ends::{Delivering, Running, VERSIONS, numbered};
use crate::mosquitto::{Mosquitto, wait_until};
use crate::proxy::{Cut, PUBCOMP, PUBLISH, PUBREC, PUBREL, Proxy};

const COUNT: i64 = 20;

/// The four packets of an exchange; `inwards`: whether its message goes to the client.
fn cuts(inwards: bool) -> impl Iterator<Item = Cut> {
    let phases = [
        (PUBLISH, inwards),
        (PUBREC, !inwards),
        (PUBREL, inwards),
        (PUBCOMP, !inwards),
    ];
    phases.into_iter().flat_map(|(kind, to_client)| {
        [(false, 0), (true, 0), (false, 5), (true, 5)].map(|(passes, after)| Cut {
            kind,
            to_client,
            after,
            passes,
        })
    })
}

fn once_each(mut rows: Vec<i64>) -> bool {
    rows.sort_unstable();
    rows.into_iter().eq(0..COUNT)
}

/// All at once, since `mosquitto_pub` takes its time with QoS 2.
#[test]
fn every_message_makes_one_row_wherever_the_connection_is_cut() {
    let broker = Mosquitto::new();
    let all = VERSIONS
        .iter()
        .flat_map(|v| cuts(true).map(move |c| (v, c)));
    let mut ways = Vec::new();
    for (number, (version, cut)) in (0..).zip(all) {
        let (id, proxy) = (format!("way-{number}-"), Proxy::start(broker.port, cut));
        let more = [
            ("mqtt.version", *version),
            ("mqtt.qos", "2"),
            ("mqtt.client_id", &id),
            ("mqtt.reconnect.min", "1"),
        ];
        let source = Running::at(&proxy.url(), &more, Vec::new(), 64);
        ways.push((format!("{version} {cut:?}"), id, proxy, source));
    }
    let said = |what: &str| broker.log().matches(&format!("{what} way-")).count();
    wait_until("all are subscribed", || {
        said("Sending SUBACK to") == ways.len()
    });
    broker.publish("plant/a", 2, &numbered(0..COUNT));
    let enough = usize::try_from(COUNT).unwrap();
    for (way, id, proxy, source) in &ways {
        let rows = source.drain(|rows| rows.len() >= enough);
        wait_until("the cut", || proxy.has_cut());
        assert!(once_each(rows.clone()), "{way}: {rows:?}");
        // The exchanges are completed, so that only what is new comes.
        let completed = || {
            let log = broker.log();
            log.matches(&format!("Received PUBCOMP from {id}")).count()
        };
        wait_until("all are completed", || completed() >= enough);
    }
    broker.publish("plant/a", 2, &numbered(COUNT..COUNT + 1));
    for (way, _, _, source) in &ways {
        assert_eq!(source.drain(|rows| !rows.is_empty()), [COUNT], "{way}");
    }
}

#[test]
fn a_restart_answers_what_the_last_process_has_left_open() {
    for version in VERSIONS {
        let broker = Mosquitto::new();
        // Recorded, and the broker's PUBREL does not arrive.
        let cut = Cut {
            kind: PUBREL,
            to_client: true,
            after: 0,
            passes: false,
        };
        let proxy = Proxy::start(broker.port, cut);
        let url = proxy.url();
        let more = [("mqtt.version", version), ("mqtt.qos", "2")];
        let slow = [
            ("mqtt.broker", url.as_str()),
            ("mqtt.reconnect.min", "30000"),
        ];
        let all: Vec<(&str, &str)> = more.iter().chain(&slow).copied().collect();
        let first = Running::start(&broker, &all, Vec::new());
        broker.publish("plant/a", 2, &numbered(0..3));
        let received = first.receive(3);
        first.release(received.through);
        wait_until("the cut", || proxy.has_cut());
        first.kill();
        // The log has all three, whatever the broker makes of them.
        let second = Running::start(&broker, &more, received.marks);
        broker.publish("plant/a", 2, &numbered(3..4));
        assert_eq!(second.drain(|rows| !rows.is_empty()), [3]);
        // QoS may be lowered while an exchange is open.
        second.kill();
        let third = Running::start(&broker, &[("mqtt.version", version)], Vec::new());
        broker.publish("plant/a", 2, &numbered(4..5));
        let rows = third.drain(|rows| rows.contains(&4));
        assert!(!rows.contains(&0), "{rows:?}");
    }
}

#[test]
fn every_output_arrives_once_wherever_the_connection_is_cut() {
    let broker = Mosquitto::new();
    broker.open_mailbox("alerts/#");
    let all = VERSIONS
        .iter()
        .flat_map(|v| cuts(false).map(move |c| (v, c)));
    let mut expected = Vec::new();
    for (way, (version, cut)) in (0..).zip(all) {
        let proxy = Proxy::start(broker.port, cut);
        let (id, topic) = (format!("sink-{way}"), format!("alerts/{way}/{{{{text}}}}"));
        let more = [
            ("mqtt.version", *version),
            ("mqtt.qos", "2"),
            ("mqtt.topic", &topic),
            ("mqtt.client_id", &id),
            ("mqtt.inflight_max", "7"),
            ("mqtt.reconnect.min", "1"),
        ];
        let sink = Delivering::start(&proxy.url(), &more);
        let count = u64::try_from(COUNT).unwrap();
        (1..=count).for_each(|number| sink.send(number));
        sink.wait_confirmed(count);
        wait_until("the cut", || proxy.has_cut());
        assert_eq!(sink.metrics.delivered.load(Ordering::Relaxed), count);
        drop(sink.to);
        sink.thread.join().unwrap();
        expected.extend((1..=COUNT).map(|number| (format!("alerts/{way}/x"), number)));
    }
    // One more ends the collection, so that a repeat would show.
    broker.publish("alerts/end", 1, &numbered(0..1));
    expected.push(("alerts/end".to_owned(), 0));
    let lines = broker.collect("alerts/#", expected.len(), "%t %p");
    let split = lines.iter().map(|line| line.split_once(' ').unwrap());
    let came: Vec<(String, i64)> = split
        .map(|(topic, payload)| (topic.to_owned(), number(payload)))
        .collect();
    assert_eq!(came, expected);
}

fn number(line: &str) -> i64 {
    let value: serde_json::Value = serde_json::from_str(line).unwrap();
    value["n"].as_i64().unwrap()
}

#[test]
fn a_new_process_does_not_meet_the_exchanges_of_an_old_one() {
    for version in VERSIONS {
        let broker = Mosquitto::new();
        broker.open_mailbox("alerts");
        // The broker has recorded message 1 under packet id 1, and waits for its PUBREL for ever.
        let cut = Cut {
            kind: PUBREL,
            to_client: false,
            after: 0,
            passes: false,
        };
        let proxy = Proxy::start(broker.port, cut);
        let more = [("mqtt.version", version), ("mqtt.qos", "2")];
        let slow = [("mqtt.reconnect.min", "30000")];
        let all: Vec<(&str, &str)> = more.iter().chain(&slow).copied().collect();
        let first = Delivering::start(&proxy.url(), &all);
        first.send(1);
        wait_until("the cut", || proxy.has_cut());
        first.stop.send_replace(true);
        first.thread.join().unwrap();
        let second = Delivering::start(&broker.url(), &more);
        second.send(2);
        second.wait_confirmed(2);
        let lines = broker.collect("alerts", 1, "%p");
        assert_eq!(
            number(&lines[0]),
            2,
            "{version}: not taken for a repeat of 1"
        );
    }
}
