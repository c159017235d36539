//! HTTP in: a listener to which others send ([`Http`]), and a client that asks others ([`Poll`]).
//!
//! What the listener promises: a sender is told that its message is taken only when the log has
//! it, or that it can never be taken only when the log has that. A repeated `Idempotency-Key` makes
//! no second row, across restarts too, as long as it is among the last 4096. What waits in memory
//! is bounded, and whoever finds no room is told to come again.

mod answer;
mod poll;
mod route;
mod seen;
mod server;

pub use poll::{POLL_OPTIONS, Poll};

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep_until};

use self::answer::{Posted, Route, Verdict};
use self::route::{Columns, PATH, Pattern, Rate, Tokens};
use self::seen::{Receipt, Seen};
use self::server::{Encryption, Seat};
use super::{Context, Failed, Intake, Plan};
use crate::config::Definition;
use crate::config::options::{OptionFault, OptionKind, OptionSpec, Options};
use crate::http::options::{size, span};
use crate::pace::Backoff;
use crate::tls;

/// What can be set for the listener.
pub const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new(
        LISTEN,
        OptionKind::Text,
        "The address and port to listen on, such as `0.0.0.0:8080`; several streams may share it",
    )
    .required()
    .exclusive(),
    OptionSpec::new(
        PATH,
        OptionKind::Text,
        "The path; a segment `{column}` stands for any text, which fills that STRING column",
    )
    .or("/")
    .exclusive(),
    OptionSpec::new(
        "http.column.*",
        OptionKind::Text,
        "What fills a STRING column besides: `query:<name>`, `header:<name>` or `peer` (the \
         sender's address)",
    ),
    OptionSpec::new(
        TOKENS,
        OptionKind::List,
        "The tokens of which a sender must show one (Bearer). Unset: whoever reaches the address \
         may send",
    )
    .secret(),
    tls::cert("http.tls.cert"),
    tls::key("http.tls.key"),
    tls::client_ca("http.tls.client_ca"),
    OptionSpec::new(
        "http.timeout",
        OptionKind::Duration,
        "How long a sender may take for the head of a request, and for its body",
    )
    .or("10 s"),
    OptionSpec::new(
        "http.durable_within",
        OptionKind::Duration,
        "How long a sender waits for the disk before it is told to come again",
    )
    .or("10 s"),
    OptionSpec::new(
        "http.rate_max",
        OptionKind::Integer {
            min: 1,
            max: 1_000_000,
        },
        "How many requests are taken in a second. Unset: as many as come",
    ),
    OptionSpec::new(
        "http.connections_max",
        OptionKind::Integer {
            min: 1,
            max: 10_000,
        },
        "How many connections are open at once; where streams share an address, the largest counts",
    )
    .or("64"),
];

const LISTEN: &str = "http.listen";
const TOKENS: &str = "http.tokens";
/// Bodies between the connections and the stream.
const POSTED_MAX: usize = 16;
/// Waits before an address that cannot be had is tried again.
const LISTEN_AGAIN: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

/// A listening source, checked.
#[derive(Debug)]
pub struct Http {
    at: SocketAddr,
    encryption: Encryption,
    pattern: Pattern,
    columns: Columns,
    tokens: Tokens,
    rate: Option<Rate>,
    body_bytes_max: usize,
    room_bytes: usize,
    connections_max: usize,
    within: Duration,
    durable_within: Duration,
    plan: Plan,
}

impl Http {
    /// Checks the options.
    ///
    /// # Errors
    /// The first option whose value cannot be used.
    pub fn new(definition: &Definition<'_>) -> Result<Http, OptionFault> {
        let Definition {
            options,
            schema,
            format,
            ..
        } = *definition;
        let pattern = Pattern::parse(definition)?;
        let columns = Columns::parse(definition)?;
        let taken = columns.taken(&pattern)?;
        let within = crate::http::options::timeout(options)?;
        let rate = options.integer("http.rate_max");
        let body_bytes_max = size(options, "payload.bytes_max", 1 << 20);
        Ok(Http {
            at: address(options)?,
            encryption: encryption(options)?,
            pattern,
            columns,
            tokens: Tokens::new(&options.list(TOKENS)),
            rate: rate.map(|rate| Rate::new(u32::try_from(rate).unwrap_or(u32::MAX))),
            body_bytes_max,
            room_bytes: size(options, "queue.bytes_max", 8 << 20).max(body_bytes_max),
            connections_max: size(options, "http.connections_max", 64),
            within,
            durable_within: span(options, "http.durable_within", 10_000),
            plan: Plan::new(format, options, schema, &taken)?,
        })
    }

    /// Listens until told to stop, or until the pipeline is gone.
    pub async fn run(self, mut context: Context) {
        let (to, posted) = mpsc::channel(POSTED_MAX);
        let seen = Seen::new(std::mem::take(&mut context.tail));
        let intake = Intake::new(self.plan, &context);
        let is_open = self.tokens.is_empty() && !self.encryption.wants_certificates();
        if is_open && !self.at.ip().is_loopback() {
            tracing::warn!(
                stream = context.name,
                "whoever reaches {} may send: set {TOKENS} or http.tls.client_ca",
                self.at
            );
        }
        let route = Route {
            stream: context.name.clone(),
            pattern: self.pattern,
            columns: self.columns,
            tokens: self.tokens,
            rate: self.rate,
            body_bytes_max: self.body_bytes_max,
            connections_max: self.connections_max,
            within: self.within,
            durable_within: self.durable_within,
            room: Arc::new(Semaphore::new(self.room_bytes.min(Semaphore::MAX_PERMITS))),
            to,
            released: intake.watch_released(),
        };
        let task = Task {
            at: self.at,
            encryption: self.encryption,
            route: Arc::new(route),
            posted,
            intake,
            seen,
            context,
        };
        task.run().await;
    }
}

impl Encryption {
    fn wants_certificates(&self) -> bool {
        let tls = self.tls.as_ref();
        tls.is_some_and(|tls| tls.wants_client_certificates())
    }
}

fn address(options: &Options) -> Result<SocketAddr, OptionFault> {
    let text = options.text(LISTEN).unwrap_or_default();
    text.parse().map_err(|_| {
        let problem = format!(
            "`{text}` is not an address with a port, such as 127.0.0.1:8080, 0.0.0.0:8080 (every \
             address of this machine) or [::]:8080"
        );
        OptionFault::new(LISTEN, problem)
    })
}

fn encryption(options: &Options) -> Result<Encryption, OptionFault> {
    let mut digest = Sha256::new();
    for name in ["http.tls.cert", "http.tls.key", "http.tls.client_ca"] {
        digest.update(options.text(name).unwrap_or_default());
        digest.update([0]);
    }
    let tls = tls::server(options, "http.tls", &["http/1.1"])?;
    Ok(Encryption {
        tls: tls.map(Arc::new),
        digest: digest.finalize().into(),
    })
}

/// Why a listener has ended.
enum End {
    Stopped,
    Gone,
    Failed,
}

struct Task {
    at: SocketAddr,
    encryption: Encryption,
    route: Arc<Route>,
    posted: mpsc::Receiver<Posted>,
    intake: Intake,
    seen: Seen,
    context: Context,
}

impl Task {
    async fn run(mut self) {
        let end = match self.open().await {
            Err(end) => end,
            Ok(seat) => {
                tracing::info!(stream = self.context.name, "listens on {}", seat.local());
                self.intake.up();
                self.listen().await
                // The seat is left here: nothing more comes.
            }
        };
        self.posted.close();
        match end {
            // Those before the one that failed still wait for their answers.
            End::Stopped | End::Failed => {
                self.intake.drain(self.context.stop_within).await;
            }
            End::Gone => {}
        }
    }

    /// Takes a seat at the listener, sooner or later.
    async fn open(&mut self) -> Result<Seat, End> {
        let mut pace = Backoff::new(LISTEN_AGAIN.0, LISTEN_AGAIN.1);
        loop {
            let why = match server::join(self.at, &self.encryption, &self.route) {
                Ok(seat) => return Ok(seat),
                Err(why) => why,
            };
            let wait = pace.wait();
            let name = &self.context.name;
            tracing::warn!(stream = name, "{why}; next attempt in {wait:.1?}");
            self.intake.down(&why);
            tokio::select! {
                _ = self.context.stop.wait_for(|stop| *stop) => return Err(End::Stopped),
                () = self.intake.serve() => return Err(End::Gone),
                () = sleep_until(Instant::now() + wait) => {}
            }
        }
    }

    async fn listen(&mut self) -> End {
        loop {
            let posted = tokio::select! {
                biased;
                _ = self.context.stop.wait_for(|stop| *stop) => return End::Stopped,
                posted = self.posted.recv() => posted,
                () = self.intake.serve() => return End::Gone,
            };
            // The other end is in the route.
            let Some(posted) = posted else {
                return End::Gone;
            };
            if self.take(posted).is_err() {
                return End::Failed;
            }
            if self.intake.has_batch() {
                self.intake.offer();
            }
        }
    }

    fn take(&mut self, posted: Posted) -> Result<(), Failed> {
        let known = posted.mark.and_then(|mark| self.seen.receipt(mark));
        if let Some(Receipt { ordinal, why }) = known.cloned() {
            let metrics = &self.context.metrics;
            metrics.duplicates.fetch_add(1, Ordering::Relaxed);
            say(
                posted,
                Verdict::Received {
                    ordinal,
                    why,
                    is_repeat: true,
                },
            );
            return Ok(());
        }
        let bytes = match &posted.body {
            Ok(body) => body.len(),
            Err((_, bytes)) => bytes.len(),
        };
        if self.intake.is_full(bytes) {
            let metrics = &self.context.metrics;
            metrics.deferred.fetch_add(1, Ordering::Relaxed);
            say(posted, Verdict::Full);
            return Ok(());
        }
        let taken = match &posted.body {
            Ok(body) => self.intake.take(body, &posted.fills, posted.mark),
            Err((reject, bytes)) => self.intake.refuse(reject.clone(), bytes, posted.mark),
        };
        let Ok(ordinal) = taken else {
            say(posted, Verdict::Failed);
            return Err(Failed);
        };
        let why = self.intake.last_reject().map(str::to_owned);
        if let Some(mark) = posted.mark {
            let why = why.clone();
            self.seen.remember(mark, Receipt { ordinal, why });
        }
        say(
            posted,
            Verdict::Received {
                ordinal,
                why,
                is_repeat: false,
            },
        );
        Ok(())
    }
}

/// Whoever has gone meanwhile does not hear it.
fn say(posted: Posted, verdict: Verdict) {
    let _ = posted.verdict.send(verdict);
}
