//! The HTTP listener against senders of every kind.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::type_complexity,
    reason = "a test fails by panicking; its tables say what is in them"
)]

#[path = "common/http.rs"]
mod http;
#[path = "common/wait.rs"]
mod wait;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, bounded};
use eventflux::config::Definition;
use eventflux::config::options::{Layer, OptionValue, Options};
use eventflux::event::{DeliveryMark, Field, Schema, Type, Value};
use eventflux::report::Reporter;
use eventflux::source::{Arrival, Context, Metrics, Source};
use http::{Sender, ask, free_port};
use tokio::sync::watch;

const POST: &str = "POST /in";

fn text(text: &str) -> OptionValue {
    OptionValue::Text(text.to_owned())
}

fn schema() -> Schema {
    let field = |name: &str, ty| Field {
        name: name.to_owned(),
        ty,
    };
    Schema::new(vec![
        field("n", Type::Long),
        field("device", Type::String),
        field("peer", Type::String),
    ])
}

fn source(options: &[(&str, OptionValue)]) -> Source {
    let mut all = Options::default();
    for (name, value) in options {
        all.set(name, value.clone(), Layer::Sql);
    }
    Source::new(&Definition {
        stream: "S",
        extension: "http",
        format: "json",
        options: &all,
        schema: &schema(),
        client_id: "",
    })
    .unwrap()
}

/// A stream that listens, with the pipeline's end in the test's hands.
struct Listening {
    at: SocketAddr,
    arrived: Receiver<Arrival>,
    released: watch::Sender<u64>,
    stop: watch::Sender<bool>,
    metrics: Arc<Metrics>,
    thread: std::thread::JoinHandle<()>,
}

struct Start<'a> {
    at: SocketAddr,
    options: &'a [(&'a str, OptionValue)],
    tail: Vec<DeliveryMark>,
    arrivals_max: usize,
}

impl Default for Start<'_> {
    fn default() -> Self {
        Start {
            at: SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())),
            options: &[],
            tail: Vec::new(),
            arrivals_max: 16,
        }
    }
}

impl Start<'_> {
    fn context(&self) -> (Context, Listening) {
        let (to, arrived) = bounded(self.arrivals_max);
        let (released, release) = watch::channel(0);
        let (stop, stopped) = watch::channel(false);
        let metrics: Arc<Metrics> = Arc::default();
        let context = Context {
            name: "S".to_owned(),
            source: 0,
            arrivals: to,
            released: release,
            tail: self.tail.clone(),
            stop: stopped,
            stop_within: Duration::from_millis(500),
            metrics: Arc::clone(&metrics),
            reporter: Reporter::default(),
        };
        let listening = Listening {
            at: self.at,
            arrived,
            released,
            stop,
            metrics,
            thread: std::thread::spawn(|| {}),
        };
        (context, listening)
    }

    fn source(&self) -> Source {
        let listen = text(&self.at.to_string());
        let mut options = vec![("http.listen", listen), ("http.path", text("/in"))];
        options.extend(self.options.iter().cloned());
        source(&options)
    }

    fn start(self) -> Listening {
        let (context, mut listening) = self.context();
        let source = self.source();
        listening.thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                source.run(context).await;
                // Answers under way.
                tokio::time::sleep(Duration::from_millis(50)).await;
            });
        });
        wait::wait_until("it listens", || {
            listening.metrics.connected.load(Ordering::Relaxed)
        });
        listening
    }
}

impl Listening {
    /// The next arrival, which is durable from now on.
    fn release(&self) -> Arrival {
        let arrival = self.arrival();
        self.released.send_replace(arrival.through);
        arrival
    }

    fn arrival(&self) -> Arrival {
        self.arrived.recv_timeout(wait::DEADLINE).unwrap()
    }

    fn end(self) -> Arc<Metrics> {
        self.stop.send_replace(true);
        self.thread.join().unwrap();
        self.metrics
    }
}

fn rows(arrival: &Arrival) -> Vec<Vec<Value>> {
    let values = arrival.rows.rows().values();
    values.chunks(3).map(<[Value]>::to_vec).collect()
}

#[test]
fn taken_is_said_after_durable_and_not_before() {
    let listening = Start::default().start();
    let mut sender = Sender::new(listening.at);
    sender.send(POST, &[], b"{\"n\":1}");
    let arrival = listening.arrival();
    assert_eq!(rows(&arrival), [[Value::Int(1), Value::Null, Value::Null]]);
    // Nothing has been said while the log does not have it.
    let stream = sender.stream.get_ref();
    stream
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    let early = std::io::Read::read(&mut sender.stream.get_mut(), &mut [0]);
    assert!(early.is_err(), "{early:?}");
    let stream = sender.stream.get_ref();
    stream.set_read_timeout(Some(wait::DEADLINE)).unwrap();
    listening.released.send_replace(arrival.through);
    let answer = sender.answer().unwrap();
    assert_eq!(
        (answer.status(), answer.text()),
        (200, "{\"status\":\"taken\"}\n")
    );
    // On the same connection.
    sender.send(POST, &[], b"{\"n\":2}");
    listening.release();
    assert_eq!(sender.answer().unwrap().status(), 200);
    let metrics = listening.end();
    assert_eq!(metrics.rows.load(Ordering::Relaxed), 2);
}

#[test]
fn what_waits_too_long_for_the_disk_is_to_come_again() {
    let options = [("http.durable_within", OptionValue::Integer(50))];
    let listening = Start {
        options: &options,
        ..Start::default()
    }
    .start();
    let key = [("Idempotency-Key", "a")];
    let answer = ask(listening.at, POST, &key, b"{\"n\":1}");
    assert_eq!(answer.status(), 503, "{}", answer.text());
    assert_eq!(answer.header("retry-after"), Some("5"));
    assert!(answer.text().contains("may be taken all the same"));
    listening.release();
    let answer = ask(listening.at, POST, &key, b"{\"n\":1}");
    assert_eq!(
        (answer.status(), answer.text()),
        (200, "{\"status\":\"repeated\"}\n")
    );
    let metrics = listening.end();
    assert_eq!(metrics.rows.load(Ordering::Relaxed), 1);
    assert_eq!(metrics.duplicates.load(Ordering::Relaxed), 1);
}

#[test]
fn a_repeated_key_makes_one_row_across_restarts() {
    let at = Start::default().at;
    let start = |tail| {
        Start {
            at,
            tail,
            ..Start::default()
        }
        .start()
    };
    let listening = start(Vec::new());
    let key = |key: &'static str| [("Idempotency-Key", key)];
    let mut tail = Vec::new();
    for name in ["1", "2"] {
        let mut sender = Sender::new(at);
        sender.send(POST, &key(name), b"{\"n\":1}");
        tail.extend(listening.release().marks);
        assert_eq!(sender.answer().unwrap().status(), 200);
    }
    assert_eq!(tail.len(), 2);
    assert_eq!(ask(at, POST, &key("1"), b"{\"n\":1}").status(), 200);
    assert_eq!(listening.end().rows.load(Ordering::Relaxed), 2);
    let listening = start(tail);
    for name in ["1", "2"] {
        let answer = ask(at, POST, &key(name), b"{\"n\":1}");
        assert_eq!(answer.text(), "{\"status\":\"repeated\"}\n");
    }
    let long = "x".repeat(256);
    let answer = ask(at, POST, &[("Idempotency-Key", &long)], b"{\"n\":1}");
    assert_eq!(answer.status(), 400);
    assert_eq!(listening.end().rows.load(Ordering::Relaxed), 0);
}

#[test]
fn what_can_never_be_taken_is_durable_too() {
    let options = [("payload.bytes_max", OptionValue::Integer(1_000))];
    let listening = Start {
        options: &options,
        ..Start::default()
    }
    .start();
    let at = listening.at;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut gzip, &[b' '; 100_000]).unwrap();
    let bomb = gzip.finish().unwrap();
    let large = vec![b' '; 1_001];
    let coded: &[(&str, &str)] = &[("Content-Encoding", "gzip")];
    let cases: [(&[(&str, &str)], &[u8], u16, &str); 6] = [
        (&[], b"{\"n\":", 422, "malformed"),
        (&[], b"{\"n\":\"x\"}", 422, "wrong_type"),
        (&[], b"", 422, "empty"),
        (&[], &large, 413, "too_large"),
        (coded, &bomb, 413, "too_large"),
        (coded, b"{\"n\":1}", 422, "malformed"),
    ];
    for (headers, body, status, reason) in cases {
        let mut sender = Sender::new(at);
        sender.send(POST, headers, body);
        let arrival = listening.release();
        assert_eq!(arrival.rejected.len(), 1);
        assert_eq!(arrival.rejected[0].reason, reason);
        let answer = sender.answer().unwrap();
        assert_eq!(answer.status(), status, "{reason}: {}", answer.text());
        assert!(
            answer.text().starts_with("{\"error\":\""),
            "{}",
            answer.text()
        );
    }
    listening.end();
}

#[test]
fn chunks_and_packed_bodies() {
    let options = [("payload.bytes_max", OptionValue::Integer(1_000))];
    let listening = Start {
        options: &options,
        ..Start::default()
    }
    .start();
    let mut sender = Sender::new(listening.at);
    let head = b"POST /in HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    sender.write(head).unwrap();
    sender
        .write(b"3\r\n{\"n\r\n4\r\n\":7}\r\n0\r\n\r\n")
        .unwrap();
    assert_eq!(rows(&listening.release())[0][0], Value::Int(7));
    assert_eq!(sender.answer().unwrap().status(), 200);
    sender.write(head).unwrap();
    for _ in 0..11 {
        sender
            .write(format!("64\r\n{}\r\n", " ".repeat(100)).as_bytes())
            .unwrap();
    }
    sender.write(b"0\r\n\r\n").unwrap();
    assert_eq!(listening.release().rejected[0].reason, "too_large");
    assert_eq!(sender.answer().unwrap().status(), 413);
    let zstd = zstd::bulk::compress(b"{\"n\":8}", 1).unwrap();
    let mut sender = Sender::new(listening.at);
    sender.send(POST, &[("Content-Encoding", "zstd")], &zstd);
    assert_eq!(rows(&listening.release())[0][0], Value::Int(8));
    assert_eq!(sender.answer().unwrap().status(), 200);
    listening.end();
}

#[test]
fn who_may_not_send_makes_nothing() {
    let tokens = OptionValue::List(vec!["one".to_owned(), "two".to_owned()]);
    let options = [
        ("http.tokens", tokens),
        ("http.path", text("/in/{device}")),
        ("http.column.peer", text("peer")),
    ];
    let listening = Start {
        options: &options,
        ..Start::default()
    }
    .start();
    let token: (&str, &str) = ("Authorization", "Bearer two");
    let cases: [(&str, &[(&str, &str)], u16, (&str, &str)); 8] = [
        ("POST /elsewhere", &[token], 404, ("x", "")),
        ("GET /in/a", &[token], 405, ("Allow", "POST, PUT")),
        ("POST /in/a", &[], 401, ("WWW-Authenticate", "Bearer")),
        (
            "POST /in/a",
            &[("Authorization", "Bearer three")],
            401,
            ("WWW-Authenticate", "Bearer"),
        ),
        (
            "POST /in/a",
            &[("Authorization", "Basic b25lOm9uZQ==")],
            401,
            ("x", ""),
        ),
        (
            "POST /in/a",
            &[token, ("Content-Encoding", "br")],
            415,
            ("x", ""),
        ),
        (
            "POST /in/a",
            &[token, ("Content-Type", "multipart/form-data; boundary=x")],
            415,
            ("x", ""),
        ),
        ("POST /in/", &[token], 404, ("x", "")),
    ];
    for (line, headers, status, (name, value)) in cases {
        let answer = ask(listening.at, line, headers, b"{\"n\":1}");
        assert_eq!(answer.status(), status, "{line} {headers:?}");
        assert_eq!(answer.header(name).unwrap_or_default(), value, "{line}");
    }
    assert!(listening.arrived.is_empty());
    let mut sender = Sender::new(listening.at);
    sender.send("PUT /in/press%203?x=y", &[token], b"{\"n\":1}");
    let expected = [
        Value::Int(1),
        Value::text("press 3"),
        Value::text("127.0.0.1"),
    ];
    assert_eq!(rows(&listening.release()), [expected]);
    assert_eq!(sender.answer().unwrap().status(), 200);
    assert_eq!(listening.end().received.load(Ordering::Relaxed), 1);
}

#[test]
fn too_many_a_second_come_again() {
    let options = [("http.rate_max", OptionValue::Integer(3))];
    let listening = Start {
        options: &options,
        ..Start::default()
    }
    .start();
    let released = listening.released.clone();
    let arrived = listening.arrived.clone();
    let durable = std::thread::spawn(move || {
        let mut rows = 0;
        while rows < 3 {
            let arrival = arrived.recv_timeout(wait::DEADLINE).unwrap();
            rows += arrival.rows.len();
            released.send_replace(arrival.through);
        }
    });
    let mut sender = Sender::new(listening.at);
    let statuses: Vec<u16> = (0..5)
        .map(|_| {
            let answer = sender.ask(POST, &[], b"{\"n\":1}");
            let wait = answer.header("retry-after");
            assert_eq!(wait.is_some(), answer.status() == 429);
            answer.status()
        })
        .collect();
    assert_eq!(statuses, [200, 200, 200, 429, 429]);
    durable.join().unwrap();
    listening.end();
}

/// A slow loris: those who send a head or a body drop by drop, or nothing, hold a place for
/// `http.timeout` and no longer.
#[test]
fn slow_senders_are_put_out() {
    let options = [
        ("http.timeout", OptionValue::Integer(300)),
        ("http.connections_max", OptionValue::Integer(3)),
    ];
    let listening = Start {
        options: &options,
        ..Start::default()
    }
    .start();
    let begin = Instant::now();
    let mut silent = Sender::new(listening.at);
    let mut slow_head = Sender::new(listening.at);
    slow_head.write(b"POST /in HTTP/1.1\r\nX: ").unwrap();
    let mut slow_body = Sender::new(listening.at);
    slow_body
        .write(b"POST /in HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        .unwrap();
    // All places are taken; this one waits for one.
    let mut good = Sender::new(listening.at);
    good.send(POST, &[], b"{\"n\":1}");
    let drip = std::thread::spawn(move || {
        while begin.elapsed() < wait::DEADLINE {
            if slow_head.write(b"x").is_err() {
                return begin.elapsed();
            }
            wait::hang(Duration::from_millis(20));
        }
        begin.elapsed()
    });
    listening.release();
    assert_eq!(good.answer().unwrap().status(), 200);
    assert_eq!(slow_body.answer().unwrap().status(), 408);
    assert!(silent.is_closed());
    // So is who sent something once, and is silent since.
    assert!(good.is_closed());
    assert!(drip.join().unwrap() < Duration::from_secs(5));
    assert!(begin.elapsed() >= Duration::from_millis(300));
    assert_eq!(listening.end().rows.load(Ordering::Relaxed), 1);
}

#[test]
fn a_full_queue_says_so_and_loses_nothing() {
    let options = [
        ("queue.bytes_max", OptionValue::Integer(2_000)),
        ("queue.batch_rows_max", OptionValue::Integer(1)),
        ("payload.bytes_max", OptionValue::Integer(400)),
        ("http.timeout", OptionValue::Integer(500)),
    ];
    let listening = Start {
        options: &options,
        arrivals_max: 1,
        ..Start::default()
    }
    .start();
    let at = listening.at;
    let body = |number: usize| format!("{{\"n\":{number}}}{}", " ".repeat(300));
    let senders: Vec<_> = (0..16)
        .map(|number| {
            let body = body(number);
            std::thread::spawn(move || {
                let mut refused = 0;
                loop {
                    let answer = ask(at, POST, &[], body.as_bytes());
                    match answer.status() {
                        200 => return refused,
                        503 => refused += 1,
                        other => panic!("{other}: {}", answer.text()),
                    }
                    assert_eq!(answer.header("retry-after"), Some("1"));
                }
            })
        })
        .collect();
    let metrics = Arc::clone(&listening.metrics);
    wait::wait_until("somebody finds no room", || {
        metrics.deferred.load(Ordering::Relaxed) > 0
    });
    let mut numbers = Vec::new();
    while numbers.len() < 16 {
        let arrival = listening.release();
        numbers.extend(
            rows(&arrival)
                .into_iter()
                .map(|row| row[0].as_int().unwrap()),
        );
    }
    let refused: u64 = senders
        .into_iter()
        .map(|sender| sender.join().unwrap())
        .sum();
    assert!(refused > 0);
    numbers.sort_unstable();
    assert_eq!(numbers, (0..16).collect::<Vec<i64>>());
    listening.end();
}

#[test]
fn several_streams_share_an_address_and_go_one_by_one() {
    let at = Start::default().at;
    let paths = ["/in/{device}", "/in/special", "/in/{device}"];
    let starts = paths.map(|path| vec![("http.path", text(path))]);
    let made: Vec<(Source, (Context, Listening))> = starts
        .iter()
        .map(|options| Start {
            at,
            options,
            ..Start::default()
        })
        .map(|start| (start.source(), start.context()))
        .collect();
    let mut all = Vec::new();
    let mut tasks = Vec::new();
    for (source, (context, listening)) in made {
        tasks.push((source, context));
        all.push(listening);
    }
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let handles: Vec<_> = tasks
                .into_iter()
                .map(|(source, context)| tokio::spawn(source.run(context)))
                .collect();
            for handle in handles {
                handle.await.unwrap();
            }
        });
    });
    let is_up = |number: usize| {
        let metrics: &Metrics = &all[number].metrics;
        metrics.connected.load(Ordering::Relaxed)
    };
    wait::wait_until("two of them listen", || is_up(0) && is_up(1));
    // The third has the first one's path.
    assert!(!is_up(2));
    for (path, number) in [("POST /in/special", 1), ("POST /in/other", 0)] {
        let mut sender = Sender::new(at);
        sender.send(path, &[], b"{\"n\":1}");
        all[number].release();
        assert_eq!(sender.answer().unwrap().status(), 200);
    }
    all[0].stop.send_replace(true);
    wait::wait_until("the third has taken its place", || is_up(2));
    all[1].stop.send_replace(true);
    wait::wait_until("the second has gone", || {
        let mut sender = Sender::new(at);
        sender.send("POST /in/special", &[], b"{\"n\":1}");
        match all[2].arrived.recv_timeout(Duration::from_millis(100)) {
            Ok(arrival) => {
                all[2].released.send_replace(arrival.through);
                sender.answer().unwrap().status() == 200
            }
            Err(_) => false,
        }
    });
    all[2].stop.send_replace(true);
    thread.join().unwrap();
}

#[test]
fn an_address_that_is_taken_is_waited_for() {
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let holder = std::net::TcpListener::bind(at).unwrap();
    let start = Start {
        at,
        ..Start::default()
    };
    let (context, mut listening) = start.context();
    let source = start.source();
    listening.thread = std::thread::spawn(move || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build().unwrap();
        runtime.block_on(source.run(context));
    });
    let metrics = Arc::clone(&listening.metrics);
    wait::wait_until("a first attempt", || {
        metrics.disconnects.load(Ordering::Relaxed) > 0
    });
    drop(holder);
    wait::wait_until("it listens", || metrics.connected.load(Ordering::Relaxed));
    listening.end();
}

#[test]
fn bad_options_are_named() {
    for (name, value) in [
        ("http.listen", text("8080")),
        ("http.listen", text("localhost:8080")),
        ("http.path", text("in")),
        ("http.path", text("/{none}")),
        ("http.path", text("/{n}")),
        ("http.column.n", text("peer")),
        ("http.timeout", OptionValue::Integer(0)),
        ("http.tls.client_ca", text("/dev/null")),
    ] {
        let mut all = Options::default();
        all.set("http.listen", text("127.0.0.1:0"), Layer::Default);
        all.set(name, value, Layer::Sql);
        let fault = Source::new(&Definition {
            stream: "S",
            extension: "http",
            format: "json",
            options: &all,
            schema: &schema(),
            client_id: "",
        });
        assert_eq!(fault.unwrap_err().option, name);
    }
}
