//! The built-in broker and the simulated sensor work with our own source.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]
#![cfg(feature = "broker")]

#[path = "common/wait.rs"]
mod wait;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use eventflux::config::Definition;
use eventflux::config::options::{Layer, OptionValue, Options};
use eventflux::demo::{broker, sensor};
use eventflux::event::{Field, Schema, Type};
use eventflux::source::{Arrival, Context, Metrics, Source};
use tokio::sync::watch;

const DEADLINE: Duration = Duration::from_secs(10);

struct Running {
    arrivals: crossbeam::channel::Receiver<Arrival>,
    released: watch::Sender<u64>,
    stop: watch::Sender<bool>,
    metrics: Arc<Metrics>,
    thread: std::thread::JoinHandle<()>,
}

fn start(broker: SocketAddr, client_id: &str) -> Running {
    let schema = Schema::new(vec![
        Field {
            name: "device".to_owned(),
            ty: Type::String,
        },
        Field {
            name: "temperature".to_owned(),
            ty: Type::Double,
        },
    ]);
    let mut options = Options::default();
    for (name, text) in [
        ("mqtt.broker", format!("mqtt://{broker}")),
        ("mqtt.topic", "plant/+/climate".to_owned()),
    ] {
        options.set(name, OptionValue::Text(text), Layer::Sql);
    }
    let source = Source::new(&Definition {
        stream: "S",
        extension: "mqtt",
        format: "json",
        options: &options,
        schema: &schema,
        client_id,
    })
    .unwrap();
    let (to, arrivals) = crossbeam::channel::bounded(64);
    let (released, was_released) = watch::channel(0);
    let (stop, stopped) = watch::channel(false);
    let metrics = Arc::new(Metrics::default());
    let context = Context {
        name: "Climate".to_owned(),
        source: 0,
        arrivals: to,
        released: was_released,
        tail: Vec::new(),
        stop: stopped,
        stop_within: Duration::from_secs(2),
        metrics: Arc::clone(&metrics),
        reporter: eventflux::report::Reporter::default(),
    };
    let thread = std::thread::spawn(move || block_on(source.run(context)));
    Running {
        arrivals,
        released,
        stop,
        metrics,
        thread,
    }
}

fn block_on(task: impl Future<Output = ()>) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap().block_on(task);
}

#[test]
fn an_alert_is_due_within_three_seconds() {
    let at = broker::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let running = start(at, "reader");
    wait::wait_until("the connection", || {
        running.metrics.connected.load(Ordering::Relaxed)
    });
    let (stop_sensor, stopped) = watch::channel(false);
    let sensor = std::thread::spawn(move || block_on(sensor::run(at, 1, stopped)));
    let begin = Instant::now();
    let mut is_hot = false;
    let mut rows = 0;
    // Longer than the hundred messages that the broker leaves unacknowledged.
    while rows < 140 {
        let arrival = running.arrivals.recv_timeout(DEADLINE).unwrap();
        rows += arrival.rows.len();
        for row in arrival.rows.rows().iter() {
            if row.values[1].as_float().unwrap() > sensor::HOT_CELSIUS && !is_hot {
                is_hot = true;
                assert!(begin.elapsed() < Duration::from_secs(3));
            }
        }
        running.released.send_replace(arrival.through);
    }
    assert!(is_hot);
    stop_sensor.send_replace(true);
    sensor.join().unwrap();
    running.stop.send_replace(true);
    running.thread.join().unwrap();
    assert_eq!(running.metrics.disconnects.load(Ordering::Relaxed), 0);

    // A session that was kept: what was published in between is there at the next start.
    let (stop_sensor, stopped) = watch::channel(false);
    let sensor = std::thread::spawn(move || block_on(sensor::run(at, 1, stopped)));
    let other = start(at, "other reader");
    let arrival = other.arrivals.recv_timeout(DEADLINE).unwrap();
    assert!(!arrival.rows.is_empty());
    other.stop.send_replace(true);
    stop_sensor.send_replace(true);
    sensor.join().unwrap();
    let running = start(at, "reader");
    let arrival = running.arrivals.recv_timeout(DEADLINE).unwrap();
    assert!(!arrival.rows.is_empty());
    running.released.send_replace(arrival.through);
    running.stop.send_replace(true);
    running.thread.join().unwrap();
}

#[test]
fn only_ever_on_the_loopback_address() {
    let at = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    assert!(matches!(
        broker::start(at),
        Err(broker::Error::NotLoopback(_))
    ));
}
