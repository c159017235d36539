//! A source that receives UDP datagrams.
//!
//! What it promises: a datagram is one message, or holds whole ones. Nobody who sends datagrams can
//! be made to wait: what comes while the pipeline is behind and the queue is full is dropped and
//! counted; what comes faster than we read, the system drops, and we do not see it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type as SocketType};
use tokio::net::UdpSocket;
use tokio::time::Instant;

use super::{Context, Dropped, Failed, Intake, Plan};
use crate::config::Definition;
use crate::config::options::{OptionFault, OptionKind, OptionSpec, Options, joined};
use crate::event::{Type, Value};
use crate::framing::{FRAMING_OPTIONS, Framing, Piece, Start};
use crate::pace::Backoff;

/// What can be set.
pub const OPTIONS: &[OptionSpec] =
    &joined::<{ OWN_OPTIONS.len() + FRAMING_OPTIONS.len() }>(&[OWN_OPTIONS, FRAMING_OPTIONS]);

const OWN_OPTIONS: &[OptionSpec] = &[
    OptionSpec::new(
        "udp.listen",
        OptionKind::Text,
        "The address and port to receive at, such as 0.0.0.0:5001",
    )
    .required()
    .exclusive(),
    OptionSpec::new(
        "udp.messages",
        OptionKind::Choice(&["datagram", "framed"]),
        "`datagram`: each is one message; `framed`: each holds messages, told apart by `framing`",
    )
    .or("datagram"),
    OptionSpec::new(
        "udp.multicast",
        OptionKind::Text,
        "The group to join, such as 239.1.2.3 or ff02::1234",
    ),
    OptionSpec::new(
        "udp.interface",
        OptionKind::Text,
        "Where to join the group: the address of a network card (IPv4), or its number (IPv6). \
         Unset: where the system thinks best",
    ),
    OptionSpec::new(
        "udp.receive_buffer",
        OptionKind::Bytes,
        "What the system may keep for us while we do other things; it may allow less",
    )
    .or("1 MiB"),
    OptionSpec::new(
        "udp.peer.column",
        OptionKind::Text,
        "The STRING column that takes the sender's address and port",
    ),
];

/// The largest datagram there is.
const DATAGRAM_BYTES_MAX: usize = 65_535;
/// The waits between attempts to open the socket.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

/// A UDP source, checked.
#[derive(Debug)]
pub struct Udp {
    door: Door,
    framing: Framing,
    peer: Option<usize>,
    plan: Plan,
}

/// Where datagrams come in.
#[derive(Clone, Copy, Debug)]
struct Door {
    at: SocketAddr,
    group: Option<Group>,
    buffer_bytes: usize,
}

/// A multicast group, and where it is joined.
#[derive(Clone, Copy, Debug)]
enum Group {
    V4(Ipv4Addr, Ipv4Addr),
    V6(std::net::Ipv6Addr, u32),
}

impl Udp {
    /// Checks the options.
    ///
    /// # Errors
    /// The first option whose value cannot be used.
    pub fn new(definition: &Definition<'_>) -> Result<Udp, OptionFault> {
        let Definition {
            options,
            schema,
            format,
            ..
        } = *definition;
        let at = options.text("udp.listen").unwrap_or_default();
        let at: SocketAddr = at.trim().parse().map_err(|_| {
            let problem = format!("`{at}` is no address and port such as 0.0.0.0:5001");
            OptionFault::new("udp.listen", problem)
        })?;
        let peer = definition.column("udp.peer.column", &[Type::String])?;
        let taken: Vec<usize> = peer.into_iter().collect();
        let buffer_bytes = options.integer("udp.receive_buffer").unwrap_or(1 << 20);
        Ok(Udp {
            door: Door {
                at,
                group: group(options, at)?,
                buffer_bytes: usize::try_from(buffer_bytes).unwrap_or(usize::MAX),
            },
            framing: framing(options)?,
            peer,
            plan: Plan::new(format, options, schema, &taken)?,
        })
    }

    /// Receives until told to stop, or until the pipeline is gone.
    pub async fn run(self, context: Context) {
        let mut intake = Intake::new(self.plan, &context);
        let mut stop = context.stop;
        let mut pace = Backoff::new(RETRY.0, RETRY.1);
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        let mut open_at = Instant::now();
        let mut socket: Option<UdpSocket> = None;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(open_at), if socket.is_none() => {
                    match self.door.open() {
                        Ok(opened) => {
                            let at = opened.local_addr().unwrap_or(self.door.at);
                            tracing::info!(stream = context.name, "receives at {at}");
                            intake.up();
                            socket = Some(opened);
                        }
                        Err(error) => {
                            let why = format!("cannot receive at {}: {error}", self.door.at);
                            let wait = pace.wait();
                            tracing::warn!(
                                stream = context.name,
                                "{why}; next attempt in {wait:.1?}"
                            );
                            intake.down(&why);
                            open_at = Instant::now() + wait;
                        }
                    }
                }
                Some(received) = receive(socket.as_ref(), &mut buffer) => match received {
                    Ok((count, from)) => {
                        pace.reset();
                        let bytes = buffer.get(..count).unwrap_or_default();
                        let peer = self.peer.map(|column| (column, Value::text(&from.to_string())));
                        if take(&mut intake, &self.framing, bytes, peer.as_slice()).is_err() {
                            break;
                        }
                    }
                    Err(error) => {
                        let why = format!("cannot receive any more: {error}");
                        tracing::warn!(stream = context.name, "{why}");
                        intake.down(&why);
                        socket = None;
                        open_at = Instant::now() + pace.wait();
                    }
                },
                () = intake.serve() => break,
                _ = stop.wait_for(|stop| *stop) => break,
            }
        }
        intake.drain(context.stop_within).await;
    }
}

/// The next datagram; nothing without a socket.
async fn receive(
    socket: Option<&UdpSocket>,
    buffer: &mut [u8],
) -> Option<std::io::Result<(usize, SocketAddr)>> {
    Some(socket?.recv_from(buffer).await)
}

fn take(
    intake: &mut Intake,
    framing: &Framing,
    bytes: &[u8],
    fills: &[(usize, Value)],
) -> Result<(), Failed> {
    if intake.is_full(bytes.len()) {
        intake.heard(bytes.len());
        intake.drop(Dropped::QueueFull, "a datagram");
        return Ok(());
    }
    let now = std::time::Instant::now();
    let mut deframer = framing.deframer(Start::Boundary, now);
    deframer.push(bytes, now);
    // A datagram is never cut off: its last line needs no end.
    deframer.finish();
    while let Some(piece) = deframer.next_piece() {
        match piece {
            Piece::Frame(payload) => intake.take(payload, fills, None)?,
            Piece::Fault { reject, bytes } => intake.reject(reject, bytes)?,
        };
    }
    let incomplete = deframer.abandon(Start::Boundary, now);
    if incomplete > 0 {
        let what = format!("the last {incomplete} bytes of a datagram");
        intake.drop(Dropped::Incomplete, &what);
    }
    if intake.has_batch() {
        intake.offer();
    }
    Ok(())
}

fn framing(options: &Options) -> Result<Framing, OptionFault> {
    if options.text("udp.messages") == Some("framed") {
        return Framing::from_options(options);
    }
    if options.is_own("framing") {
        let problem = "it has no effect without 'udp.messages' = 'framed'";
        return Err(OptionFault::new("framing", problem));
    }
    Framing::whole(options)
}

fn group(options: &Options, at: SocketAddr) -> Result<Option<Group>, OptionFault> {
    let option = "udp.multicast";
    let interface = options.text("udp.interface").map(str::trim);
    let Some(text) = options.text(option) else {
        return match interface {
            None => Ok(None),
            Some(_) => {
                let problem = "it has no effect without 'udp.multicast'";
                Err(OptionFault::new("udp.interface", problem))
            }
        };
    };
    let address = text.trim().parse::<IpAddr>().ok();
    let unfit = |what: &str| OptionFault::new("udp.interface", format!("write {what}"));
    match address.filter(IpAddr::is_multicast) {
        Some(IpAddr::V4(group)) if at.is_ipv4() => {
            let card = interface.map(str::parse).transpose();
            let card = card.map_err(|_| unfit("the card's IPv4 address, such as 192.168.1.5"))?;
            Ok(Some(Group::V4(
                group,
                card.unwrap_or(Ipv4Addr::UNSPECIFIED),
            )))
        }
        Some(IpAddr::V6(group)) if at.is_ipv6() => {
            let card = interface.map(str::parse).transpose();
            let card = card.map_err(|_| unfit("the card's number, as `ip link` shows it"))?;
            Ok(Some(Group::V6(group, card.unwrap_or(0))))
        }
        Some(_) => {
            let problem = format!("a group of the other kind than udp.listen, {at}");
            Err(OptionFault::new(option, problem))
        }
        None => {
            let problem = format!("`{text}` is no multicast group such as 239.1.2.3");
            Err(OptionFault::new(option, problem))
        }
    }
}

impl Door {
    fn open(&self) -> std::io::Result<UdpSocket> {
        let domain = Domain::for_address(self.at);
        let socket = Socket::new(domain, SocketType::DGRAM, Some(Protocol::UDP))?;
        // Others on this machine may listen to the same group.
        socket.set_reuse_address(self.group.is_some())?;
        socket.set_recv_buffer_size(self.buffer_bytes)?;
        socket.set_nonblocking(true)?;
        socket.bind(&self.at.into())?;
        match self.group {
            None => {}
            Some(Group::V4(group, card)) => socket.join_multicast_v4(&group, &card)?,
            Some(Group::V6(group, card)) => socket.join_multicast_v6(&group, card)?,
        }
        UdpSocket::from_std(socket.into())
    }
}
