//! A small blocking MQTT client, 3.1.1 and 5, that does one packet at a time and nothing by
//! itself: a test decides what is acknowledged, and when. Independent of the library under test.

#![allow(dead_code, reason = "each test program uses its part")]

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

/// The protocol version, as `mqtt.version` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V311,
    V5,
}

impl Version {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Version::V311 => "3.1.1",
            Version::V5 => "5",
        }
    }

    /// The properties of a packet when there are none.
    fn no_properties(self) -> &'static [u8] {
        match self {
            Version::V311 => &[],
            Version::V5 => &[0],
        }
    }
}

/// What the broker sends.
#[derive(Debug)]
pub(crate) enum Packet {
    Publish(Publish),
    /// The answer to the publish with this id.
    PubAck(u16),
    /// Anything else, by the upper half of its first byte.
    Other(u8),
}

#[derive(Debug)]
pub(crate) struct Publish {
    pub(crate) topic: String,
    /// Whether the broker had kept it.
    pub(crate) retained: bool,
    pub(crate) packet: u16,
    pub(crate) payload: Vec<u8>,
    /// User properties; none in 3.1.1.
    pub(crate) properties: Vec<(String, String)>,
}

const CONNACK: u8 = 2;
const PUBLISH: u8 = 3;
const PUBACK: u8 = 4;
const SUBACK: u8 = 9;

/// A connection.
pub(crate) struct Client {
    stream: TcpStream,
    version: Version,
    received: Vec<u8>,
}

impl Client {
    /// Connects; `keep` asks for a session that the broker keeps. A [`Client::next`] gives up
    /// after `patience`.
    pub(crate) fn connect(
        port: u16,
        id: &str,
        version: Version,
        keep: bool,
        patience: Duration,
    ) -> std::io::Result<Client> {
        Client::connect_as(None, port, id, version, keep, patience)
    }

    /// The same, with the name and the password of an account.
    pub(crate) fn connect_as(
        account: Option<(&str, &str)>,
        port: u16,
        id: &str,
        version: Version,
        keep: bool,
        patience: Duration,
    ) -> std::io::Result<Client> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        let mut client = Client {
            stream,
            version,
            received: Vec::new(),
        };
        let level = if version == Version::V5 { 5 } else { 4 };
        let mut body = b"\0\x04MQTT".to_vec();
        let clean = if keep { 0 } else { 2 };
        body.extend([level, clean | account.map_or(0, |_| 0xC0), 0, 0]);
        if version == Version::V5 {
            // Session expiry: an hour, or at once.
            let expiry: u32 = if keep { 3_600 } else { 0 };
            body.extend([5, 0x11]);
            body.extend(expiry.to_be_bytes());
        }
        body.extend(text(id));
        if let Some((name, password)) = account {
            body.extend(text(name));
            body.extend(text(password));
        }
        client.send(0x10, &body)?;
        client.expect(CONNACK)?;
        Ok(client)
    }

    /// Subscribes with QoS 1.
    pub(crate) fn subscribe(&mut self, filter: &str) -> std::io::Result<()> {
        let mut body = vec![0, 1];
        body.extend(self.version.no_properties());
        body.extend(text(filter));
        body.push(1);
        self.send(0x82, &body)?;
        // What a kept session brings may come before the answer.
        let mut early = Vec::new();
        loop {
            let (first, packet) = self.raw()?;
            if first >> 4 == SUBACK {
                break;
            }
            early.extend(frame(first, &packet));
        }
        early.append(&mut self.received);
        self.received = early;
        Ok(())
    }

    /// Publishes with QoS 1.
    pub(crate) fn publish(&mut self, topic: &str, id: u16, payload: &[u8]) -> std::io::Result<()> {
        let mut body = text(topic);
        body.extend(id.to_be_bytes());
        body.extend(self.version.no_properties());
        body.extend(payload);
        self.send(0x32, &body)
    }

    /// Publishes with QoS 1, for the broker to keep; nothing takes away what it keeps.
    pub(crate) fn retain(&mut self, topic: &str, id: u16, payload: &[u8]) -> std::io::Result<()> {
        let mut body = text(topic);
        body.extend(id.to_be_bytes());
        body.extend(self.version.no_properties());
        body.extend(payload);
        self.send(0x33, &body)
    }

    /// Publishes with QoS 0: nobody answers.
    pub(crate) fn publish_unasked(&mut self, topic: &str, payload: &[u8]) -> std::io::Result<()> {
        let mut body = text(topic);
        body.extend(self.version.no_properties());
        body.extend(payload);
        self.send(0x30, &body)
    }

    /// Acknowledges a message.
    pub(crate) fn acknowledge(&mut self, packet: u16) -> std::io::Result<()> {
        self.send(0x40, &packet.to_be_bytes())
    }

    /// Says farewell.
    pub(crate) fn disconnect(mut self) -> std::io::Result<()> {
        self.send(0xE0, &[])
    }

    /// The next packet; `None` when nothing whole came in time.
    pub(crate) fn next(&mut self) -> std::io::Result<Option<Packet>> {
        match self.raw() {
            Ok((first, body)) => Ok(Some(self.packet(first, &body))),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn packet(&self, first: u8, body: &[u8]) -> Packet {
        match first >> 4 {
            PUBLISH => Packet::Publish(self.message(first, body)),
            PUBACK => Packet::PubAck(number(body)),
            other => Packet::Other(other),
        }
    }

    fn message(&self, first: u8, body: &[u8]) -> Publish {
        let (topic, rest) = body[2..].split_at(usize::from(number(body)));
        // Only what is to be acknowledged has a number.
        let (packet, mut rest) = match first & 6 {
            0 => (0, rest),
            _ => (number(rest), &rest[2..]),
        };
        let mut properties = Vec::new();
        if self.version == Version::V5 {
            let (length, bytes) = variable(rest).unwrap();
            let (mut some, payload) = rest[bytes..].split_at(length);
            rest = payload;
            while let [0x26, pair @ ..] = some {
                let (name, value) = pair.split_at(2 + usize::from(number(pair)));
                let end = 2 + usize::from(number(value));
                properties.push((string(&name[2..]), string(&value[2..end])));
                some = &value[end..];
            }
        }
        Publish {
            topic: string(topic),
            retained: first & 1 == 1,
            packet,
            payload: rest.to_vec(),
            properties,
        }
    }

    fn expect(&mut self, wanted: u8) -> std::io::Result<()> {
        let (first, body) = self.raw()?;
        assert_eq!(first >> 4, wanted);
        assert!(wanted != CONNACK || body[1] == 0, "refused: {body:?}");
        Ok(())
    }

    fn send(&mut self, first: u8, body: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(&frame(first, body))
    }

    /// The first byte and the body of the next packet. What came of it stays when the time is up.
    fn raw(&mut self) -> std::io::Result<(u8, Vec<u8>)> {
        loop {
            if let Some((length, bytes)) = self.received.get(1..).and_then(variable) {
                let end = 1 + bytes + length;
                if self.received.len() >= end {
                    let rest = self.received.split_off(end);
                    let whole = std::mem::replace(&mut self.received, rest);
                    return Ok((whole[0], whole[1 + bytes..].to_vec()));
                }
            }
            let mut some = [0; 16 << 10];
            let count = match self.stream.read(&mut some) {
                // With a time limit the kernel does not go on by itself.
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                read => read?,
            };
            if count == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            self.received.extend(&some[..count]);
        }
    }
}

fn frame(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut length = body.len();
    loop {
        let low = u8::try_from(length % 128).unwrap();
        length /= 128;
        bytes.push(low | if length > 0 { 128 } else { 0 });
        if length == 0 {
            break;
        }
    }
    bytes.extend(body);
    bytes
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = u16::try_from(text.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

fn string(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn number(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[0], bytes[1]])
}

/// A number of seven bits a byte, and how many bytes it takes; `None` when more must come.
fn variable(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    for (at, byte) in bytes.iter().enumerate() {
        value |= usize::from(byte & 127) << (7 * at);
        if byte & 128 == 0 {
            return Some((value, at + 1));
        }
    }
    None
}
