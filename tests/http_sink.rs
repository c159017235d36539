//! The HTTP sink against a small server that answers as it is told.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "common/wait.rs"]
mod wait;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use eventflux::config::Definition;
use eventflux::config::options::{Layer, OptionValue, Options};
use eventflux::event::{Field, OutputKey, Schema, Seq, Timestamp, Type, Value};
use eventflux::sink::{Confirmed, Context, Delivery, Metrics, Refused, Sink};
use tokio::sync::{mpsc, watch};

const DEADLINE: Duration = Duration::from_secs(10);

/// What the server got.
struct Request {
    head: String,
    body: String,
    at: Instant,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let found = lines.find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value)
    }
}

/// Answers connection after connection with the next status line and headers; an empty answer
/// closes the connection without one. After the last, it is 204 for ever.
fn serve(answers: &'static [&'static str]) -> (String, Receiver<Request>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("http://{}/alerts?x=1", listener.local_addr().unwrap());
    let (to, requests) = sync_channel(1_000);
    std::thread::spawn(move || {
        let mut answers = answers.iter();
        for stream in listener.incoming() {
            let _ = answer(stream.unwrap(), &mut answers, &to);
        }
    });
    (url, requests)
}

fn answer(
    mut stream: TcpStream,
    answers: &mut std::slice::Iter<'_, &str>,
    to: &SyncSender<Request>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        let at = Instant::now();
        let mut request = Request {
            head,
            body: String::new(),
            at,
        };
        let length = request.header("content-length").unwrap().parse().unwrap();
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        request.body = String::from_utf8(body).unwrap();
        to.send(request).unwrap();
        match answers.next() {
            Some(&"") => return Ok(()),
            Some(&"hang") => wait::hang(Duration::from_millis(600)),
            Some(answer) => {
                write!(stream, "HTTP/1.1 {answer}\r\nContent-Length: 2\r\n\r\nok")?;
            }
            None => write!(stream, "HTTP/1.1 204 No Content\r\n\r\n")?,
        }
    }
}

struct Delivering {
    to: mpsc::Sender<Delivery>,
    settled: watch::Sender<OutputKey>,
    confirmed: crossbeam::channel::Receiver<Confirmed>,
    stop: watch::Sender<bool>,
    metrics: Arc<Metrics>,
    thread: std::thread::JoinHandle<()>,
}

fn schema() -> Schema {
    Schema::new(vec![Field {
        name: "n".to_owned(),
        ty: Type::Long,
    }])
}

fn start(url: &str, more: &[(&str, OptionValue)]) -> Delivering {
    let text = |text: &str| OptionValue::Text(text.to_owned());
    let mut options = Options::default();
    options.set("http.url", text(url), Layer::Sql);
    options.set("http.header.X-Site", text("plant 7"), Layer::Sql);
    options.set("http.retry.min", OptionValue::Integer(10), Layer::Sql);
    for (name, value) in more {
        options.set(name, value.clone(), Layer::Sql);
    }
    let sink = Sink::new(&Definition {
        stream: "S",
        extension: "http",
        format: "json",
        options: &options,
        schema: &schema(),
        client_id: "",
    })
    .unwrap();
    let (to, deliveries) = mpsc::channel(100);
    let (confirm, confirmed) = crossbeam::channel::bounded(2);
    let (settled, is_settled) = watch::channel(OutputKey::default());
    let (stop, stopped) = watch::channel(false);
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
        reporter: eventflux::report::Reporter::default(),
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
        thread,
    }
}

fn key(number: u64) -> OutputKey {
    OutputKey {
        seq: Seq(number),
        ..OutputKey::default()
    }
}

impl Delivering {
    fn send(&self, number: u64) {
        let delivery = Delivery {
            key: key(number),
            id: format!("ab-{number}-0-0"),
            time: Timestamp(0),
            made: Timestamp(0),
            schema: Arc::new(schema()),
            row: vec![Value::Int(i64::try_from(number).unwrap())],
        };
        self.to.blocking_send(delivery).unwrap();
    }

    fn wait_confirmed(&self, number: u64) {
        loop {
            let word = self.confirmed.recv_timeout(DEADLINE).unwrap();
            assert_eq!(word.refused, None);
            if word.key == key(number) {
                return;
            }
        }
    }

    fn end(self) -> Arc<Metrics> {
        drop(self.to);
        self.thread.join().unwrap();
        self.metrics
    }
}

#[test]
fn what_may_pass_is_tried_again_with_the_same_id() {
    let (url, requests) = serve(&[
        "200 OK",
        "500 Internal Server Error",
        "",
        "503 Service Unavailable",
        "408 Request Timeout",
        "429 Too Many Requests\r\nRetry-After: 1",
        "302 Found\r\nLocation: /elsewhere",
        "201 Created",
    ]);
    let sink = start(&url, &[]);
    sink.send(1);
    sink.wait_confirmed(1);
    sink.send(2);
    sink.wait_confirmed(2);
    let requests: Vec<Request> = requests.try_iter().collect();
    assert_eq!(requests.len(), 8);
    for (index, request) in requests.iter().enumerate() {
        let number = if index == 0 { 1 } else { 2 };
        assert!(
            request.head.starts_with("POST /alerts?x=1 HTTP/1.1"),
            "{}",
            request.head
        );
        assert_eq!(request.body, format!("{{\"n\":{number}}}"));
        assert_eq!(
            request.header("idempotency-key").unwrap(),
            format!("ab-{number}-0-0")
        );
        assert_eq!(request.header("content-type"), Some("application/json"));
        assert_eq!(request.header("x-site"), Some("plant 7"));
    }
    let asked_for = requests[6].at - requests[5].at;
    assert!(asked_for >= Duration::from_secs(1), "{asked_for:?}");
    let metrics = sink.end();
    assert_eq!(metrics.delivered.load(Ordering::Relaxed), 2);
    assert_eq!(metrics.retries.load(Ordering::Relaxed), 6);
}

#[test]
fn what_is_refused_for_good_is_said_in_its_place() {
    let (url, requests) = serve(&[
        "200 OK",
        "503 Service Unavailable",
        "400 Bad Request",
        "404 Not Found",
        "200 OK",
    ]);
    let sink = start(&url, &[]);
    (1..=4).for_each(|number| sink.send(number));
    let mut words = Vec::new();
    while words
        .last()
        .is_none_or(|last: &Confirmed| last.key < key(4))
    {
        words.push(sink.confirmed.recv_timeout(DEADLINE).unwrap());
    }
    let word = |number, refused: Option<(&str, u32)>| Confirmed {
        sink: 0,
        key: key(number),
        refused: refused.map(|(why, attempts)| Refused {
            why: why.to_owned(),
            attempts,
        }),
    };
    let all = [
        word(1, None),
        word(2, Some(("status 400: ok", 2))),
        word(3, Some(("status 404: ok", 1))),
        word(4, None),
    ];
    assert_eq!(words, all);
    let metrics = sink.end();
    assert_eq!(requests.try_iter().count(), 5);
    assert_eq!(metrics.refused.load(Ordering::Relaxed), 2);
    assert_eq!(metrics.delivered.load(Ordering::Relaxed), 2);
}

#[test]
fn a_wrong_token_costs_nothing_but_time() {
    let (url, requests) = serve(&[
        "401 Unauthorized",
        "403 Forbidden",
        "407 Proxy Authentication Required",
        "200 OK",
    ]);
    let sink = start(&url, &[]);
    sink.send(1);
    sink.wait_confirmed(1);
    assert_eq!(requests.try_iter().count(), 4);
    let metrics = sink.end();
    assert_eq!(metrics.retries.load(Ordering::Relaxed), 3);
    assert_eq!(metrics.refused.load(Ordering::Relaxed), 0);
}

#[test]
fn what_was_given_up_is_not_delivered_any_more() {
    // The first is tried once, and given up before it is tried again.
    let (url, requests) = serve(&["503 Service Unavailable"]);
    let sink = start(&url, &[("http.retry.min", OptionValue::Integer(200))]);
    (1..=4).for_each(|number| sink.send(number));
    let first = requests.recv_timeout(DEADLINE).unwrap();
    assert_eq!(first.body, "{\"n\":1}");
    sink.settled.send_replace(key(3));
    sink.wait_confirmed(4);
    let rest: Vec<String> = requests.try_iter().map(|request| request.body).collect();
    assert_eq!(rest, ["{\"n\":4}"]);
    let metrics = sink.end();
    assert_eq!(metrics.passed_over.load(Ordering::Relaxed), 3);
}

#[test]
fn an_answer_that_does_not_come_is_no_answer() {
    let (url, requests) = serve(&["hang", "200 OK"]);
    let sink = start(&url, &[("http.timeout", OptionValue::Integer(300))]);
    sink.send(1);
    sink.wait_confirmed(1);
    assert_eq!(requests.try_iter().count(), 2);
    assert_eq!(sink.end().retries.load(Ordering::Relaxed), 1);
}

#[test]
fn nobody_there_confirms_nothing_and_stops_at_once() {
    let port = {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.local_addr().unwrap().port()
    };
    let url = format!("http://127.0.0.1:{port}/");
    let sink = start(&url, &[("http.retry.min", OptionValue::Integer(60_000))]);
    sink.send(1);
    wait::wait_until("a first attempt", || {
        sink.metrics.retries.load(Ordering::Relaxed) > 0
    });
    let begin = Instant::now();
    sink.stop.send_replace(true);
    sink.thread.join().unwrap();
    assert!(
        begin.elapsed() < Duration::from_secs(1),
        "the pause is interrupted"
    );
    assert!(sink.confirmed.is_empty());
}

#[test]
fn many_in_order_with_a_slow_reader_of_confirmations() {
    let (url, requests) = serve(&[]);
    let sink = start(&url, &[]);
    (1..=50).for_each(|number| sink.send(number));
    let bodies: Vec<String> = (0..50)
        .map(|_| requests.recv_timeout(DEADLINE).unwrap().body)
        .collect();
    let expected: Vec<String> = (1..=50)
        .map(|number| format!("{{\"n\":{number}}}"))
        .collect();
    assert_eq!(bodies, expected);
    // Two places hold the confirmations of fifty.
    sink.wait_confirmed(50);
    sink.end();
}

#[test]
fn refusals_do_not_merge_while_nobody_listens() {
    let (url, requests) = serve(&["422 Unprocessable Entity"; 9]);
    let sink = start(&url, &[]);
    (1..=12).for_each(|number| sink.send(number));
    for _ in 0..12 {
        requests.recv_timeout(DEADLINE).unwrap();
    }
    let mut words: Vec<(u64, bool)> = Vec::new();
    while words.last().is_none_or(|(last, _)| *last < 12) {
        let word = sink.confirmed.recv_timeout(DEADLINE).unwrap();
        words.push((word.key.seq.0, word.refused.is_some()));
    }
    let refused: Vec<u64> = words
        .iter()
        .filter(|word| word.1)
        .map(|word| word.0)
        .collect();
    assert_eq!(refused, (1..=9).collect::<Vec<u64>>());
    sink.end();
}

#[test]
fn bad_options_are_named() {
    for (name, value) in [
        ("http.url", "ftp://x"),
        ("http.url", "/path"),
        ("http.url", "http://"),
        ("http.header.a b", "x"),
        ("http.header.X", "a\nb"),
    ] {
        let mut options = Options::default();
        let text = |text: &str| OptionValue::Text(text.to_owned());
        options.set("http.url", text("http://localhost"), Layer::Default);
        options.set(name, text(value), Layer::Sql);
        let schema = Schema::new(Vec::new());
        assert_eq!(
            Sink::new(&Definition {
                stream: "S",
                extension: "http",
                format: "json",
                options: &options,
                schema: &schema,
                client_id: ""
            })
            .unwrap_err()
            .option,
            name
        );
    }
}
