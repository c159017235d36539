//! A source and a sink as the daemon runs them, with the test in the pipeline's place.

#![allow(dead_code, reason = "each part of the test program uses its part")]

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::Receiver;
use eventflux::config::Definition;
use eventflux::config::options::{Layer, OptionValue, Options};
use eventflux::event::{
    DeliveryMark, Field, OutputKey, Rejected, Report, ReportKind, Schema, Seq, Timestamp, Type,
    Value,
};
use eventflux::report::Reporter;
use eventflux::sink::{self, Confirmed, Delivery, Sink};
use eventflux::source::{self, Arrival, Source};
use tokio::sync::{mpsc, oneshot, watch};

use crate::mosquitto::{DEADLINE, Mosquitto, wait_until};

pub(crate) const VERSIONS: [&str; 2] = ["3.1.1", "5"];

pub(crate) fn schema() -> Schema {
    let field = |name: &str, ty| Field {
        name: name.to_owned(),
        ty,
    };
    Schema::new(vec![field("n", Type::Long), field("text", Type::String)])
}

pub(crate) fn options(all: &[(&str, &str)]) -> Options {
    let mut options = Options::default();
    for (name, text) in all {
        let value = match (text.parse(), *text) {
            (Ok(number), _) if *name != "mqtt.version" => OptionValue::Integer(number),
            (_, "true" | "false") => OptionValue::Flag(*text == "true"),
            (_, text) => OptionValue::Text(text.to_owned()),
        };
        options.set(name, value, Layer::Sql);
    }
    options
}

/// A source on a thread and a runtime of its own, as in the daemon.
pub(crate) struct Running {
    pub(crate) arrivals: Receiver<Arrival>,
    pub(crate) released: watch::Sender<u64>,
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) kill: Option<oneshot::Sender<()>>,
    pub(crate) metrics: Arc<source::Metrics>,
    pub(crate) reports: RefCell<mpsc::Receiver<Report>>,
    pub(crate) thread: JoinHandle<()>,
}

impl Running {
    pub(crate) fn start(
        broker: &Mosquitto,
        more: &[(&str, &str)],
        tail: Vec<DeliveryMark>,
    ) -> Running {
        Running::with_capacity(broker, more, tail, 64)
    }

    pub(crate) fn with_capacity(
        broker: &Mosquitto,
        more: &[(&str, &str)],
        tail: Vec<DeliveryMark>,
        capacity: usize,
    ) -> Running {
        let running = Running::at(&broker.url(), more, tail, capacity);
        // The subscription is written right after; the broker logs it.
        wait_until("the source is subscribed", || {
            broker.log().contains("plant/#") || broker.log().contains("other/#")
        });
        running
    }

    /// One that is connected.
    pub(crate) fn at(
        url: &str,
        more: &[(&str, &str)],
        tail: Vec<DeliveryMark>,
        capacity: usize,
    ) -> Running {
        let mut all = vec![("mqtt.broker", url), ("mqtt.topic", "plant/#")];
        all.extend(more);
        let running = Running::of(&schema(), &all, tail, capacity);
        wait_until("the source is connected", || {
            running.metrics.connected.load(Ordering::Relaxed)
        });
        running
    }

    pub(crate) fn of(
        schema: &Schema,
        all: &[(&str, &str)],
        tail: Vec<DeliveryMark>,
        capacity: usize,
    ) -> Running {
        let source = Source::new(&Definition {
            stream: "S",
            extension: "mqtt",
            format: "json",
            options: &options(all),
            schema,
            client_id: "tester",
        })
        .unwrap();
        let (to, arrivals) = crossbeam::channel::bounded(capacity);
        let (released, was_released) = watch::channel(0);
        let (stop, stopped) = watch::channel(false);
        let (kill, killed) = oneshot::channel::<()>();
        let (reporter, reports) = Reporter::new();
        let metrics = Arc::new(source::Metrics::default());
        let context = source::Context {
            name: "Readings".to_owned(),
            source: 0,
            arrivals: to,
            released: was_released,
            tail,
            stop: stopped,
            stop_within: Duration::from_secs(5),
            metrics: Arc::clone(&metrics),
            reporter,
        };
        Running {
            arrivals,
            released,
            stop,
            kill: Some(kill),
            metrics,
            reports: RefCell::new(reports),
            thread: on_a_thread(source.run(context), killed),
        }
    }

    /// Waits for a report of this kind.
    pub(crate) fn report(&self, kind: ReportKind) -> Report {
        let mut found = None;
        wait_until("a report", || {
            let mut reports = self.reports.borrow_mut();
            while found.is_none() {
                let Ok(report) = reports.try_recv() else {
                    return false;
                };
                found = (report.kind == kind).then_some(report);
            }
            true
        });
        found.unwrap()
    }

    /// Takes what comes and releases it at once, until `is_enough`; every number that came.
    pub(crate) fn drain(&self, is_enough: impl Fn(&[i64]) -> bool) -> Vec<i64> {
        let mut rows = Vec::new();
        while !is_enough(&rows) {
            let arrival = self.arrivals.recv_timeout(DEADLINE);
            let arrival = arrival.expect("an arrival in time");
            let all = arrival.rows.rows();
            rows.extend(all.iter().filter_map(|row| row.values[0].as_int()));
            self.release(arrival.through);
        }
        rows
    }

    /// Everything that arrives until there are `count` rows and rejects.
    pub(crate) fn receive(&self, count: usize) -> Received {
        let mut received = Received::default();
        while received.rows.len() + received.rejected.len() < count {
            let arrival = self
                .arrivals
                .recv_timeout(DEADLINE)
                .expect("an arrival in time");
            received.add(arrival);
        }
        received
    }

    pub(crate) fn release(&self, through: u64) {
        self.released.send_replace(through);
    }

    /// As kill -9 does: no farewell.
    pub(crate) fn kill(mut self) {
        self.kill.take().unwrap().send(()).unwrap();
        self.thread.join().unwrap();
    }

    /// In an orderly way.
    pub(crate) fn stop(self) -> Vec<Arrival> {
        self.stop.send_replace(true);
        self.thread.join().unwrap();
        self.arrivals.try_iter().collect()
    }

    pub(crate) fn duplicates(&self) -> u64 {
        self.metrics.duplicates.load(Ordering::Relaxed)
    }
}

pub(crate) fn on_a_thread(
    task: impl Future<Output = ()> + Send + 'static,
    killed: oneshot::Receiver<()>,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap().block_on(async {
            tokio::select! {
                () = task => {}
                Ok(()) = killed => {}
            }
        });
    })
}

#[derive(Default)]
pub(crate) struct Received {
    pub(crate) rows: Vec<i64>,
    pub(crate) rejected: Vec<Rejected>,
    pub(crate) marks: Vec<DeliveryMark>,
    pub(crate) through: u64,
}

impl Received {
    pub(crate) fn add(&mut self, arrival: Arrival) {
        let rows = arrival.rows.rows();
        self.rows
            .extend(rows.iter().map(|row| row.values[0].as_int().unwrap()));
        self.rejected.extend(arrival.rejected);
        self.marks.extend(arrival.marks);
        assert!(arrival.through > self.through, "ordinals grow");
        self.through = arrival.through;
    }
}

pub(crate) fn numbered(range: std::ops::Range<i64>) -> Vec<String> {
    range
        .map(|n| format!("{{\"n\":{n},\"text\":\"a text of some length\"}}"))
        .collect()
}

/// A sink on a thread and a runtime of its own.
pub(crate) struct Delivering {
    pub(crate) to: mpsc::Sender<Delivery>,
    pub(crate) settled: watch::Sender<OutputKey>,
    pub(crate) confirmed: Receiver<Confirmed>,
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) metrics: Arc<sink::Metrics>,
    pub(crate) thread: JoinHandle<()>,
}

impl Delivering {
    pub(crate) fn start(url: &str, more: &[(&str, &str)]) -> Delivering {
        let mut all = vec![("mqtt.broker", url), ("mqtt.topic", "alerts")];
        all.extend(more);
        let sink = Sink::new(&Definition {
            stream: "S",
            extension: "mqtt",
            format: "json",
            options: &options(&all),
            schema: &schema(),
            client_id: "sink",
        })
        .unwrap();
        let (to, deliveries) = mpsc::channel(1_000);
        let (confirm, confirmed) = crossbeam::channel::bounded(4);
        let (settled, is_settled) = watch::channel(OutputKey::default());
        let (stop, stopped) = watch::channel(false);
        let metrics = Arc::new(sink::Metrics::default());
        let context = sink::Context {
            name: "Alerts".to_owned(),
            sink: 3,
            deliveries: deliveries.into(),
            settled: is_settled,
            confirmed: confirm,
            stop: stopped,
            stop_within: Duration::from_secs(2),
            metrics: Arc::clone(&metrics),
            reporter: Reporter::default(),
        };
        let thread = on_a_thread(sink.run(context), oneshot::channel().1);
        Delivering {
            to,
            settled,
            confirmed,
            stop,
            metrics,
            thread,
        }
    }

    pub(crate) fn send(&self, number: u64) {
        self.send_text(number, "x");
    }

    pub(crate) fn send_text(&self, number: u64, text: &str) {
        let delivery = Delivery {
            key: key(number),
            id: format!("ab-{number}-0-0"),
            time: Timestamp(1_000),
            made: Timestamp(1_000),
            schema: Arc::new(schema()),
            row: vec![
                Value::Int(i64::try_from(number).unwrap()),
                Value::text(text),
            ],
            held: eventflux::held::Held::default(),
        };
        self.to.blocking_send(delivery).unwrap();
    }

    /// What it says until it has settled `number`.
    pub(crate) fn words_until(&self, number: u64) -> Vec<Confirmed> {
        let mut words: Vec<Confirmed> = Vec::new();
        while words.last().is_none_or(|word| word.key < key(number)) {
            words.push(self.confirmed.recv_timeout(DEADLINE).unwrap());
        }
        words
    }

    /// Waits for the confirmation of `number`; the keys grow on the way.
    pub(crate) fn wait_confirmed(&self, number: u64) {
        let mut last = OutputKey::default();
        while last < key(number) {
            let confirmed = self.confirmed.recv_timeout(DEADLINE).unwrap();
            assert_eq!(confirmed.sink, 3);
            assert!(confirmed.key > last);
            last = confirmed.key;
        }
    }
}

pub(crate) fn key(number: u64) -> OutputKey {
    OutputKey {
        seq: Seq(number),
        query: 0,
        ordinal: 0,
    }
}
