//! An HTTP sink, with the outbox's end in the test's hands.

#![allow(dead_code, reason = "each test program uses its part")]

use std::sync::Arc;
use std::time::Duration;

use eventflux::config::Definition;
use eventflux::config::options::{Layer, OptionFault, OptionValue, Options};
use eventflux::event::{Field, OutputKey, Report, Schema, Seq, Timestamp, Type, Value};
use eventflux::report::Reporter;
use eventflux::sink::{Confirmed, Context, Delivery, Metrics, Sink};
use tokio::sync::{mpsc, watch};

use crate::wait;

pub(crate) fn text(text: &str) -> OptionValue {
    OptionValue::Text(text.to_owned())
}

pub(crate) fn number(number: i64) -> OptionValue {
    OptionValue::Integer(number)
}

pub(crate) fn schema() -> Schema {
    let field = |name: &str, ty| Field {
        name: name.to_owned(),
        ty,
    };
    Schema::new(vec![field("n", Type::Long), field("site", Type::String)])
}

pub(crate) fn sink(url: &str, more: &[(&str, OptionValue)]) -> Result<Sink, OptionFault> {
    let mut options = Options::default();
    options.set("http.url", text(url), Layer::Default);
    options.set("http.retry.min", number(10), Layer::Default);
    options.set("http.retry.max", number(50), Layer::Default);
    let mut format = "json".to_owned();
    for (name, value) in more {
        match (*name, value) {
            ("format", OptionValue::Text(name)) => format.clone_from(name),
            _ => options.set(name, value.clone(), Layer::Sql),
        }
    }
    Sink::new(&Definition {
        stream: "Alerts",
        extension: "http",
        format: &format,
        options: &options,
        schema: &schema(),
        client_id: "",
    })
}

/// A sink at work.
pub(crate) struct Delivering {
    to: mpsc::Sender<Delivery>,
    pub(crate) settled: watch::Sender<OutputKey>,
    pub(crate) confirmed: crossbeam::channel::Receiver<Confirmed>,
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) reports: mpsc::Receiver<Report>,
    pub(crate) thread: std::thread::JoinHandle<()>,
}

pub(crate) fn start(url: &str, more: &[(&str, OptionValue)]) -> Delivering {
    let sink = sink(url, more).unwrap();
    let (to, deliveries) = mpsc::channel(1_000);
    let (confirm, confirmed) = crossbeam::channel::bounded(2);
    let (settled, is_settled) = watch::channel(OutputKey::default());
    let (stop, stopped) = watch::channel(false);
    let (reporter, reports) = Reporter::new();
    let metrics = Arc::new(Metrics::default());
    let context = Context {
        name: "Alerts".to_owned(),
        sink: 0,
        deliveries: deliveries.into(),
        settled: is_settled,
        confirmed: confirm,
        stop: stopped,
        stop_within: Duration::from_millis(200),
        metrics: Arc::clone(&metrics),
        reporter,
    };
    let thread = std::thread::spawn(move || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder
            .enable_all()
            .build()
            .unwrap()
            .block_on(sink.run(context));
    });
    Delivering {
        to,
        settled,
        confirmed,
        stop,
        metrics,
        reports,
        thread,
    }
}

pub(crate) fn key(number: u64) -> OutputKey {
    OutputKey {
        seq: Seq(number),
        ..OutputKey::default()
    }
}

impl Delivering {
    pub(crate) fn send(&self, number: u64) {
        self.send_of(number, "plant 7");
    }

    pub(crate) fn send_of(&self, number: u64, site: &str) {
        let delivery = Delivery {
            key: key(number),
            id: format!("ab-{number}-0-0"),
            time: Timestamp(0),
            made: eventflux::clock::wall(),
            schema: Arc::new(schema()),
            row: vec![
                Value::Int(i64::try_from(number).unwrap()),
                Value::text(site),
            ],
            held: eventflux::held::Held::default(),
        };
        self.to.blocking_send(delivery).unwrap();
    }

    /// Waits until all up to `number` are settled: which were refused, why, and how often tried.
    pub(crate) fn wait_settled(&self, number: u64) -> Vec<(u64, String, u32)> {
        let mut refused = Vec::new();
        let mut last = 0;
        while last < number {
            let word = self.confirmed.recv_timeout(wait::DEADLINE).unwrap();
            assert!(word.key > key(last), "{word:?} after {last}");
            last = word.key.seq.0;
            refused.extend(word.refused.map(|word| (last, word.why, word.attempts)));
        }
        refused
    }

    pub(crate) fn wait_confirmed(&self, number: u64) {
        assert_eq!(self.wait_settled(number), []);
    }

    pub(crate) fn end(self) -> Arc<Metrics> {
        drop(self.to);
        self.thread.join().unwrap();
        self.metrics
    }
}

/// The same, as JSON.
pub(crate) fn json(number: u64) -> String {
    format!("{{\"n\":{number},\"site\":\"plant 7\"}}")
}
