//! The HTTP sink against a server that answers as it is told.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::type_complexity,
    reason = "a test fails by panicking; its tables say what is in them"
)]

#[path = "common/delivering.rs"]
mod delivering;
#[path = "common/http.rs"]
mod http;
#[path = "common/wait.rs"]
mod wait;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use delivering::{json, key, number, sink, start, text};
use eventflux::config::Definition;
use eventflux::config::options::{Layer, OptionValue, Options};
use eventflux::event::{Field, ReportKind, Schema, Type};
use eventflux::sink::Sink;
use http::{Act, Message, Server, body, free_port, say};

const PATH: &str = "/alerts?x=1";

fn numbers(requests: &[Message]) -> Vec<Vec<u64>> {
    requests.iter().map(numbers_of).collect()
}

fn numbers_of(request: &Message) -> Vec<u64> {
    let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
    let rows = body.as_array().unwrap().iter();
    rows.map(|row| row["n"].as_u64().unwrap()).collect()
}

#[test]
fn what_may_pass_is_tried_again_with_the_same_id() {
    let server = Server::new([
        say("200 OK"),
        say("500 Internal Server Error"),
        Act::Close,
        say("503 Service Unavailable"),
        say("408 Request Timeout"),
        Act::Cut("HTTP/1.1 200 O"),
        Act::Cut("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"),
        Act::Cut("nonsense\r\n\r\n"),
        say("429 Too Many Requests\r\nRetry-After: 1"),
        say(
            "503 Service Unavailable\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
             Retry-After: Sun, 06 Nov 1994 08:49:38 GMT",
        ),
        say("302 Found\r\nLocation: /elsewhere"),
        Act::SayAndClose("425 Too Early".to_owned()),
        say("201 Created"),
    ]);
    let header = [("http.header.X-Site", text("plant 7"))];
    let sink = start(&server.url(PATH), &header);
    sink.send(1);
    sink.wait_confirmed(1);
    sink.send(2);
    sink.wait_confirmed(2);
    let requests = server.rest();
    assert!(requests.len() >= 13, "{}", requests.len());
    for (index, request) in requests.iter().enumerate() {
        let number = if index == 0 { 1 } else { 2 };
        assert_eq!(request.line, "POST /alerts?x=1 HTTP/1.1");
        assert_eq!(request.text(), json(number));
        let id = format!("ab-{number}-0-0");
        assert_eq!(request.header("idempotency-key"), Some(id.as_str()));
        assert_eq!(request.header("content-type"), Some("application/json"));
        assert_eq!(request.header("x-site"), Some("plant 7"));
        assert_eq!(request.header("host").unwrap(), server.at.to_string());
        assert_eq!(request.header("x-eventflux-historical"), None);
        let age = request.header("x-eventflux-age-ms").unwrap();
        assert!(age.parse::<u64>().unwrap() < 20_000, "{age}");
    }
    let asked_for = requests[10].at - requests[8].at;
    assert!(asked_for >= Duration::from_secs(2), "{asked_for:?}");
    let metrics = sink.end();
    assert_eq!(metrics.delivered.load(Ordering::Relaxed), 2);
    // Two found the kept connection closed, and went out again at once.
    assert_eq!(metrics.retries.load(Ordering::Relaxed), 9);
    assert_eq!(metrics.connects.load(Ordering::Relaxed), 2);
    assert_eq!(metrics.disconnects.load(Ordering::Relaxed), 1);
}

#[test]
fn a_connection_is_kept_as_long_as_the_server_keeps_it() {
    let server = Server::new([
        say("200 OK"),
        say("200 OK"),
        Act::SayAndClose("200 OK".to_owned()),
        say("200 OK\r\nConnection: close"),
        Act::Endless("200 OK"),
        say("200 OK"),
    ]);
    let sink = start(&server.url("/"), &[]);
    for number in 1..=6 {
        sink.send(number);
        sink.wait_confirmed(number);
    }
    let connections: Vec<usize> = (0..6).map(|_| server.next().connection).collect();
    assert_eq!(connections, [1, 1, 1, 2, 3, 4]);
    assert_eq!(sink.end().retries.load(Ordering::Relaxed), 0);
}

#[test]
fn what_is_refused_for_good_is_said_in_its_place() {
    let server = Server::new([
        say("200 OK"),
        say("503 Service Unavailable"),
        body("400 Bad Request", "no such device"),
        say("404 Not Found"),
        say("200 OK"),
    ]);
    let mut sink = start(&server.url("/"), &[]);
    (1..=4).for_each(|number| sink.send(number));
    let refused = [
        (2, "status 400: no such device".to_owned(), 2),
        (3, "status 404: ok".to_owned(), 1),
    ];
    assert_eq!(sink.wait_settled(4), refused);
    assert_eq!(server.rest().len(), 5);
    let kinds: Vec<ReportKind> = std::iter::from_fn(|| sink.reports.try_recv().ok())
        .map(|report| report.kind)
        .collect();
    let expected = [
        ReportKind::SinkUp,
        ReportKind::SinkDown,
        ReportKind::SinkUp,
        ReportKind::SinkOutage,
    ];
    assert_eq!(kinds, expected);
    let metrics = sink.end();
    assert_eq!(metrics.refused.load(Ordering::Relaxed), 2);
    assert_eq!(metrics.delivered.load(Ordering::Relaxed), 2);
}

/// What passes says nothing of an output: it is asked again as often as if that had not been.
#[test]
fn only_refusals_use_up_the_attempts() {
    let unavailable = || say("503 Service Unavailable");
    let server = Server::new([
        unavailable(),
        unavailable(),
        unavailable(),
        say("400 Bad Request"),
        say("200 OK"),
        say("400 Bad Request"),
        unavailable(),
        say("400 Bad Request"),
    ]);
    let options = [
        ("error.strategy", text("retry")),
        ("error.retry.attempts_max", number(2)),
        ("error.retry.min", number(1)),
    ];
    let sink = start(&server.url("/"), &options);
    sink.send(1);
    sink.wait_confirmed(1);
    sink.send(2);
    assert_eq!(sink.wait_settled(2), [(2, "status 400: ok".to_owned(), 3)]);
    assert_eq!(server.rest().len(), 8);
    sink.end();
}

/// Lines are called lines, and a header may have letters beyond ASCII.
#[test]
fn lines_and_umlauts() {
    let server = Server::new([]);
    let options = [
        ("json.batch", text("lines")),
        ("http.batch.messages_max", number(2)),
        ("http.header.X-Site", text("Halle {{site}}")),
    ];
    let sink = start(&server.url("/"), &options);
    sink.send_of(1, "Süd");
    sink.wait_confirmed(1);
    let requests = server.rest();
    assert_eq!(requests[0].header("x-site"), Some("Halle Süd"));
    let kind = requests[0].header("content-type");
    assert_eq!(kind, Some("application/x-ndjson"));
    assert_eq!(requests[0].text(), "{\"n\":1,\"site\":\"Süd\"}\n");
    sink.end();
}

#[test]
fn a_wrong_token_costs_nothing_but_time() {
    let server = Server::new([
        say("401 Unauthorized"),
        say("403 Forbidden"),
        say("407 Proxy Authentication Required"),
        say("200 OK"),
    ]);
    let sink = start(&server.url("/"), &[("http.bearer", text("old"))]);
    sink.send(1);
    sink.wait_confirmed(1);
    let requests = server.rest();
    assert_eq!(requests.len(), 4);
    assert_eq!(requests[0].header("authorization"), Some("Bearer old"));
    let metrics = sink.end();
    assert_eq!(metrics.retries.load(Ordering::Relaxed), 3);
    assert_eq!(metrics.refused.load(Ordering::Relaxed), 0);
}

#[test]
fn what_was_given_up_is_not_delivered_any_more() {
    // The first is tried once, and given up before it is tried again.
    let server = Server::new([say("503 Service Unavailable")]);
    let sink = start(&server.url("/"), &[("http.retry.min", number(200))]);
    (1..=4).for_each(|number| sink.send(number));
    assert_eq!(server.next().text(), json(1));
    sink.settled.send_replace(key(3));
    sink.wait_confirmed(4);
    let rest: Vec<Message> = server.rest();
    let rest: Vec<&str> = rest.iter().map(Message::text).collect();
    assert_eq!(rest, [json(4)]);
    let metrics = sink.end();
    assert_eq!(metrics.passed_over.load(Ordering::Relaxed), 3);
}

#[test]
fn an_answer_that_does_not_come_is_no_answer() {
    let hang = || Act::Hang(Duration::from_secs(2));
    let server = Server::new([hang(), hang(), say("200 OK")]);
    let sink = start(&server.url("/"), &[("http.timeout", number(100))]);
    let begin = Instant::now();
    sink.send(1);
    sink.wait_confirmed(1);
    assert!(begin.elapsed() < Duration::from_secs(2));
    assert_eq!(server.rest().len(), 3);
    assert_eq!(sink.end().retries.load(Ordering::Relaxed), 2);
}

#[test]
fn nobody_there_confirms_nothing_and_stops_at_once() {
    let url = format!("http://127.0.0.1:{}/", free_port());
    let sink = start(&url, &[("http.retry.min", number(60_000))]);
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
    let server = Server::new([]);
    let sink = start(&server.url("/"), &[]);
    (1..=50).for_each(|number| sink.send(number));
    let bodies: Vec<String> = (0..50).map(|_| server.next().text().to_owned()).collect();
    assert_eq!(bodies, (1..=50).map(json).collect::<Vec<String>>());
    // Two places hold the confirmations of fifty.
    sink.wait_confirmed(50);
    sink.end();
}

#[test]
fn refusals_do_not_merge_while_nobody_listens() {
    let server = Server::new((0..9).map(|_| say("422 Unprocessable Content")));
    let sink = start(&server.url("/"), &[]);
    (1..=12).for_each(|number| sink.send(number));
    for _ in 0..12 {
        server.next();
    }
    let refused = sink.wait_settled(12);
    let refused: Vec<u64> = refused.iter().map(|word| word.0).collect();
    assert_eq!(refused, (1..=9).collect::<Vec<u64>>());
    sink.end();
}

/// So many in one request, and so many bytes; each request a list, of one too.
#[test]
fn several_go_together() {
    // What comes first waits for the server, so that the rest is there together.
    let server = Server::new([say("503 Service Unavailable\r\nRetry-After: 1")]);
    let one = i64::try_from(json(1).len()).unwrap();
    let options = [
        ("http.batch.messages_max", number(4)),
        ("http.batch.bytes_max", number(3 * one + 5)),
    ];
    let sink = start(&server.url("/"), &options);
    sink.send(1);
    server.next();
    (2..=8).for_each(|number| sink.send(number));
    sink.wait_confirmed(8);
    let requests = server.rest();
    let expected = [vec![1], vec![2, 3, 4], vec![5, 6, 7], vec![8]];
    assert_eq!(numbers(&requests), expected);
    let keys: Vec<&str> = requests
        .iter()
        .map(|request| request.header("idempotency-key").unwrap())
        .collect();
    let expected = [
        "ab-1-0-0",
        "ab-2-0-0..ab-4-0-0",
        "ab-5-0-0..ab-7-0-0",
        "ab-8-0-0",
    ];
    assert_eq!(keys, expected);
    assert_eq!(requests[1].header("x-eventflux-count"), Some("3"));
    assert_eq!(sink.end().delivered.load(Ordering::Relaxed), 8);
}

#[test]
fn a_request_waits_for_more_and_not_for_ever() {
    let server = Server::new([]);
    let options = [
        ("http.batch.messages_max", number(3)),
        ("http.batch.linger", number(300)),
    ];
    let sink = start(&server.url("/"), &options);
    let begin = Instant::now();
    (1..=4).for_each(|number| sink.send(number));
    assert_eq!(numbers_of(&server.next()), [1, 2, 3]);
    let full = begin.elapsed();
    assert_eq!(numbers_of(&server.next()), [4]);
    assert!(full < Duration::from_millis(250), "{full:?}");
    assert!(begin.elapsed() >= Duration::from_millis(300));
    sink.end();
}

/// A server that refuses every list with a 3 or a 6 in it.
#[test]
fn only_the_culprits_among_several_are_refused() {
    let server = Server::new([say("503 Service Unavailable\r\nRetry-After: 1")]);
    let options = [("http.batch.messages_max", number(8))];
    let sink = start(&server.url("/"), &options);
    sink.send(1);
    server.next();
    let lists: [&[u64]; 10] = [
        &[1],
        &[2, 3, 4, 5, 6, 7, 8, 9],
        &[2, 3, 4, 5],
        &[2, 3],
        &[2],
        &[3],
        &[4, 5],
        &[6, 7, 8, 9],
        &[6, 7],
        &[6],
    ];
    for list in lists {
        let is_bad = list.contains(&3) || list.contains(&6);
        server.then(say(if is_bad { "400 Bad Request" } else { "200 OK" }));
    }
    (2..=9).for_each(|number| sink.send(number));
    let refused = sink.wait_settled(9);
    let refused: Vec<(u64, u32)> = refused.iter().map(|word| (word.0, word.2)).collect();
    assert_eq!(refused, [(3, 1), (6, 1)]);
    let requests = numbers(&server.rest());
    assert_eq!(requests[..10], lists);
    assert_eq!(requests[10..], [vec![7], vec![8, 9]]);
    assert_eq!(sink.end().delivered.load(Ordering::Relaxed), 7);
}

/// What is about the address is not searched for among the outputs.
#[test]
fn a_wrong_address_refuses_all_at_once() {
    let server = Server::new([
        say("503 Service Unavailable\r\nRetry-After: 1"),
        say("200 OK"),
        say("404 Not Found"),
    ]);
    let options = [("http.batch.messages_max", number(8))];
    let sink = start(&server.url("/"), &options);
    sink.send(1);
    server.next();
    (2..=9).for_each(|number| sink.send(number));
    let refused = sink.wait_settled(9);
    assert_eq!(refused.len(), 8);
    assert_eq!(server.rest().len(), 2);
    assert_eq!(sink.end().refused.load(Ordering::Relaxed), 8);
}

#[test]
fn placeholders_packing_and_methods() {
    let server = Server::new([]);
    let options = [
        ("http.method", text("PUT")),
        ("http.header.X-Site", text("at {{site}}")),
        ("http.header.Content-Type", text("application/x-rows+json")),
        ("http.compression", text("gzip")),
        ("http.batch.messages_max", number(100)),
        ("http.batch.linger", number(50)),
    ];
    let url = format!("http://{}/sites/{{{{site}}}}?id={{{{n}}}}", server.at);
    let sink = start(&url, &options);
    sink.send_of(1, "a/b c");
    // No header has a line feed in it: that one is refused, the others go on.
    sink.send_of(2, "a\nb");
    sink.send_of(3, &"x".repeat(1_000));
    let refused = sink.wait_settled(3);
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].0, 2);
    assert!(refused[0].1.contains("x-site"), "{}", refused[0].1);
    let requests = server.rest();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0].line, "PUT /sites/a%2Fb%20c?id=1 HTTP/1.1");
    assert_eq!(requests[0].header("x-site"), Some("at a/b c"));
    let kind = requests[0].header("content-type");
    assert_eq!(kind, Some("application/x-rows+json"));
    // Packed only where that is less.
    assert_eq!(requests[0].header("content-encoding"), None);
    assert_eq!(requests[1].header("content-encoding"), Some("gzip"));
    let mut plain = String::new();
    let mut gzip = flate2::read::GzDecoder::new(requests[1].body.as_slice());
    std::io::Read::read_to_string(&mut gzip, &mut plain).unwrap();
    assert!(plain.starts_with("[{\"n\":3,"), "{plain}");
    sink.end();
}

#[test]
fn bad_options_are_named() {
    let cases: [(&str, OptionValue, &[(&str, OptionValue)]); 16] = [
        ("http.url", text("ftp://x"), &[]),
        ("http.url", text("/path"), &[]),
        ("http.url", text("http://"), &[]),
        ("http.url", text("http://me:secret@x/"), &[]),
        ("http.url", text("http://x/{{none}}"), &[]),
        ("http.header.a b", text("x"), &[]),
        ("http.header.Host", text("x"), &[]),
        ("http.header.X", text("{{none}}"), &[]),
        ("http.header.x", text("a\nb"), &[]),
        ("http.timeout", number(0), &[]),
        ("http.password", text("x"), &[]),
        ("http.bearer", text("x"), &[("http.username", text("me"))]),
        (
            "http.header.Authorization",
            text("x"),
            &[("http.bearer", text("y"))],
        ),
        ("http.oauth2.url", text("http://x/token"), &[]),
        ("http.oauth2.scope", text("x"), &[]),
        ("http.tls.ca", text("/no/such/file"), &[]),
    ];
    for (name, value, more) in cases {
        let mut options = vec![(name, value)];
        options.extend(more.iter().cloned());
        let fault = sink("http://localhost", &options).unwrap_err();
        assert_eq!(fault.option, name, "{fault}");
    }
    let schema = Schema::new(vec![Field {
        name: "bytes".to_owned(),
        ty: Type::Bytes,
    }]);
    let mut options = Options::default();
    options.set("http.url", text("http://localhost"), Layer::Sql);
    options.set("http.batch.messages_max", number(2), Layer::Sql);
    options.set("raw.column", text("bytes"), Layer::Sql);
    let fault = Sink::new(&Definition {
        stream: "S",
        extension: "http",
        format: "raw",
        options: &options,
        schema: &schema,
        client_id: "",
    });
    assert_eq!(fault.unwrap_err().option, "http.batch.messages_max");
}
