//! A source that asks a server again and again.
//!
//! What it promises: an answer that says that nothing has changed makes no row; a server that is
//! away, slow or angry is asked less often, and not counted as a message. What it asked for last is
//! forgotten with the process, save for the body itself where `http.unchanged` is `skip`.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::body::Bytes;
use hyper::header::{
    CONTENT_ENCODING, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    LAST_MODIFIED,
};
use hyper::{Method, StatusCode};
use tokio::time::{Instant, sleep_until};

use crate::config::Definition;
use crate::config::options::{OptionFault, OptionKind, OptionSpec, joined};
use crate::decode::{Reason, Reject};
use crate::event::DeliveryMark;
use crate::http::auth::Auth;
use crate::http::client::{Allowed, Answer, Client, Request, Target};
use crate::http::coding::{Coding, Unpack};
use crate::http::options::{self as shared, header_name, header_value, size, span};
use crate::http::retry_after;
use crate::pace::Backoff;
use crate::source::redelivery::digest;
use crate::source::{Context, Failed, Intake, Plan};

/// What can be set for the client.
pub const POLL_OPTIONS: &[OptionSpec] = &joined::<
    { OWN_OPTIONS.len() + shared::CLIENT_OPTIONS.len() },
>(&[OWN_OPTIONS, shared::CLIENT_OPTIONS]);

const OWN_OPTIONS: &[OptionSpec] = &[
    OptionSpec::new(
        URL,
        OptionKind::Text,
        "What to ask for: http:// or https://",
    )
    .required(),
    OptionSpec::new(
        "http.interval",
        OptionKind::Duration,
        "How long it is from one question to the next",
    )
    .or("1 min"),
    OptionSpec::new(
        "http.jitter",
        OptionKind::Duration,
        "A random part of this is added to each interval, so that many gateways do not ask at once",
    )
    .or("0"),
    OptionSpec::new(
        "http.method",
        OptionKind::Choice(&["GET", "POST"]),
        "How to ask",
    )
    .or("GET"),
    OptionSpec::new(
        "http.body",
        OptionKind::Text,
        "What to send with a POST; its type is set by http.header.Content-Type",
    ),
    OptionSpec::new(
        "http.header.*",
        OptionKind::Text,
        "A further header, such as http.header.Accept",
    )
    .secret(),
    OptionSpec::new(
        "http.unchanged",
        OptionKind::Choice(&["take", "skip"]),
        "Whether an answer that is the same as the one before, byte for byte, is a message. An \
         answer 304 never is",
    )
    .or("take"),
];

const URL: &str = "http.url";
const HEADER: &str = "http.header.";
/// The shortest interval.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// The longest `Retry-After` that is honoured.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);

/// A polling source, checked.
#[derive(Debug)]
pub struct Poll {
    asker: Asker,
    interval: Duration,
    jitter: Duration,
    pace: Backoff,
    skips_unchanged: bool,
    plan: Plan,
}

impl Poll {
    /// Checks the options.
    ///
    /// # Errors
    /// The first option whose value cannot be used.
    pub fn new(definition: &Definition<'_>) -> Result<Poll, OptionFault> {
        let Definition {
            options,
            schema,
            format,
            ..
        } = *definition;
        let target = Target::parse(options.text(URL).unwrap_or_default())
            .map_err(|problem| OptionFault::new(URL, problem))?;
        let interval = span(options, "http.interval", 60_000);
        if interval < INTERVAL_MIN {
            let problem = "must be 100 ms or longer";
            return Err(OptionFault::new("http.interval", problem));
        }
        let is_post = options.text("http.method") == Some("POST");
        let body = options.text("http.body");
        if body.is_some() && !is_post {
            let problem = "only a POST has one: set http.method to POST";
            return Err(OptionFault::new("http.body", problem));
        }
        let mut headers = HeaderMap::new();
        for (name, text) in options.family(HEADER) {
            let option = format!("{HEADER}{name}");
            headers.insert(header_name(&option, name)?, header_value(&option, text)?);
        }
        Ok(Poll {
            asker: Asker {
                request: Request {
                    target,
                    method: if is_post { Method::POST } else { Method::GET },
                    headers,
                    body: Bytes::from(body.unwrap_or_default().to_owned()),
                },
                client: Client::new(options)?,
                auth: Auth::new(options)?,
                timeout: shared::timeout(options)?,
                bytes_max: size(options, "payload.bytes_max", 1 << 20),
            },
            interval,
            jitter: span(options, "http.jitter", 0),
            pace: shared::pace(options),
            skips_unchanged: options.text("http.unchanged") == Some("skip"),
            plan: Plan::new(format, options, schema, &[])?,
        })
    }

    /// Asks until told to stop, or until the pipeline is gone.
    pub async fn run(self, mut context: Context) {
        let intake = Intake::new(self.plan, &context);
        let tail = std::mem::take(&mut context.tail);
        let task = Task {
            last: tail.last().copied().filter(|_| self.skips_unchanged),
            asker: self.asker,
            interval: self.interval,
            jitter: self.jitter,
            pace: self.pace,
            skips_unchanged: self.skips_unchanged,
            intake,
            context,
        };
        task.run().await;
    }
}

/// What came of a question.
enum Found {
    /// A body that may be a message; with its headers, for the next question.
    New(Result<Vec<u8>, (Reject, Vec<u8>)>, HeaderMap),
    Unchanged,
    /// No usable answer, and how long the server wants to be left alone.
    Nothing(String, Option<Duration>),
}

#[derive(Debug)]
struct Asker {
    request: Request,
    client: Client,
    auth: Auth,
    timeout: Duration,
    bytes_max: usize,
}

impl Asker {
    async fn ask(&mut self) -> Found {
        let allowed = Allowed {
            within: self.timeout,
            answer_bytes_max: self.bytes_max,
        };
        let mut is_anew = false;
        loop {
            let mut request = self.request.clone();
            let signed = self.auth.sign(&mut request.headers, self.timeout).await;
            if let Err(none) = signed {
                return Found::Nothing(none.to_string(), none.retry_after);
            }
            let answer = match self.client.ask(&request, allowed).await {
                Ok(answer) => answer,
                Err(error) => return Found::Nothing(error.to_string(), None),
            };
            if answer.status == StatusCode::UNAUTHORIZED && self.auth.refused() && !is_anew {
                is_anew = true;
                continue;
            }
            return match answer.status {
                StatusCode::NOT_MODIFIED => Found::Unchanged,
                StatusCode::NO_CONTENT => Found::Unchanged,
                status if status.is_success() => {
                    Found::New(body(&answer, self.bytes_max), answer.headers)
                }
                _ => Found::Nothing(self.client.said(&answer), retry_after(&answer.headers)),
            };
        }
    }

    /// The next question is for what is newer than this.
    fn remember(&mut self, answer: &HeaderMap) {
        let mut keep = |from: HeaderName, to: HeaderName| match answer.get(from) {
            Some(value) => {
                let value: HeaderValue = value.clone();
                self.request.headers.insert(to, value);
            }
            None => {
                self.request.headers.remove(to);
            }
        };
        keep(ETAG, IF_NONE_MATCH);
        keep(LAST_MODIFIED, IF_MODIFIED_SINCE);
    }
}

fn body(answer: &Answer, bytes_max: usize) -> Result<Vec<u8>, (Reject, Vec<u8>)> {
    let beginning = || answer.body.iter().take(crate::source::REJECTED_BYTES_MAX);
    let fault = |reason, detail: String| {
        let reject = Reject::new(reason, detail);
        Err((reject, beginning().copied().collect()))
    };
    let too_large = || format!("more than {bytes_max} bytes, which is payload.bytes_max");
    if !answer.is_whole {
        return fault(Reason::TooLarge, too_large());
    }
    let coding = answer.headers.get(CONTENT_ENCODING);
    let coding = coding.map(|coding| coding.to_str().unwrap_or("?"));
    match Coding::named(coding) {
        Ok(None) => Ok(answer.body.clone()),
        Err(word) => fault(
            Reason::Malformed,
            format!("the answer's Content-Encoding `{word}` is none of gzip and zstd"),
        ),
        Ok(Some(coding)) => match coding.unpack(&answer.body, bytes_max) {
            Ok(bytes) => Ok(bytes),
            Err(Unpack::TooLarge) => fault(Reason::TooLarge, too_large()),
            Err(Unpack::Broken(why)) => fault(
                Reason::Malformed,
                format!("the answer is not {}: {why}", coding.name()),
            ),
        },
    }
}

/// Why it ends.
enum End {
    Stopped,
    Gone,
}

struct Task {
    asker: Asker,
    interval: Duration,
    jitter: Duration,
    pace: Backoff,
    skips_unchanged: bool,
    /// What the last body was.
    last: Option<DeliveryMark>,
    intake: Intake,
    context: Context,
}

impl Task {
    async fn run(mut self) {
        match self.poll().await {
            // The stream may have failed; what came before is durable all the same.
            Ok(()) | Err(End::Stopped) => {
                self.intake.drain(self.context.stop_within).await;
            }
            Err(End::Gone) => {}
        }
    }

    async fn poll(&mut self) -> Result<(), End> {
        let mut due = Instant::now() + part_of(self.jitter);
        loop {
            tokio::select! {
                biased;
                _ = self.context.stop.wait_for(|stop| *stop) => return Err(End::Stopped),
                () = self.intake.serve() => return Err(End::Gone),
                () = sleep_until(due) => {}
            }
            let found = tokio::select! {
                biased;
                _ = self.context.stop.wait_for(|stop| *stop) => return Err(End::Stopped),
                () = self.intake.serve() => return Err(End::Gone),
                found = self.asker.ask() => found,
            };
            let next = due + self.interval + part_of(self.jitter);
            // What was missed is not made up for.
            due = next.max(Instant::now());
            match found {
                Found::Nothing(why, retry_after) => due = self.wait(&why, retry_after),
                Found::Unchanged => self.is_up(),
                Found::New(body, headers) => {
                    self.is_up();
                    self.room(&body).await?;
                    if self.take(body).is_err() {
                        return Ok(());
                    }
                    self.asker.remember(&headers);
                }
            }
        }
    }

    fn is_up(&mut self) {
        self.pace.reset();
        self.intake.up();
    }

    /// When to ask again.
    fn wait(&mut self, why: &str, retry_after: Option<Duration>) -> Instant {
        let asked_for = retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
        let wait = self.pace.wait().max(asked_for);
        let name = &self.context.name;
        tracing::warn!(
            stream = name,
            "no answer to use: {why}; next attempt in {wait:.1?}"
        );
        self.intake.down(why);
        Instant::now() + wait
    }

    async fn room(&mut self, body: &Result<Vec<u8>, (Reject, Vec<u8>)>) -> Result<(), End> {
        let bytes = match body {
            Ok(body) => body.len(),
            Err((_, bytes)) => bytes.len(),
        };
        tokio::select! {
            biased;
            _ = self.context.stop.wait_for(|stop| *stop) => Err(End::Stopped),
            is_there = self.intake.room(bytes) => match is_there {
                true => Ok(()),
                false => Err(End::Gone),
            },
        }
    }

    fn take(&mut self, body: Result<Vec<u8>, (Reject, Vec<u8>)>) -> Result<(), Failed> {
        let body = match body {
            Ok(body) => body,
            Err((reject, bytes)) => {
                self.intake.reject(reject, &bytes)?;
                return Ok(());
            }
        };
        let mark = self.skips_unchanged.then(|| DeliveryMark {
            packet: 0,
            digest: digest(b"", &body),
        });
        if mark.is_some() && mark == self.last {
            let metrics = &self.context.metrics;
            metrics.duplicates.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        self.intake.take(&body, &[], mark)?;
        self.last = mark;
        Ok(())
    }
}

/// A random part of a span.
fn part_of(span: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish() >> 32;
    let part = u32::try_from(random).unwrap_or(u32::MAX);
    span.mul_f64(f64::from(part) / f64::from(u32::MAX))
}
