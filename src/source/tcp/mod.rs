//! A source that reads TCP connections: those that others make to us, or one that we make.
//!
//! What it promises: whole frames only; a frame that a connection ends in the middle of is dropped
//! and counted. When the pipeline is behind, nothing is read, so that whoever sends has to wait.
//! What it cannot promise: TCP tells a sender that bytes have arrived, not that they are durable;
//! what was read and not logged yet is lost in a crash. Who must not lose anything sends by MQTT or
//! HTTP.

mod connection;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use self::connection::{Frame, Heard, Manner, read};
use super::{Context, Dropped, Failed, Intake, Plan};
use crate::config::Definition;
use crate::config::options::{OptionFault, OptionKind, OptionSpec, Options, joined};
use crate::event::{Type, Value};
use crate::framing::{FRAMING_OPTIONS, Framing};
use crate::pace::{Backoff, Sparse, sleep_until_some};
use crate::tls;

/// What can be set.
pub const OPTIONS: &[OptionSpec] =
    &joined::<{ OWN_OPTIONS.len() + FRAMING_OPTIONS.len() }>(&[OWN_OPTIONS, FRAMING_OPTIONS]);

const LISTEN: &str = "tcp.listen";
const CONNECT: &str = "tcp.connect";

const OWN_OPTIONS: &[OptionSpec] = &[
    OptionSpec::new(
        LISTEN,
        OptionKind::Text,
        "The address and port to listen on, such as 0.0.0.0:5000; either this or `tcp.connect`",
    )
    .exclusive(),
    OptionSpec::new(
        CONNECT,
        OptionKind::Text,
        "The host and port to connect to, such as scale.local:4001",
    ),
    OptionSpec::new(
        "tcp.connections_max",
        OptionKind::Integer {
            min: 1,
            max: 10_000,
        },
        "Connections at the same time; more are closed at once",
    )
    .or("64"),
    OptionSpec::new(
        "tcp.idle_timeout",
        OptionKind::Duration,
        "A connection on which nothing has come for so long is closed; 0: never",
    )
    .or("0"),
    OptionSpec::new(
        "tcp.peer.column",
        OptionKind::Text,
        "The STRING column that takes the far side's address and port",
    ),
    OptionSpec::new(
        "tcp.tls",
        OptionKind::Flag,
        "With `tcp.connect`: whether the connection is encrypted. A listener's are when it has a \
         certificate",
    )
    .or("false"),
    tls::ca("tcp.tls.ca"),
    tls::cert("tcp.tls.cert"),
    tls::key("tcp.tls.key"),
    tls::server_name("tcp.tls.server_name"),
    tls::client_ca("tcp.tls.client_ca"),
];

/// The waits between attempts to connect, and to listen.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));
/// A connection that lasted so long was a good one.
const STABLE_AFTER: Duration = Duration::from_secs(10);
/// How long a connection and its encryption may take to be made.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// An address that does not answer is given so long before the next one is tried, if there is one.
const ADDRESS_WITHIN: Duration = Duration::from_secs(3);
/// After so much silence the system asks whether the far side is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// What connections have to say and nobody has taken yet; each holds what one read gave.
const HEARD_MAX: usize = 4;
/// How soon an accept that failed, for want of file handles most likely, is tried again.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// One line about connections in this time.
const LINE_SPAN: Duration = Duration::from_secs(10);
const LATE_HANDSHAKE: &str = "the TLS handshake took too long";

/// A TCP source, checked.
#[derive(Debug)]
pub struct Tcp {
    side: Side,
    connections_max: usize,
    manner: Manner,
    peer: Option<usize>,
    plan: Plan,
}

/// Who makes the connections.
#[derive(Debug)]
enum Side {
    Listens(SocketAddr, Option<Arc<tls::Server>>),
    Connects(Arc<Far>),
}

/// Whom we connect to.
#[derive(Debug)]
struct Far {
    host: String,
    port: u16,
    tls: Option<tls::Client>,
}

impl Tcp {
    /// Checks the options.
    ///
    /// # Errors
    /// The first option whose value cannot be used.
    pub fn new(definition: &Definition<'_>) -> Result<Tcp, OptionFault> {
        let Definition {
            options,
            schema,
            format,
            ..
        } = *definition;
        let peer = definition.column("tcp.peer.column", &[Type::String])?;
        let taken: Vec<usize> = peer.into_iter().collect();
        let idle_ms = options.integer("tcp.idle_timeout").unwrap_or(0);
        let most = options.integer("tcp.connections_max").unwrap_or(64);
        Ok(Tcp {
            side: side(options)?,
            connections_max: usize::try_from(most).unwrap_or(1),
            manner: Manner {
                framing: Framing::from_options(options)?,
                idle_after: (idle_ms > 0).then(|| Duration::from_millis(idle_ms.unsigned_abs())),
            },
            peer,
            plan: Plan::new(format, options, schema, &taken)?,
        })
    }

    /// Reads until told to stop, or until the pipeline is gone.
    pub async fn run(self, context: Context) {
        let (to, heard) = mpsc::channel(HEARD_MAX);
        let mut task = Task {
            intake: Intake::new(self.plan, &context),
            name: context.name,
            stop: context.stop,
            manner: self.manner,
            connections_max: self.connections_max,
            peer: self.peer,
            connections: JoinSet::new(),
            to,
            heard,
            lines: Sparse::new(LINE_SPAN),
        };
        let Ended = match self.side {
            Side::Listens(at, tls) => task.listen(at, tls).await,
            Side::Connects(far) => task.connect(&far).await,
        };
        task.connections.abort_all();
        task.take_what_was_heard();
        task.intake.drain(context.stop_within).await;
    }
}

fn side(options: &Options) -> Result<Side, OptionFault> {
    match (options.text(LISTEN), options.text(CONNECT)) {
        (Some(_), Some(_)) => {
            let problem = "a stream either listens or connects: leave one of both away";
            Err(OptionFault::new(CONNECT, problem))
        }
        (None, None) => {
            let problem = "write an address to listen on such as 0.0.0.0:5000, or 'tcp.connect'";
            Err(OptionFault::new(LISTEN, problem))
        }
        (Some(at), None) => {
            let at = at.trim().parse().map_err(|_| {
                let problem = format!("`{at}` is no address and port such as 0.0.0.0:5000");
                OptionFault::new(LISTEN, problem)
            })?;
            let tls = tls::server(options, "tcp.tls", &[])?;
            Ok(Side::Listens(at, tls.map(Arc::new)))
        }
        (None, Some(far)) => {
            let (host, port) = far.trim().rsplit_once(':').unwrap_or((far, ""));
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let Some(port) = port.parse().ok().filter(|_| !host.is_empty()) else {
                let problem = format!("`{far}` is no host and port such as scale.local:4001");
                return Err(OptionFault::new(CONNECT, problem));
            };
            let tls = match options.flag("tcp.tls") {
                false => None,
                true => {
                    tls::required("tcp.tls")?;
                    Some(tls::client(options, "tcp.tls")?)
                }
            };
            Ok(Side::Connects(Arc::new(Far {
                host: host.to_owned(),
                port,
                tls,
            })))
        }
    }
}

/// The source is to end: told to, without a pipeline, or failed.
struct Ended;

impl From<Failed> for Ended {
    fn from(_: Failed) -> Ended {
        Ended
    }
}

struct Task {
    intake: Intake,
    name: String,
    stop: watch::Receiver<bool>,
    manner: Manner,
    connections_max: usize,
    peer: Option<usize>,
    connections: JoinSet<()>,
    to: mpsc::Sender<Heard>,
    heard: mpsc::Receiver<Heard>,
    lines: Sparse,
}

impl Task {
    async fn listen(&mut self, at: SocketAddr, tls: Option<Arc<tls::Server>>) -> Ended {
        let mut pace = Backoff::new(RETRY.0, RETRY.1);
        let listener = loop {
            match TcpListener::bind(at).await {
                Ok(listener) => break listener,
                Err(error) => {
                    let why = format!("cannot listen on {at}: {error}");
                    self.intake.down(&why);
                    let wait = pace.wait();
                    tracing::warn!(stream = self.name, "{why}; next attempt in {wait:.1?}");
                    if !self.pause(Instant::now() + wait).await {
                        return Ended;
                    }
                }
            }
        };
        let local = listener.local_addr().unwrap_or(at);
        tracing::info!(stream = self.name, "listens on {local}");
        self.intake.up();
        let mut accept_at = None;
        loop {
            tokio::select! {
                () = sleep_until_some(accept_at), if accept_at.is_some() => accept_at = None,
                accepted = listener.accept(), if accept_at.is_none() => match accepted {
                    Ok((stream, peer)) => self.accept(stream, peer, tls.clone()),
                    Err(error) => {
                        accept_at = Some(Instant::now() + ACCEPT_AGAIN);
                        self.say(&format!("cannot take a connection: {error}"));
                    }
                },
                Some(heard) = self.heard.recv() => {
                    if let Heard::Ended { peer, why, .. } = &heard {
                        self.say_end(*peer, why);
                    }
                    if self.take(heard).await.is_err() {
                        return Ended;
                    }
                }
                Some(_) = self.connections.join_next() => {}
                () = self.intake.serve() => return Ended,
                () = told_to_stop(&mut self.stop) => return Ended,
            }
        }
    }

    fn accept(&mut self, stream: TcpStream, peer: SocketAddr, tls: Option<Arc<tls::Server>>) {
        if self.connections.len() >= self.connections_max {
            let most = self.connections_max;
            self.say(&format!(
                "closed a connection of {peer}: tcp.connections_max is {most}"
            ));
            return;
        }
        keep_alive(&stream);
        let (manner, to) = (self.manner.clone(), self.to.clone());
        self.connections.spawn(async move {
            let Some(tls) = tls else {
                return read(stream, peer, manner, to).await;
            };
            let why = match timeout(CONNECT_WITHIN, tls.accept(stream)).await {
                Ok(Ok(stream)) => return read(stream, peer, manner, to).await,
                Ok(Err(error)) => error.to_string(),
                Err(_) => LATE_HANDSHAKE.to_owned(),
            };
            let _ = to.send(never_made(Some(peer), why)).await;
        });
    }

    async fn connect(&mut self, far: &Arc<Far>) -> Ended {
        let mut pace = Backoff::new(RETRY.0, RETRY.1);
        loop {
            let (far, manner, to) = (Arc::clone(far), self.manner.clone(), self.to.clone());
            let at = format!("{}:{}", far.host, far.port);
            self.connections.spawn(async move {
                let made = timeout(CONNECT_WITHIN, far.open()).await;
                match made.unwrap_or_else(|_| Err("it does not answer".to_owned())) {
                    Err(why) => _ = to.send(never_made(None, why)).await,
                    Ok((stream, peer)) => match &far.tls {
                        None => read(stream, peer, manner, to).await,
                        Some(tls) => match encrypt(tls, &far.host, stream).await {
                            Ok(stream) => read(stream, peer, manner, to).await,
                            Err(why) => _ = to.send(never_made(Some(peer), why)).await,
                        },
                    },
                }
            });
            let (why, stood) = match self.until_ended().await {
                Ok(ended) => ended,
                Err(ended) => return ended,
            };
            self.intake.down(&why);
            // One that is only made after long was not good for it.
            if stood.is_some_and(|stood| stood >= STABLE_AFTER) {
                pace.reset();
            }
            let wait = pace.wait();
            tracing::warn!(
                stream = self.name,
                "no connection to {at}: {why}; next attempt in {wait:.1?}"
            );
            if !self.pause(Instant::now() + wait).await {
                return Ended;
            }
        }
    }

    /// Takes what the one connection says until it has ended; why it has, and how long it stood
    /// if it was ever made.
    async fn until_ended(&mut self) -> Result<(String, Option<Duration>), Ended> {
        let mut made_at: Option<Instant> = None;
        loop {
            let heard = tokio::select! {
                Some(heard) = self.heard.recv() => heard,
                () = self.intake.serve() => return Err(Ended),
                _ = self.stop.wait_for(|stop| *stop) => return Err(Ended),
            };
            match &heard {
                Heard::Began(peer) => {
                    tracing::info!(stream = self.name, "connected to {peer}");
                    self.intake.up();
                    made_at = Some(Instant::now());
                }
                Heard::Frames(..) => {}
                Heard::Ended { why, .. } => {
                    let why = why.clone();
                    let stood = made_at.map(|at| at.elapsed());
                    self.take(heard).await?;
                    while self.connections.join_next().await.is_some() {}
                    return Ok((why, stood));
                }
            }
            self.take(heard).await?;
        }
    }

    async fn take(&mut self, heard: Heard) -> Result<(), Ended> {
        match heard {
            Heard::Began(_) => {}
            Heard::Frames(peer, frames) => {
                let mut frames = frames.into_iter();
                while let Some(frame) = frames.next() {
                    let bytes = frame.bytes().len();
                    let has_room = tokio::select! {
                        biased;
                        is_there = self.intake.room(bytes) => is_there,
                        _ = self.stop.wait_for(|stop| *stop) => false,
                    };
                    if !has_room {
                        self.take_last(&peer, std::iter::once(frame).chain(frames))?;
                        return Err(Ended);
                    }
                    self.take_frame(frame, &peer)?;
                }
            }
            Heard::Ended {
                peer, incomplete, ..
            } => {
                if incomplete > 0 {
                    let peer = peer.map_or(String::new(), |peer| peer.to_string());
                    let what = format!("the last {incomplete} bytes of a connection of {peer}");
                    self.intake.drop(Dropped::Incomplete, &what);
                }
            }
        }
        Ok(())
    }

    fn take_frame(&mut self, frame: Frame, peer: &Value) -> Result<(), Failed> {
        match frame {
            Frame::Whole(payload) => {
                let fill = self.peer.map(|column| (column, peer.clone()));
                self.intake.take(&payload, fill.as_slice(), None)?;
            }
            Frame::Fault(reject, bytes) => _ = self.intake.reject(reject, &bytes)?,
        }
        if self.intake.has_batch() {
            self.intake.offer();
        }
        Ok(())
    }

    /// At the end: nobody sends again what was read already.
    fn take_what_was_heard(&mut self) {
        while let Ok(heard) = self.heard.try_recv() {
            let Heard::Frames(peer, frames) = heard else {
                continue;
            };
            if self.take_last(&peer, frames.into_iter()).is_err() {
                return;
            }
        }
    }

    /// Takes what there is room for; nobody waits for room any more.
    fn take_last(
        &mut self,
        peer: &Value,
        frames: impl Iterator<Item = Frame>,
    ) -> Result<(), Failed> {
        for frame in frames {
            let bytes = frame.bytes().len();
            if self.intake.is_full(bytes) {
                self.intake.heard(bytes);
                self.intake.drop(Dropped::QueueFull, "a frame, at the end");
            } else {
                self.take_frame(frame, peer)?;
            }
        }
        Ok(())
    }

    /// Waits until then. False when the source is to end.
    async fn pause(&mut self, until: Instant) -> bool {
        tokio::select! {
            () = tokio::time::sleep_until(until) => true,
            () = self.intake.serve() => false,
            _ = self.stop.wait_for(|stop| *stop) => false,
        }
    }

    fn say(&mut self, what: &str) {
        if let Some(count) = self.lines.occurred(std::time::Instant::now()) {
            tracing::warn!(stream = self.name, count, "{what}");
        }
    }

    fn say_end(&self, peer: Option<SocketAddr>, why: &str) {
        let peer = peer.map_or("?".to_owned(), |peer| peer.to_string());
        tracing::debug!(
            stream = self.name,
            "the connection of {peer} has ended: {why}"
        );
    }
}

impl Frame {
    fn bytes(&self) -> &[u8] {
        match self {
            Frame::Whole(payload) => payload,
            Frame::Fault(_, bytes) => bytes,
        }
    }
}

impl Far {
    /// Connects, one address after the other.
    async fn open(&self) -> Result<(TcpStream, SocketAddr), String> {
        let found = tokio::net::lookup_host((self.host.as_str(), self.port)).await;
        let addresses: Vec<SocketAddr> = found.map_err(|error| error.to_string())?.collect();
        let (stream, at) = first_of(&addresses).await?;
        keep_alive(&stream);
        Ok((stream, at))
    }
}

/// A connection to the first address that answers; one that swallows everything does not hide the
/// next.
async fn first_of(addresses: &[SocketAddr]) -> Result<(TcpStream, SocketAddr), String> {
    let mut failure = "the host has no address".to_owned();
    for (number, at) in (1..).zip(addresses) {
        let patience = match number == addresses.len() {
            true => CONNECT_WITHIN,
            false => ADDRESS_WITHIN,
        };
        match timeout(patience, TcpStream::connect(at)).await {
            Ok(Ok(stream)) => return Ok((stream, *at)),
            Ok(Err(error)) => failure = error.to_string(),
            Err(_) => failure = "it does not answer".to_owned(),
        }
    }
    Err(failure)
}

async fn encrypt(
    tls: &tls::Client,
    host: &str,
    stream: TcpStream,
) -> Result<tls::Connected, String> {
    match timeout(CONNECT_WITHIN, tls.encrypt(host, stream)).await {
        Ok(made) => made.map_err(|error| error.to_string()),
        Err(_) => Err(LATE_HANDSHAKE.to_owned()),
    }
}

async fn told_to_stop(stop: &mut watch::Receiver<bool>) {
    // Who would tell may be gone: then it is time, too.
    let _ = stop.wait_for(|stop| *stop).await;
}

fn never_made(peer: Option<SocketAddr>, why: String) -> Heard {
    Heard::Ended {
        peer,
        why,
        incomplete: 0,
    }
}

/// A far side that is gone without a word is noticed all the same. Where the system refuses, the
/// connection is as good as any.
fn keep_alive(stream: &TcpStream) {
    let asks = TcpKeepalive::new().with_time(KEEP_ALIVE);
    let _ = SockRef::from(stream).set_tcp_keepalive(&asks);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_that_swallows_everything_does_not_hide_the_next() {
        // A queue that is full: the system answers no more who would connect.
        let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let full = full.unwrap();
        let any: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 0));
        full.bind(&any.into()).unwrap();
        full.listen(0).unwrap();
        let black_hole = full.local_addr().unwrap().as_socket().unwrap();
        let mut waiting = Vec::new();
        let moment = Duration::from_millis(200);
        while let Ok(made) = timeout(moment, TcpStream::connect(black_hole)).await {
            waiting.push(made.unwrap());
        }
        let open = TcpListener::bind(any).await.unwrap();
        let addresses = [black_hole, open.local_addr().unwrap()];
        let found = timeout(CONNECT_WITHIN, first_of(&addresses)).await.unwrap();
        assert_eq!(found.unwrap().1, addresses[1]);
    }
}
