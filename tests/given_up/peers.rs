//! The real binary between real brokers and a web server that does not take everything.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::client::{Client, Packet, Version};
use crate::daemon::Site;
use crate::mosquitto::{DEADLINE, Mosquitto};
use crate::{COLUMNS, number_in};

/// Answers 400 to every fifth number, and takes the rest.
fn serve() -> (String, Receiver<i64>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("http://{}/alerts", listener.local_addr().unwrap());
    let (to, taken) = sync_channel(1_000);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // A connection that is cut off is opened again.
            let _ = answer(stream.unwrap(), &to);
        }
    });
    (url, taken)
}

fn answer(mut stream: TcpStream, taken: &SyncSender<i64>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let line = line.trim().to_ascii_lowercase();
            if let Some(bytes) = line.strip_prefix("content-length: ") {
                length = bytes.parse().unwrap();
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let row: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let number = row["n"].as_i64().unwrap();
        if number % 5 == 0 {
            let why = "n is not wanted";
            let length = why.len();
            write!(
                stream,
                "HTTP/1.1 400 Bad Request\r\nContent-Length: {length}\r\n\r\n{why}"
            )?;
        } else {
            let _ = taken.send(number);
            write!(stream, "HTTP/1.1 204 No Content\r\n\r\n")?;
        }
    }
}

fn application(upstream: &Mosquitto, alerts: &str, letters: &Mosquitto) -> String {
    format!(
        "CREATE STREAM Readings (n BIGINT) WITH ('type'='source', 'extension'='mqtt', \
         'format'='json', 'mqtt.broker'='{}', 'mqtt.topic'='in/+');\n\
         CREATE STREAM Alerts (n BIGINT) WITH ('type'='sink', {alerts}, \
         'outbox.dead_letter'='Undelivered');\n\
         CREATE STREAM Undelivered {COLUMNS} WITH ('type'='sink', 'extension'='mqtt', \
         'mqtt.broker'='{}', 'mqtt.topic'='letters');\n\
         INSERT INTO Alerts SELECT n FROM Readings;\n",
        upstream.url(),
        letters.url()
    )
}

fn listen(broker: &Mosquitto, topic: &str) -> Client {
    let connected = Client::connect(broker.port, topic, Version::V311, true, DEADLINE);
    let mut client = connected.unwrap();
    client.subscribe(topic).unwrap();
    client
}

fn next_row(client: &mut Client) -> serde_json::Value {
    loop {
        match client.next().unwrap().expect("a message in time") {
            Packet::Publish(message) => {
                client.acknowledge(message.packet).unwrap();
                return serde_json::from_slice(&message.payload).unwrap();
            }
            Packet::PubAck(_) | Packet::Other(_) => {}
        }
    }
}

fn about(letter: &serde_json::Value) -> i64 {
    number_in(letter["originalEvent"].as_str().unwrap())
}

fn publish(broker: &Mosquitto, numbers: std::ops::Range<i64>) {
    let lines: Vec<String> = numbers.map(|n| format!("{{\"n\":{n}}}")).collect();
    broker.publish("in/a", 1, &lines);
}

fn start(sql: &str, toml: &str, upstream: &Mosquitto) -> Site {
    let mut site = Site::new(sql, toml);
    site.start();
    crate::wait::wait_until("the subscription", || {
        upstream.log().contains("in/+ (QoS 1)")
    });
    site
}

#[test]
fn what_a_server_refuses_arrives_as_dead_letters_at_a_broker() {
    let (upstream, uplink) = (Mosquitto::new(), Mosquitto::new());
    let mut letters = listen(&uplink, "letters");
    let (url, taken) = serve();
    let sink = format!("'extension'='http', 'format'='json', 'http.url'='{url}'");
    let sql = application(&upstream, &sink, &uplink);
    let mut site = start(&sql, "", &upstream);
    publish(&upstream, 1..41);
    for n in (1..41).filter(|n| n % 5 != 0) {
        assert_eq!(taken.recv_timeout(DEADLINE).unwrap(), n);
    }
    for n in (1..41).filter(|n| n % 5 == 0) {
        let letter = next_row(&mut letters);
        assert_eq!(about(&letter), n);
        assert_eq!(letter["errorType"], "refused");
        assert_eq!(letter["streamName"], "Alerts");
        assert_eq!(letter["attemptCount"], 1);
        let message = letter["errorMessage"].as_str().unwrap();
        assert!(
            message.ends_with("status 400: n is not wanted"),
            "{message}"
        );
    }
    let said = site.stop();
    assert!(said.contains("0 outputs wait"), "{said}");
    assert!(
        said.contains("outbox of Alerts: confirmed 32, refused 8, letters 8"),
        "{said}"
    );
}

#[test]
fn what_waits_too_long_for_an_uplink_becomes_dead_letters() {
    let (upstream, mut uplink) = (Mosquitto::new(), Mosquitto::new());
    listen(&uplink, "out").disconnect().unwrap();
    uplink.stop();
    let mut letters = listen(&upstream, "letters");
    let sink = format!(
        "'extension'='mqtt', 'mqtt.broker'='{}', 'mqtt.topic'='out', 'outbox.ttl'='1500 ms'",
        uplink.url()
    );
    let sql = application(&upstream, &sink, &upstream);
    let mut site = start(&sql, "", &upstream);
    publish(&upstream, 0..30);
    // A crash does not make them younger.
    site.kill();
    site.start();
    let mut late = BTreeSet::new();
    while late.len() < 30 {
        let letter = next_row(&mut letters);
        assert_eq!(letter["errorType"], "outbox_expired");
        assert!(late.insert(about(&letter)), "two letters about one");
    }
    assert_eq!(late.last(), Some(&29));
    uplink.start();
    let mut listener = listen(&uplink, "out");
    site.wait_for("connected to the broker stream=\"Alerts\"");
    publish(&upstream, 30..60);
    for n in 30..60 {
        assert_eq!(next_row(&mut listener)["n"], n);
    }
    let said = site.stop();
    assert!(said.contains("0 outputs wait"), "{said}");
    let counted = "outbox of Alerts: confirmed 30, expired 30";
    assert!(said.contains(counted), "{said}");
}
