//! UDP datagrams.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use eventflux::event::{ReportKind, Value};
use eventflux::source::Dropped;

use crate::ends::{Running, source};
use crate::wait::wait_until;

fn receiving(more: &[(&str, &str)], arrivals_max: usize) -> (Running, UdpSocket) {
    let free = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let at = free.local_addr().unwrap();
    drop(free);
    let text = at.to_string();
    let mut options = vec![("udp.listen", text.as_str())];
    options.extend(more);
    let running = Running::with("udp", &options, arrivals_max, Vec::new());
    running.wait_up();
    let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    sender.connect(at).unwrap();
    (running, sender)
}

#[test]
fn a_datagram_is_a_message() {
    let (running, sender) = receiving(&[("udp.peer.column", "peer")], 64);
    sender.send(b"{\"n\":1}").unwrap();
    sender.send(b"[{\"n\":2},\n{\"n\":3}]").unwrap();
    sender.send(b"x").unwrap();
    assert_eq!(running.numbers(3), [1, 2, 3]);
    let from = Value::text(&sender.local_addr().unwrap().to_string());
    assert!(running.rows(3).iter().all(|row| row[2] == from));
    assert_eq!(running.rejected(1), ["malformed"]);
    assert_eq!(running.end().len(), 3);
}

#[test]
fn a_datagram_can_hold_lines() {
    let (running, sender) = receiving(&[("udp.messages", "framed")], 64);
    sender.send(b"{\"n\":1}\n{\"n\":2}\r\n{\"n\":3}").unwrap();
    sender.send(b"{\"n\":4}\n").unwrap();
    assert_eq!(running.numbers(4), [1, 2, 3, 4]);
}

#[test]
fn what_finds_no_room_is_counted() {
    let (running, sender) = receiving(&[("queue.bytes_max", "4 KiB")], 1);
    let payload = format!("{{\"n\":1,\"text\":\"{}\"}}", "x".repeat(500));
    wait_until("something is dropped", || {
        sender.send(payload.as_bytes()).unwrap();
        running.metrics.dropped(Dropped::QueueFull) > 0
    });
    // Nobody waits for ever: it goes on when there is room.
    let before = running.rows(1).len();
    wait_until("it goes on", || {
        sender.send(payload.as_bytes()).unwrap();
        running.rows(1).len() > before + 20
    });
}

#[test]
fn groups_are_joined() {
    let port = {
        let free = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        free.local_addr().unwrap().port()
    };
    let group = Ipv4Addr::new(239, 255, 77, 3);
    let at = format!("0.0.0.0:{port}");
    let options = [
        ("udp.listen", at.as_str()),
        ("udp.multicast", "239.255.77.3"),
        ("udp.interface", "127.0.0.1"),
    ];
    // Two of them: others may listen too.
    let both = [0, 1].map(|_| {
        let running = Running::start("udp", &options);
        running.wait_up();
        running
    });
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
    socket.set_multicast_if_v4(&Ipv4Addr::LOCALHOST).unwrap();
    let sender = UdpSocket::from(socket);
    sender
        .send_to(b"{\"n\":7}", SocketAddr::from((group, port)))
        .unwrap();
    for running in both {
        assert_eq!(running.numbers(1), [7]);
    }
}

#[test]
fn a_port_that_is_taken_is_waited_for() {
    let taken = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let at = taken.local_addr().unwrap().to_string();
    let running = Running::start("udp", &[("udp.listen", &at)]);
    let why = running.report(ReportKind::SourceDown);
    assert!(why.contains("cannot receive at"), "{why}");
    drop(taken);
    running.report(ReportKind::SourceUp);
}

#[test]
fn what_cannot_be_is_said() {
    for (options, problem) in [
        (
            vec![("udp.listen", "5000")],
            "udp.listen: `5000` is no address",
        ),
        (vec![("framing", "cobs")], "framing: it has no effect"),
        (vec![("udp.multicast", "10.0.0.1")], "is no multicast group"),
        (
            vec![("udp.multicast", "ff02::1")],
            "a group of the other kind",
        ),
        (vec![("udp.interface", "eth0")], "it has no effect without"),
        (
            vec![("udp.multicast", "239.0.0.1"), ("udp.interface", "eth0")],
            "udp.interface: write the card's IPv4 address",
        ),
    ] {
        let mut all = vec![("udp.listen", "127.0.0.1:5000")];
        all.extend(options);
        let fault = source("udp", &all).unwrap_err().to_string();
        assert!(fault.contains(problem), "{fault}");
    }
}
