//! Links that swallow everything: an uplink that is there and does not answer slows nothing else,
//! and what waits for it arrives when it answers again.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

#[path = "common/client.rs"]
mod client;
#[path = "common/daemon.rs"]
mod daemon;
#[path = "common/mosquitto.rs"]
mod mosquitto;
#[path = "common/proxy.rs"]
mod proxy;
#[path = "common/wait.rs"]
mod wait;

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use client::{Client, Packet, Version};
use daemon::Site;
use mosquitto::{Mosquitto, wait_until};
use proxy::Link;
use wait::DEADLINE;

/// What an HTTP server has got: `Idempotency-Key` and body.
type Posts = Arc<Mutex<Vec<(String, String)>>>;

/// A server that takes everything, and the port where it listens.
fn server() -> (u16, Posts) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let posts = Posts::default();
    let shared = Arc::clone(&posts);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let posts = Arc::clone(&shared);
            std::thread::spawn(move || drop(serve(stream, &posts)));
        }
    });
    (port, posts)
}

fn serve(mut stream: TcpStream, posts: &Posts) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let (mut length, mut key) = (0, String::new());
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if line.trim().is_empty() {
                break;
            }
            let (name, value) = line.split_once(": ").unwrap_or_default();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().unwrap(),
                "idempotency-key" => value.trim().clone_into(&mut key),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        posts
            .lock()
            .unwrap()
            .push((key, String::from_utf8(body).unwrap()));
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?;
    }
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|n| format!("{{\"n\":{n}}}")).collect()
}

/// One source, whose numbers go to its own broker and over two links.
fn to_three_sides(field: &str, uplink: u16, webhook: u16) -> String {
    format!(
        "CREATE STREAM S (n BIGINT) WITH ('type' = 'source', 'extension' = 'mqtt', \
           'mqtt.broker' = '{field}', 'mqtt.topic' = 'in', 'mqtt.keep_alive' = '1 s');\n\
         CREATE STREAM Local (n BIGINT) WITH ('type' = 'sink', 'extension' = 'mqtt', \
           'mqtt.broker' = '{field}', 'mqtt.topic' = 'local');\n\
         CREATE STREAM Cloud (n BIGINT) WITH ('type' = 'sink', 'extension' = 'mqtt', \
           'mqtt.broker' = 'mqtt://127.0.0.1:{uplink}', 'mqtt.topic' = 'alerts', \
           'mqtt.reconnect.max' = '500 ms', 'mqtt.connect_timeout' = '1 s', \
           'mqtt.keep_alive' = '1 s');\n\
         CREATE STREAM Hook (n BIGINT) WITH ('type' = 'sink', 'extension' = 'http', \
           'http.url' = 'http://127.0.0.1:{webhook}/', 'http.timeout' = '200 ms', \
           'http.retry.max' = '200 ms');\n\
         INSERT INTO Local SELECT n FROM S;\n\
         INSERT INTO Cloud SELECT n FROM S;\n\
         INSERT INTO Hook SELECT n FROM S;\n"
    )
}

#[test]
fn a_link_that_swallows_everything_slows_nothing() {
    let field = Mosquitto::new();
    let cloud = Mosquitto::new();
    let (port, posts) = server();
    let (uplink, webhook) = (Link::to(cloud.port), Link::to(port));
    field.open_mailbox("local");
    let mut watcher =
        Client::connect(cloud.port, "watcher", Version::V311, true, DEADLINE).unwrap();
    watcher.subscribe("alerts").unwrap();
    let sql = to_three_sides(&field.url(), uplink.port, webhook.port);
    let mut site = Site::new(&sql, "");
    site.start();
    // The mailbox's subscription is one, the source's the other.
    wait_until("the source has subscribed", || {
        field.log().matches("Sending SUBACK").count() >= 2
    });
    field.publish("in", 1, &numbers(0..100));
    wait_until("the first hundred are everywhere", || {
        posts.lock().unwrap().len() >= 100
    });
    uplink.swallow();
    webhook.swallow();
    field.publish("in", 1, &numbers(100..2_000));
    // Everything that does not go over the dead links goes on as if they were not there.
    let local = field.collect("local", 2_000, "%p");
    assert_eq!(local.len(), 2_000);
    site.wait_for("no connection to the broker");
    site.wait_for("not delivered: no answer within");
    field.publish("in", 1, &numbers(2_000..2_100));
    uplink.mend();
    webhook.mend();
    wait_until("the rest has arrived too", || {
        let posts = posts.lock().unwrap();
        posts
            .iter()
            .map(|(key, _)| key)
            .collect::<BTreeSet<_>>()
            .len()
            == 2_100
    });
    // What was not acknowledged is sent again; the order of what is new is kept.
    let (mut seen, mut news) = (BTreeSet::new(), Vec::new());
    while seen.len() < 2_100 {
        let Some(Packet::Publish(message)) = watcher.next().unwrap() else {
            panic!("only {} have come", seen.len());
        };
        watcher.acknowledge(message.packet).unwrap();
        let event: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
        let n = event["n"].as_u64().unwrap();
        news.extend(seen.insert(n).then_some(n));
    }
    assert!(news.is_sorted(), "{news:?}");
    let log = site.stop();
    let made = |stream: &str| {
        let lines = log
            .lines()
            .filter(|line| line.contains("connected to the broker"));
        lines.filter(|line| line.contains(stream)).count()
    };
    assert_eq!(made("\"S\""), 1, "the source's session was lost:\n{log}");
    assert!(made("\"Cloud\"") >= 2, "the uplink was made anew:\n{log}");
    assert!(log.contains("source S: received 2100"), "{log}");
}
