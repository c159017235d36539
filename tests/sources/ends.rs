//! A source on a thread of its own, with the pipeline's end in the test's hands.

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::Receiver;
use eventflux::config::Definition;
use eventflux::config::options::{
    Layer, OptionFault, OptionKind, OptionSpec, OptionValue, Options,
};
use eventflux::event::{
    DeliveryMark, Field, Report, ReportKind, Schema, Type, Value, parse_duration_ms,
};
use eventflux::report::Reporter;
use eventflux::source::{Arrival, Context, EXTENSIONS, INTAKE_OPTIONS, Metrics, Source};
use tokio::sync::{mpsc, watch};

use crate::wait::wait_until;

/// Columns n, text, peer, at.
pub(crate) fn schema() -> Schema {
    let columns = [
        ("n", Type::Long),
        ("text", Type::String),
        ("peer", Type::String),
        ("at", Type::Timestamp),
    ];
    let fields = columns.map(|(name, ty)| Field {
        name: name.to_owned(),
        ty,
    });
    Schema::new(fields.to_vec())
}

fn value(spec: &OptionSpec, text: &str) -> OptionValue {
    let bytes = |text: &str| {
        let (number, unit) = text.split_once(' ').unwrap_or((text, "B"));
        let factor = match unit {
            "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            other => panic!("{other}"),
        };
        number.parse::<i64>().unwrap() * factor
    };
    match spec.kind {
        OptionKind::Text | OptionKind::Choice(_) => OptionValue::Text(text.to_owned()),
        OptionKind::Integer { .. } => OptionValue::Integer(text.parse().unwrap()),
        OptionKind::Number { .. } => OptionValue::Number(text.parse().unwrap()),
        OptionKind::Duration => OptionValue::Integer(parse_duration_ms(text).unwrap()),
        OptionKind::Bytes => OptionValue::Integer(bytes(text)),
        OptionKind::Flag => OptionValue::Flag(text == "true"),
        OptionKind::List => OptionValue::List(vec![text.to_owned()]),
    }
}

/// What the options come to, those that are built in included.
pub(crate) fn source(extension: &str, given: &[(&str, &str)]) -> Result<Source, OptionFault> {
    let (_, specs) = EXTENSIONS
        .iter()
        .find(|(name, _)| *name == extension)
        .unwrap();
    let specs = || specs.iter().chain(INTAKE_OPTIONS);
    let mut options = Options::default();
    for spec in specs() {
        if let Some(default) = spec.default {
            options.set(spec.name, value(spec, default), Layer::Default);
        }
    }
    for (name, text) in given {
        let covers = |spec: &&OptionSpec| match spec.name.strip_suffix('*') {
            Some(family) => name.starts_with(family),
            None => spec.name == *name,
        };
        let written = match specs().find(covers) {
            Some(spec) => value(spec, text),
            None => OptionValue::Text((*text).to_owned()),
        };
        options.set(name, written, Layer::Sql);
    }
    Source::new(&Definition {
        stream: "S",
        extension,
        format: "json",
        options: &options,
        schema: &schema(),
        client_id: "",
    })
}

/// A source that runs.
pub(crate) struct Running {
    pub(crate) arrived: Receiver<Arrival>,
    pub(crate) released: watch::Sender<u64>,
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) metrics: Arc<Metrics>,
    reports: RefCell<mpsc::Receiver<Report>>,
    thread: JoinHandle<()>,
    rows: RefCell<Vec<Vec<Value>>>,
    rejected: RefCell<Vec<String>>,
    marks: RefCell<Vec<DeliveryMark>>,
}

impl Running {
    pub(crate) fn start(extension: &str, options: &[(&str, &str)]) -> Running {
        Running::with(extension, options, 64, Vec::new())
    }

    /// With so much room for arrivals, and what the log ends with.
    pub(crate) fn with(
        extension: &str,
        options: &[(&str, &str)],
        arrivals_max: usize,
        tail: Vec<DeliveryMark>,
    ) -> Running {
        let source = source(extension, options).unwrap();
        let (to, arrived) = crossbeam::channel::bounded(arrivals_max);
        let (released, release) = watch::channel(0);
        let (stop, stopped) = watch::channel(false);
        let (reporter, reports) = Reporter::new();
        let metrics: Arc<Metrics> = Arc::default();
        let context = Context {
            name: "S".to_owned(),
            source: 0,
            arrivals: to,
            released: release,
            tail,
            stop: stopped,
            stop_within: Duration::from_secs(5),
            metrics: Arc::clone(&metrics),
            reporter,
        };
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async { tokio::spawn(source.run(context)).await.unwrap() });
        });
        Running {
            arrived,
            released,
            stop,
            metrics,
            reports: RefCell::new(reports),
            thread,
            rows: RefCell::default(),
            rejected: RefCell::default(),
            marks: RefCell::default(),
        }
    }

    fn collect(&self) {
        while let Ok(arrival) = self.arrived.try_recv() {
            let rows = arrival.rows.rows().iter().map(|row| row.values.to_vec());
            self.rows.borrow_mut().extend(rows);
            let reasons = arrival.rejected.into_iter().map(|rejected| rejected.reason);
            self.rejected.borrow_mut().extend(reasons);
            self.marks.borrow_mut().extend(arrival.marks);
            self.released.send_replace(arrival.through);
        }
    }

    /// All rows so far, once there are so many.
    pub(crate) fn rows(&self, count: usize) -> Vec<Vec<Value>> {
        wait_until(&format!("{count} rows"), || {
            self.collect();
            self.rows.borrow().len() >= count
        });
        self.rows.borrow().clone()
    }

    /// The numbers in them.
    pub(crate) fn numbers(&self, count: usize) -> Vec<i64> {
        let rows = self.rows(count);
        rows.iter().map(|row| row[0].as_int().unwrap()).collect()
    }

    /// The reasons of all rejects so far, once there are so many.
    pub(crate) fn rejected(&self, count: usize) -> Vec<String> {
        wait_until("rejects", || {
            self.collect();
            self.rejected.borrow().len() >= count
        });
        self.rejected.borrow().clone()
    }

    /// The marks of all that has arrived.
    pub(crate) fn marks(&self) -> Vec<DeliveryMark> {
        self.marks.borrow().clone()
    }

    pub(crate) fn is_up(&self) -> bool {
        self.metrics.connected.load(Ordering::Relaxed)
    }

    pub(crate) fn wait_up(&self) {
        wait_until("it is up", || self.is_up());
    }

    /// Waits for a report of this kind; its reason.
    pub(crate) fn report(&self, kind: ReportKind) -> String {
        let mut found = None;
        wait_until("a report", || {
            let mut reports = self.reports.borrow_mut();
            while found.is_none() {
                let Ok(report) = reports.try_recv() else {
                    break;
                };
                found = (report.kind == kind).then_some(report.reason);
            }
            found.is_some()
        });
        found.unwrap()
    }

    /// Stops it and waits for its end, taking what it still has; all rows.
    pub(crate) fn end(self) -> Vec<Vec<Value>> {
        self.stop.send_replace(true);
        wait_until("it ends", || {
            self.collect();
            self.thread.is_finished()
        });
        self.collect();
        let rows = self.rows.borrow().clone();
        self.thread.join().unwrap();
        rows
    }
}

/// An address on this machine where nobody listens.
pub(crate) fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap()
}
