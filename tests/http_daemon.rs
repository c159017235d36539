//! The daemon between HTTP senders and HTTP servers: killed, and with certificates on both sides.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

#[path = "common/daemon.rs"]
mod daemon;
#[path = "common/http.rs"]
mod http;
#[path = "common/mosquitto.rs"]
mod mosquitto;
#[path = "common/wait.rs"]
mod wait;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use daemon::Site;
use http::{Message, Server, ask, free_port};
use rcgen::{CertificateParams, Issuer, KeyPair};

/// How often the daemon is killed.
const KILLS: u64 = 8;
/// Senders at the same time.
const SENDERS: u64 = 4;

fn address() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()))
}

/// Sends one number until it is taken, as a device would: again and again with the same key.
fn send(at: SocketAddr, number: u64, answered: &AtomicU64) {
    let body = format!("{{\"n\":{number}}}");
    let head = format!(
        "POST /in HTTP/1.1\r\nHost: x\r\nIdempotency-Key: {number}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    loop {
        let Ok(mut stream) = TcpStream::connect(at) else {
            wait::hang(Duration::from_millis(5));
            continue;
        };
        stream.set_read_timeout(Some(wait::DEADLINE)).unwrap();
        if stream
            .write_all(format!("{head}{body}").as_bytes())
            .is_err()
        {
            continue;
        }
        let answer = Message::read(&mut BufReader::new(stream));
        match answer.ok().flatten().map(|answer| answer.status()) {
            Some(200) => {
                answered.fetch_add(1, Ordering::SeqCst);
                return;
            }
            Some(503) | None => {}
            Some(0) => {}
            Some(other) => panic!("status {other}"),
        }
    }
}

/// Whenever the daemon dies between receipt and answer, the sender comes again with its key: each
/// number is one row, however often that happens.
#[test]
fn killed_between_receipt_and_answer() {
    let server = Server::new([]);
    let at = address();
    let sql = format!(
        "CREATE STREAM S (n BIGINT) WITH ('type' = 'source', 'extension' = 'http', \
           'http.listen' = '{at}', 'http.path' = '/in');\n\
         CREATE STREAM Hook (n BIGINT) WITH ('type' = 'sink', 'extension' = 'http', \
           'http.url' = '{}');\n\
         INSERT INTO Hook SELECT n FROM S;\n",
        server.url("/")
    );
    let mut site = Site::new(&sql, "");
    site.start();
    let answered = Arc::new(AtomicU64::new(0));
    let ending = Arc::new(AtomicBool::new(false));
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| {
            let (answered, ending) = (Arc::clone(&answered), Arc::clone(&ending));
            std::thread::spawn(move || {
                let mut sent = Vec::new();
                while !ending.load(Ordering::SeqCst) {
                    let number = sender + SENDERS * u64::try_from(sent.len()).unwrap();
                    send(at, number, &answered);
                    sent.push(number);
                }
                sent
            })
        })
        .collect();
    for kill in 0..KILLS {
        let before = answered.load(Ordering::SeqCst);
        // Not always at the same moment of a turn.
        wait::wait_until("some more are taken", || {
            answered.load(Ordering::SeqCst) >= before + 20 + 3 * kill
        });
        site.kill();
        site.start();
    }
    ending.store(true, Ordering::SeqCst);
    let sent: BTreeSet<u64> = senders
        .into_iter()
        .flat_map(|sender| sender.join().unwrap())
        .collect();
    // What is delivered again after a kill has the same id; a second row would have another.
    let mut ids: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    wait::wait_until("everything has come out", || {
        for request in server.rest() {
            let id = request.header("idempotency-key").unwrap().to_owned();
            let body = request.text().to_owned();
            ids.entry(body).or_default().insert(id);
        }
        ids.len() >= sent.len()
    });
    let log = site.stop();
    let bodies: BTreeSet<String> = sent.iter().map(|n| format!("{{\"n\":{n}}}")).collect();
    assert_eq!(ids.keys().cloned().collect::<BTreeSet<String>>(), bodies);
    let several: Vec<_> = ids.iter().filter(|(_, ids)| ids.len() > 1).collect();
    assert!(several.is_empty(), "{several:?}\n{log}");
}

/// A CA and what it has signed, in files.
fn certificates(site: &Site) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let write = |name: &str, text: String| std::fs::write(site.path(name), text).unwrap();
    write("ca.pem", params.self_signed(&key).unwrap().pem());
    let issuer = Issuer::new(params, key);
    for name in ["localhost", "gateway"] {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        write(&format!("{name}.pem"), certificate.pem());
        write(&format!("{name}.key"), key.serialize_pem());
    }
}

/// A sink of ours sends to a listener of ours, which wants a certificate and a token.
#[test]
fn our_sink_and_our_listener_with_certificates() {
    let server = Server::new([]);
    let at = address();
    let mut site = Site::new("", "");
    certificates(&site);
    let file = |name: &str| site.path(name).display().to_string();
    let sql = format!(
        "CREATE TRIGGER Boot AT START;\n\
         CREATE STREAM Out (n BIGINT) WITH ('type' = 'sink', 'extension' = 'http', \
           'http.url' = 'https://localhost:{port}/in/{{{{n}}}}', 'http.tls.ca' = '{ca}', \
           'http.tls.cert' = '{cert}', 'http.tls.key' = '{key}', 'http.bearer' = 'two', \
           'http.compression' = 'zstd', 'http.retry.max' = '50 ms');\n\
         CREATE STREAM S (n BIGINT, path STRING, peer STRING) WITH ('type' = 'source', \
           'extension' = 'http', 'http.listen' = '{at}', 'http.path' = '/in/{{path}}', \
           'http.column.peer' = 'peer', 'http.tokens' = 'one, two', \
           'http.tls.cert' = '{own_cert}', 'http.tls.key' = '{own_key}', \
           'http.tls.client_ca' = '{ca}');\n\
         CREATE STREAM Hook (n BIGINT, path STRING, peer STRING) WITH ('type' = 'sink', \
           'extension' = 'http', 'http.url' = '{hook}');\n\
         INSERT INTO Out SELECT 7 AS n FROM Boot;\n\
         INSERT INTO Hook SELECT n, path, peer FROM S;\n",
        port = at.port(),
        ca = file("ca.pem"),
        cert = file("gateway.pem"),
        key = file("gateway.key"),
        own_cert = file("localhost.pem"),
        own_key = file("localhost.key"),
        hook = server.url("/"),
    );
    site.configure(&sql, "");
    site.start();
    let expected = "{\"n\":7,\"path\":\"7\",\"peer\":\"127.0.0.1\"}";
    assert_eq!(server.next().text(), expected);
    // Whoever does not encrypt gets nothing.
    let mut plain = http::Sender::new(at);
    plain.send(
        "POST /in/8",
        &[("Authorization", "Bearer one")],
        b"{\"n\":8}",
    );
    assert!(plain.answer().is_none_or(|answer| answer.status() == 0));
    let log = site.stop();
    assert!(log.contains("source S: received 1"), "{log}");
}

/// Streams share an address; the same path twice is found before anything starts.
#[test]
fn the_same_path_twice_is_found_by_check() {
    let at = address();
    let stream = |name: &str, path: &str| {
        format!(
            "CREATE STREAM {name} (n BIGINT) WITH ('type' = 'source', 'extension' = 'http', \
             'http.listen' = '{at}', 'http.path' = '{path}');\n"
        )
    };
    let mut site = Site::new(&(stream("A", "/a") + &stream("B", "/a")), "");
    let (code, said) = site.run_to_end();
    assert_ne!(code, Some(0), "{said}");
    assert!(said.contains("http.path") && said.contains('B'), "{said}");
    site.configure(&(stream("A", "/a") + &stream("B", "/b")), "");
    site.start();
    for name in ["A", "B"] {
        site.wait_for(&format!("listens on {at} stream=\"{name}\""));
    }
    for path in ["POST /a", "POST /b"] {
        assert_eq!(ask(at, path, &[], b"{\"n\":1}").status(), 200);
    }
    let log = site.stop();
    assert!(log.contains("source A: received 1"), "{log}");
    assert!(log.contains("source B: received 1"), "{log}");
}
