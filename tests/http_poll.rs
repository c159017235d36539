//! The source that asks an HTTP server again and again.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "common/http.rs"]
mod http;
#[path = "common/wait.rs"]
mod wait;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam::channel::{Receiver, bounded};
use eventflux::config::Definition;
use eventflux::config::options::{Layer, OptionValue, Options};
use eventflux::event::{DeliveryMark, Field, Report, ReportKind, Schema, Type};
use eventflux::report::Reporter;
use eventflux::source::{Arrival, Context, Metrics, Source};
use http::{Act, Message, Server, body, say};
use tokio::sync::{mpsc, watch};

fn text(text: &str) -> OptionValue {
    OptionValue::Text(text.to_owned())
}

fn number(number: i64) -> OptionValue {
    OptionValue::Integer(number)
}

fn source(
    url: &str,
    more: &[(&str, OptionValue)],
) -> Result<Source, eventflux::config::options::OptionFault> {
    let mut options = Options::default();
    options.set("http.url", text(url), Layer::Default);
    options.set("http.interval", number(100), Layer::Default);
    options.set("http.retry.min", number(10), Layer::Default);
    for (name, value) in more {
        options.set(name, value.clone(), Layer::Sql);
    }
    let schema = Schema::new(vec![Field {
        name: "n".to_owned(),
        ty: Type::Long,
    }]);
    Source::new(&Definition {
        stream: "S",
        extension: "http_poll",
        format: "json",
        options: &options,
        schema: &schema,
        client_id: "",
    })
}

struct Polling {
    arrived: Receiver<Arrival>,
    stop: watch::Sender<bool>,
    metrics: Arc<Metrics>,
    reports: mpsc::Receiver<Report>,
    thread: std::thread::JoinHandle<()>,
    _released: watch::Sender<u64>,
}

fn start(url: &str, more: &[(&str, OptionValue)], tail: Vec<DeliveryMark>) -> Polling {
    let source = source(url, more).unwrap();
    let (to, arrived) = bounded(16);
    let (released, release) = watch::channel(u64::MAX);
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
        stop_within: Duration::from_millis(500),
        metrics: Arc::clone(&metrics),
        reporter,
    };
    let thread = std::thread::spawn(move || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build().unwrap();
        runtime.block_on(source.run(context));
    });
    Polling {
        arrived,
        stop,
        metrics,
        reports,
        thread,
        _released: released,
    }
}

impl Polling {
    /// The values of the next arrival, the reasons of its rejects, and its marks.
    fn arrival(&self) -> (Vec<i64>, Vec<String>, Vec<DeliveryMark>) {
        let arrival = self.arrived.recv_timeout(wait::DEADLINE).unwrap();
        let values = arrival.rows.rows().values().iter();
        let rejected = arrival.rejected.into_iter().map(|reject| reject.reason);
        (
            values.map(|value| value.as_int().unwrap()).collect(),
            rejected.collect(),
            arrival.marks,
        )
    }

    fn end(self) -> (Arc<Metrics>, Vec<ReportKind>) {
        let mut reports = self.reports;
        self.stop.send_replace(true);
        self.thread.join().unwrap();
        let all = std::iter::from_fn(|| reports.try_recv().ok());
        (self.metrics, all.map(|report| report.kind).collect())
    }
}

#[test]
fn an_unchanged_answer_is_no_message() {
    let server = Server::new([
        body(
            "200 OK\r\nETag: \"a\"\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT",
            "[{\"n\":1},{\"n\":2}]",
        ),
        Act::Say("304 Not Modified".to_owned(), Vec::new()),
        body("200 OK", "{\"n\":3}"),
        body("200 OK", "{\"n\":3}"),
        Act::Say("204 No Content".to_owned(), Vec::new()),
    ]);
    let options = [
        ("http.header.X-Key", text("k")),
        ("http.username", text("me")),
    ];
    let polling = start(&server.url("/values?x=1"), &options, Vec::new());
    assert_eq!(polling.arrival().0, [1, 2]);
    assert_eq!(polling.arrival().0, [3]);
    assert_eq!(polling.arrival().0, [3]);
    let requests: Vec<Message> = (0..5).map(|_| server.next()).collect();
    let asked = |name: &str| -> Vec<&str> {
        let headers = requests.iter().map(|request| request.header(name));
        headers.map(|value| value.unwrap_or("-")).collect()
    };
    assert_eq!(asked("if-none-match"), ["-", "\"a\"", "\"a\"", "-", "-"]);
    assert_eq!(
        asked("if-modified-since")[1],
        "Sun, 06 Nov 1994 08:49:37 GMT"
    );
    assert_eq!(asked("x-key"), ["k"; 5]);
    assert_eq!(asked("authorization"), ["Basic bWU6"; 5]);
    for pair in requests.windows(2) {
        let apart = pair[1].at - pair[0].at;
        assert!(apart >= Duration::from_millis(50), "{apart:?}");
        assert_eq!(pair[1].line, "GET /values?x=1 HTTP/1.1");
    }
    let (metrics, reports) = polling.end();
    assert_eq!(metrics.received.load(Ordering::Relaxed), 3);
    assert_eq!(reports, [ReportKind::SourceUp]);
}

#[test]
fn the_same_again_is_skipped_where_that_is_wanted_across_restarts_too() {
    let server =
        Server::new(["{\"n\":1}", "{\"n\":1}", "{\"n\":2}"].map(|text| body("200 OK", text)));
    let options = [("http.unchanged", text("skip"))];
    let polling = start(&server.url("/"), &options, Vec::new());
    assert_eq!(polling.arrival().0, [1]);
    let (values, _, marks) = polling.arrival();
    assert_eq!((values, marks.len()), (vec![2], 1));
    assert_eq!(polling.end().0.duplicates.load(Ordering::Relaxed), 1);
    let server = Server::new(["{\"n\":2}", "{\"n\":3}"].map(|text| body("200 OK", text)));
    let polling = start(&server.url("/"), &options, marks);
    assert_eq!(polling.arrival().0, [3]);
    polling.end();
}

#[test]
fn a_server_in_trouble_is_asked_less_often_and_told_of() {
    let server = Server::new([
        body("200 OK", "{\"n\":1}"),
        say("500 Internal Server Error"),
        Act::Close,
        Act::Cut("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{"),
        Act::Hang(Duration::from_secs(2)),
        say("429 Too Many Requests\r\nRetry-After: 1"),
        body("200 OK", "{\"n\":2}"),
    ]);
    let options = [("http.timeout", number(100))];
    let polling = start(&server.url("/"), &options, Vec::new());
    assert_eq!(polling.arrival().0, [1]);
    assert_eq!(polling.arrival().0, [2]);
    let requests = server.rest();
    let (last, asked) = (&requests[requests.len() - 1], &requests[requests.len() - 2]);
    assert!(last.at - asked.at >= Duration::from_secs(1));
    let (metrics, reports) = polling.end();
    let expected = [
        ReportKind::SourceUp,
        ReportKind::SourceDown,
        ReportKind::SourceUp,
    ];
    assert_eq!(reports, expected);
    assert_eq!(metrics.received.load(Ordering::Relaxed), 2);
}

#[test]
fn what_is_no_message_is_a_reject() {
    let packed = |bytes: &[u8]| zstd::bulk::compress(bytes, 1).unwrap();
    let coded =
        |bytes: &[u8]| Act::Say("200 OK\r\nContent-Encoding: zstd".to_owned(), packed(bytes));
    let server = Server::new([
        body("200 OK", "<html>"),
        Act::Endless("200 OK"),
        coded(&[b' '; 5_000]),
        coded(b"{\"n\":7}"),
        body("200 OK\r\nContent-Encoding: br", "x"),
    ]);
    let options = [
        ("payload.bytes_max", number(1_000)),
        ("http.method", text("POST")),
        ("http.body", text("{\"ask\":1}")),
    ];
    let polling = start(&server.url("/"), &options, Vec::new());
    let reasons = ["malformed", "too_large", "too_large", "", "malformed"];
    for reason in reasons {
        let (values, rejected, _) = polling.arrival();
        match reason {
            "" => assert_eq!(values, [7]),
            reason => assert_eq!(rejected, [reason]),
        }
    }
    let request = server.next();
    assert_eq!(
        (request.line.as_str(), request.text()),
        ("POST / HTTP/1.1", "{\"ask\":1}")
    );
    polling.end();
}

#[test]
fn bad_options_are_named() {
    for (name, value) in [
        ("http.url", text("ftp://x")),
        ("http.interval", number(99)),
        ("http.timeout", number(0)),
        ("http.body", text("x")),
        ("http.header.a b", text("x")),
        ("http.header.Content-Length", text("1")),
        ("http.password", text("x")),
        ("http.oauth2.url", text("x")),
        ("http.tls.key", text("/no/such")),
    ] {
        let fault = source("http://localhost", &[(name, value)]).unwrap_err();
        assert_eq!(fault.option, name, "{fault}");
    }
}
