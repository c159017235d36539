//! MQTT in, log, SQL, outbox, MQTT out: the program between a publisher and a subscriber, all on
//! this machine.

use std::time::{Duration, Instant};

use eventflux::event::{Batch, Value};
use rumqttc::{Publish, QoS};

use crate::broker::{Mosquitto, Publisher, Subscriber, put_publish};
use crate::daemon::Daemon;
use crate::engine::BATCH_ROWS;
use crate::events::Events;
use crate::figure::{Figure, Measured};
use crate::folder;
use crate::log::json;
use crate::wait::hang;

const EVENTS: usize = 500_000;
const ROUNDS: usize = 3;
/// One event in a hundred has more.
const THRESHOLD: f64 = 49.5;
/// At which rates, in parts of what the bare subscriber takes, it is tried when publishing as fast
/// as possible loses something.
const PACES: [f64; 10] = [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1];
/// How long the last output may take.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const FIGURES: &[Figure] = &[
    Figure {
        name: "E0",
        what: "MQTT QoS 0 in, filter of 1%",
        budget: ">= 0.8 x a bare subscriber, no loss",
        measure: Some(|| rate(QoS::AtMostOnce)),
    },
    Figure {
        name: "E1",
        what: "MQTT QoS 1 in and out",
        budget: ">= 0.8 x a bare subscriber with acks",
        measure: Some(|| rate(QoS::AtLeastOnce)),
    },
    Figure {
        name: "EL",
        what: "latency at 1,000 events/s",
        budget: "p50 <= 8 ms, p99 <= 20 ms over the broker",
        measure: Some(latency),
    },
];

/// A filter between two topics.
fn filter(qos: QoS, threshold: f64) -> String {
    let qos = qos as u8;
    format!(
        "CREATE STREAM S (sensor_id STRING, temperature DOUBLE, humidity DOUBLE, seq BIGINT, \
         ts BIGINT) WITH ('type' = 'source', 'extension' = 'mqtt', 'format' = 'json', \
         'mqtt.topic' = 'in', 'mqtt.qos' = '{qos}');\n\
         CREATE STREAM Out (sensor_id STRING, temperature DOUBLE, seq BIGINT, ts BIGINT) WITH (\
         'type' = 'sink', 'extension' = 'mqtt', 'format' = 'json', 'mqtt.topic' = 'out');\n\
         INSERT INTO Out SELECT sensor_id, temperature, seq, ts FROM S \
         WHERE temperature > {threshold};\n"
    )
}

/// All events as packets, in pieces of a hundred, and how many pass the filter. One more comes
/// last and passes, so that its output tells that everything has been worked.
struct Load {
    qos: QoS,
    pieces: Vec<Vec<u8>>,
    passing: u64,
}

impl Load {
    fn new(qos: QoS) -> Load {
        let mut ids = (1..=u16::MAX).cycle();
        let mut id = move || ids.next().filter(|_| qos == QoS::AtLeastOnce);
        let (mut events, mut batch) = (Events::new(100), Batch::new(5));
        let mut load = Load {
            qos,
            pieces: Vec::new(),
            passing: 1,
        };
        for _ in 0..EVENTS / BATCH_ROWS {
            events.fill(&mut batch, BATCH_ROWS);
            let mut packets = Vec::new();
            for row in batch.rows().iter() {
                put_publish("in", id(), json(row.values).as_bytes(), &mut packets);
                let passes = matches!(row.values.get(1), Some(Value::Float(t)) if *t > THRESHOLD);
                load.passing += u64::from(passes);
            }
            load.pieces.push(packets);
        }
        let mut last = Vec::new();
        let text = br#"{"sensor_id":"last","temperature":50,"humidity":0,"seq":-1,"ts":0}"#;
        put_publish("in", id(), text, &mut last);
        load.pieces.push(last);
        load
    }

    /// Publishes everything in a thread of its own, at so many events per second at most.
    fn publish(&self, broker: &Mosquitto, pace: Option<f64>, while_publishing: impl FnOnce()) {
        let mut publisher = Publisher::connect(broker);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let begin = Instant::now();
                for (number, piece) in self.pieces.iter().enumerate() {
                    if let Some(rate) = pace {
                        pause_until(begin + Duration::from_secs_f64(events(number) / rate));
                    }
                    publisher.write(piece);
                }
            });
            while_publishing();
        });
    }
}

fn pause_until(at: Instant) {
    let left = at.saturating_duration_since(Instant::now());
    if left > Duration::from_millis(1) {
        hang(left);
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn events(pieces: usize) -> f64 {
    (pieces * BATCH_ROWS) as f64
}

fn rate(qos: QoS) -> Measured {
    let load = Load::new(qos);
    let (mut bare_best, mut best) = (0.0f64, Run::default());
    for _ in 0..ROUNDS {
        bare_best = bare_best.max(bare(&load));
        best = best.better(through(&load, None));
    }
    let all_at_once = best.rate > 0.0;
    for pace in PACES.iter().map(|part| part * bare_best) {
        if best.rate > 0.0 {
            break;
        }
        best = best.better(through(&load, Some(pace)));
    }
    let ratio = best.rate / bare_best;
    Measured {
        value: ratio,
        met: ratio >= 0.8,
        details: vec![
            ("events/s", best.rate),
            ("bare subscriber", bare_best),
            ("us of CPU/event", best.cpu_us),
            ("bytes to the disk/event", best.bytes),
            ("events/turn", best.turn_rows),
            ("(1: published at once)", f64::from(u8::from(all_at_once))),
        ],
    }
}

/// What a bare subscriber takes per second.
fn bare(load: &Load) -> f64 {
    let broker = Mosquitto::start();
    let mut subscriber = Subscriber::connect(&broker, "in", load.qos);
    let mut time = Duration::ZERO;
    load.publish(&broker, None, || {
        let begin = Instant::now();
        let mut count = 0;
        let all = subscriber.receive(PATIENCE, |_| {
            count += 1;
            count > EVENTS
        });
        assert!(all, "the bare subscriber got {count}");
        time = begin.elapsed();
    });
    events(load.pieces.len() - 1) / time.as_secs_f64()
}

#[derive(Default)]
struct Run {
    rate: f64,
    cpu_us: f64,
    bytes: f64,
    turn_rows: f64,
}

impl Run {
    fn better(self, other: Option<Run>) -> Run {
        match other {
            Some(other) if other.rate > self.rate => other,
            Some(_) | None => self,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn as_float(count: u64) -> f64 {
    count as f64
}

/// The same through the program; nothing when an event was lost.
fn through(load: &Load, pace: Option<f64>) -> Option<Run> {
    let broker = Mosquitto::start();
    let mut subscriber = Subscriber::connect(&broker, "out", load.qos);
    let daemon = Daemon::start(&filter(load.qos, THRESHOLD), &broker.url(), "");
    probe(&broker, &mut subscriber);
    let (mut time, mut count, mut all) = (Duration::ZERO, 0, false);
    load.publish(&broker, pace, || {
        let begin = Instant::now();
        all = subscriber.receive(PATIENCE, |publish| {
            count += 1;
            let marker = br#""sensor_id":"last""#;
            publish
                .payload
                .windows(marker.len())
                .any(|part| part == marker)
        });
        time = begin.elapsed();
    });
    let cpu = daemon.cpu().as_secs_f64();
    let bytes = as_float(folder::written_bytes(&daemon.id()));
    let [pipeline, source] = daemon.stop(["pipeline", "source S"]);
    let lost = source.get("queue_full");
    if !all || lost > 0 || count != load.passing {
        return None;
    }
    let total = events(load.pieces.len() - 1);
    Some(Run {
        rate: total / time.as_secs_f64(),
        cpu_us: cpu * 1e6 / total,
        bytes: bytes / total,
        turn_rows: total / as_float(pipeline.get("turns")),
    })
}

/// Publishes events until the first one has come out: everybody has subscribed then.
fn probe(broker: &Mosquitto, subscriber: &mut Subscriber) {
    let event = br#"{"sensor_id":"probe","temperature":50,"humidity":0,"seq":-1,"ts":0}"#;
    let mut packet = Vec::new();
    put_publish("in", None, event, &mut packet);
    let mut publisher = Publisher::connect(broker);
    let came = (0..PROBES_MAX).any(|_| {
        publisher.write(&packet);
        subscriber.receive(Duration::from_millis(100), |publish| {
            is_of("probe", publish)
        })
    });
    assert!(came, "nothing comes out");
}

fn is_of(sensor: &str, publish: &Publish) -> bool {
    let marker = format!("\"sensor_id\":\"{sensor}\"");
    let mut parts = publish.payload.windows(marker.len());
    parts.any(|part| part == marker.as_bytes())
}

const PROBES_MAX: usize = 100;
const PROBES: usize = 5_000;
const PROBE_EVERY: Duration = Duration::from_millis(1);

fn latency() -> Measured {
    let broker = Mosquitto::start();
    let (bare_p50, bare_p99) = round_trips(&broker, "in");
    let _daemon = Daemon::start(&filter(QoS::AtLeastOnce, -1.0), &broker.url(), "");
    let mut subscriber = Subscriber::connect(&broker, "out", QoS::AtMostOnce);
    probe(&broker, &mut subscriber);
    drop(subscriber);
    let (p50, p99) = round_trips(&broker, "out");
    let (over_p50, over_p99) = (p50 - bare_p50, p99 - bare_p99);
    Measured {
        value: over_p50,
        met: over_p50 <= 8.0 && over_p99 <= 20.0,
        details: vec![
            ("ms p50", over_p50),
            ("ms p99", over_p99),
            ("ms p50 of the broker", bare_p50),
            ("ms p99 of the broker", bare_p99),
        ],
    }
}

/// Publishes one event each millisecond to `in` and says after how many milliseconds half of them,
/// and 99 of 100, have come out at `topic`.
fn round_trips(broker: &Mosquitto, topic: &str) -> (f64, f64) {
    let mut subscriber = Subscriber::connect(broker, topic, QoS::AtMostOnce);
    let mut publisher = Publisher::connect(broker);
    let begin = Instant::now();
    let now_us = move || u64::try_from(begin.elapsed().as_micros()).expect("a short time");
    let mut all = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for number in 0..u32::try_from(PROBES).expect("a few") {
                pause_until(begin + PROBE_EVERY * number);
                let event = format!(
                    "{{\"sensor_id\":\"s\",\"temperature\":1,\"humidity\":1,\"seq\":{number},\
                     \"ts\":{}}}",
                    now_us()
                );
                let mut packet = Vec::new();
                put_publish("in", None, event.as_bytes(), &mut packet);
                publisher.write(&packet);
            }
        });
        let done = subscriber.receive(PATIENCE, |publish| {
            let event: serde_json::Value =
                serde_json::from_slice(&publish.payload).expect("JSON comes out");
            if event["sensor_id"] != "probe" {
                let sent = event["ts"].as_u64().expect("the time it was sent");
                all.push(now_us() - sent);
            }
            all.len() == PROBES
        });
        assert!(done, "{} of {PROBES} came out", all.len());
    });
    all.sort_unstable();
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let ms = |part: usize| all[PROBES * part / 100] as f64 / 1e3;
    (ms(50), ms(99))
}
