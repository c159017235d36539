//! TCP connections that others make, and one that we make.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use eventflux::event::{ReportKind, Value};
use eventflux::source::Dropped;

use crate::ends::{Running, free_address, source};
use crate::wait::{DEADLINE, wait_until};

fn listening(more: &[(&str, &str)]) -> (Running, SocketAddr) {
    listening_with(more, 64)
}

fn listening_with(more: &[(&str, &str)], arrivals_max: usize) -> (Running, SocketAddr) {
    let at = free_address();
    let text = at.to_string();
    let mut options = vec![("tcp.listen", text.as_str())];
    options.extend(more);
    let running = Running::with("tcp", &options, arrivals_max, Vec::new());
    running.wait_up();
    (running, at)
}

fn connect(at: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(at).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// Whether the far side has closed it.
fn is_closed(stream: &mut TcpStream) -> bool {
    match std::io::Read::read(stream, &mut [0; 16]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn several_connections_bring_lines() {
    let (running, at) = listening(&[("tcp.peer.column", "peer")]);
    let mut one = connect(at);
    let mut other = connect(at);
    one.write_all(b"{\"n\":1}\r\n{\"n\"").unwrap();
    running.rows(1);
    other.write_all(b"{\"n\":2}\n").unwrap();
    running.rows(2);
    one.write_all(b":3}\nno json\n").unwrap();
    let rows = running.rows(3);
    let peer = |stream: &TcpStream| Value::text(&stream.local_addr().unwrap().to_string());
    for (row, stream) in rows.iter().zip([&one, &other, &one]) {
        assert_eq!(row[2], peer(stream));
    }
    assert_eq!(running.numbers(3), [1, 2, 3]);
    assert_eq!(running.rejected(1), ["malformed"]);
    // What a connection ends in the middle of is no message.
    one.write_all(b"{\"n\":4}\n{\"n\":5}").unwrap();
    drop(one);
    wait_until("the half line is dropped", || {
        running.metrics.dropped(Dropped::Incomplete) == 1
    });
    other.write_all(b"{\"n\":6}\n").unwrap();
    assert_eq!(running.numbers(5), [1, 2, 3, 4, 6]);
    assert_eq!(running.end().len(), 5);
}

#[test]
fn frames_with_a_length_and_a_checksum() {
    let (running, at) = listening(&[
        ("framing", "length"),
        ("framing.length.adjust", "1"),
        ("checksum", "xor8"),
    ]);
    let mut stream = connect(at);
    let frame = |payload: &[u8], broken: u8| {
        let mut frame = u16::try_from(payload.len()).unwrap().to_be_bytes().to_vec();
        frame.extend(payload);
        let sum = frame.iter().fold(0, |sum, byte| sum ^ byte);
        frame.push(sum ^ broken);
        frame
    };
    let mut bytes = frame(b"{\"n\":1}", 0);
    bytes.extend(frame(b"{\"n\":2}", 0));
    for byte in bytes {
        stream.write_all(&[byte]).unwrap();
    }
    let rows = running.rows(2);
    assert_eq!(rows.len(), 2, "{:?}", running.rejected(0));
    stream.write_all(&frame(b"{\"n\":3}", 1)).unwrap();
    assert_eq!(running.rejected(1)[0], "malformed");
}

#[test]
fn who_sends_too_fast_has_to_wait() {
    let (running, at) = listening_with(&[("queue.bytes_max", "8 KiB")], 1);
    let mut stream = connect(at);
    stream.set_nonblocking(true).unwrap();
    let line = |n: u64| format!("{{\"n\":{n},\"text\":\"{}\"}}\n", "x".repeat(1_000));
    let (mut sent, mut begun) = (0_u64, Vec::new());
    // Until the buffers of the system are full too: nobody reads any more.
    let mut refused_at = None;
    wait_until("the sender has to wait", || {
        loop {
            if begun.is_empty() {
                begun = line(sent).into_bytes();
                sent += 1;
            }
            match stream.write(&begun) {
                Ok(count) => {
                    begun.drain(..count);
                    refused_at = None;
                }
                Err(_) => break,
            }
        }
        // Refused for a good while, that is.
        let since = *refused_at.get_or_insert_with(std::time::Instant::now);
        since.elapsed() > Duration::from_millis(300)
    });
    assert!(running.arrived.is_full());
    stream.set_nonblocking(false).unwrap();
    let rest = std::thread::spawn(move || stream.write_all(&begun).unwrap());
    let numbers = running.numbers(usize::try_from(sent).unwrap());
    rest.join().unwrap();
    let expected: Vec<i64> = (0..i64::try_from(sent).unwrap()).collect();
    assert!(numbers == expected, "{} of {sent}", numbers.len());
    assert_eq!(running.metrics.dropped(Dropped::QueueFull), 0);
}

#[test]
fn connections_have_their_limits() {
    let (running, at) = listening(&[
        ("tcp.connections_max", "2"),
        ("tcp.idle_timeout", "400 ms"),
        ("framing.max", "100 B"),
    ]);
    let mut streams: Vec<TcpStream> = (0..2).map(|_| connect(at)).collect();
    for (n, stream) in streams.iter_mut().enumerate() {
        writeln!(stream, "{{\"n\":{n}}}").unwrap();
    }
    running.rows(2);
    let mut third = connect(at);
    assert!(is_closed(&mut third));
    writeln!(streams[0], "{{\"text\":\"{}\"}}", "x".repeat(500)).unwrap();
    assert_eq!(running.rejected(1), ["too_large"]);
    // Silence closes, and makes room.
    assert!(streams.iter_mut().all(is_closed));
    let mut fourth = connect(at);
    writeln!(fourth, "{{\"n\":4}}").unwrap();
    running.rows(3);
}

#[test]
fn we_connect_again_whenever_it_is_possible() {
    let at = free_address();
    let running = Running::start("tcp", &[("tcp.connect", &at.to_string())]);
    let why = running.report(ReportKind::SourceDown);
    assert!(why.contains("refused"), "{why}");
    let listener = TcpListener::bind(at).unwrap();
    for n in 0..3 {
        let (mut stream, _) = listener.accept().unwrap();
        writeln!(stream, "{{\"n\":{n}}}").unwrap();
        stream.write_all(b"{\"half").unwrap();
        running.report(ReportKind::SourceUp);
        let rows = running.rows(n + 1);
        assert_eq!(rows.len(), n + 1);
        drop(stream);
        let why = running.report(ReportKind::SourceDown);
        assert!(why.contains("closed"), "{why}");
    }
    assert_eq!(running.metrics.dropped(Dropped::Incomplete), 3);
    running.end();
}

#[test]
fn a_port_that_is_taken_is_waited_for() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let at = taken.local_addr().unwrap().to_string();
    let running = Running::start("tcp", &[("tcp.listen", &at)]);
    let why = running.report(ReportKind::SourceDown);
    assert!(why.contains("cannot listen on"), "{why}");
    drop(taken);
    running.report(ReportKind::SourceUp);
    assert!(running.end().is_empty());
}

#[test]
fn both_sides_speak_tls() {
    let names = vec!["localhost".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let (running, at) = listening(&[("tcp.tls.cert", &cert), ("tcp.tls.key", &key)]);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "localhost".try_into().unwrap();
    let session = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = rustls::StreamOwned::new(session, connect(at));
    writeln!(stream, "{{\"n\":1}}").unwrap();
    stream.flush().unwrap();
    running.rows(1);
    // Who does not speak it is not heard.
    let mut plain = connect(at);
    writeln!(plain, "{{\"n\":2}}").unwrap();
    drop(plain);
    let port = at.port();
    // We connect to somebody whose certificate we do not trust.
    let far = format!("localhost:{port}");
    let distrusting = Running::start("tcp", &[("tcp.connect", &far), ("tcp.tls", "true")]);
    let why = distrusting.report(ReportKind::SourceDown);
    assert!(why.contains("certificate"), "{why}");
    // And to somebody whose we do: the connection stands.
    let options = [
        ("tcp.connect", far.as_str()),
        ("tcp.tls", "true"),
        ("tcp.tls.ca", cert.as_str()),
    ];
    let trusting = Running::start("tcp", &options);
    trusting.report(ReportKind::SourceUp);
    assert_eq!(running.end().len(), 1);
}

#[test]
fn what_cannot_be_is_said() {
    for (options, problem) in [
        (&[][..], "tcp.listen: write an address"),
        (
            &[("tcp.listen", "127.0.0.1:1"), ("tcp.connect", "a:1")],
            "tcp.connect: a stream either listens or connects",
        ),
        (
            &[("tcp.listen", "localhost")],
            "tcp.listen: `localhost` is no address",
        ),
        (
            &[("tcp.connect", "localhost")],
            "tcp.connect: `localhost` is no host and port",
        ),
        (
            &[("tcp.connect", "a:1"), ("tcp.peer.column", "n")],
            "tcp.peer.column: column `n` is not a STRING",
        ),
    ] {
        let fault = source("tcp", options).unwrap_err().to_string();
        assert!(fault.contains(problem), "{fault}");
    }
}
