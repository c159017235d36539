//! A sink that posts each output to an HTTP server, one at a time, in order.
//!
//! What it promises: a key is confirmed when the server has answered 2xx. Anything that may pass
//! (no connection, no answer in time, 5xx, 408, 423, 425, 429, a redirection) is tried again, with
//! the same id in `Idempotency-Key`, after a growing pause or the one that `Retry-After` asks for.
//! So is what says nothing of the output itself but that we may not post (401, 403, 407): a person
//! has to mend that, and until then nothing is lost. Any other 4xx is about this output: it is
//! counted, said in the log, and refused, so that the rest can go on.

use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant as Clock};

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until};
use ureq::http::{HeaderName, HeaderValue, Uri};

use super::{CONFIRM_AGAIN, Confirmer, Context, Delivery, Refused, WHY_CHARS_MAX, count};
use crate::config::Definition;
use crate::config::options::{OptionFault, OptionKind, OptionSpec};
use crate::event::render_json;
use crate::pace::{Backoff, Sparse};

/// What can be set.
pub const OPTIONS: &[OptionSpec] = &[
    OptionSpec {
        required: true,
        ..option(
            "http.url",
            OptionKind::Text,
            None,
            "Where to post to: http:// or https://",
        )
    },
    option(
        "http.timeout",
        OptionKind::Duration,
        Some("10 s"),
        "How long one attempt may take, from looking the name up to the end of the answer",
    ),
    OptionSpec {
        secret: true,
        ..option(
            "http.header.*",
            OptionKind::Text,
            None,
            "A further header, such as http.header.Authorization",
        )
    },
    option(
        "http.retry.min",
        OptionKind::Duration,
        Some("500 ms"),
        "The pause after the first failed attempt; doubled after each further one",
    ),
    option(
        "http.retry.max",
        OptionKind::Duration,
        Some("1 min"),
        "The longest pause between attempts, unless the server asks for a longer one",
    ),
];

const fn option(
    name: &'static str,
    kind: OptionKind,
    default: Option<&'static str>,
    doc: &'static str,
) -> OptionSpec {
    OptionSpec {
        default,
        ..OptionSpec::new(name, kind, doc)
    }
}

const HEADER: &str = "http.header.";
/// The longest `Retry-After` that is honoured.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);
/// How much of an answer is read; the rest is of no interest, and the connection is closed.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;
const LINE_SPAN: Duration = Duration::from_secs(10);

/// An HTTP sink, checked.
#[derive(Debug)]
pub struct Http {
    url: Uri,
    timeout: Duration,
    headers: Vec<(HeaderName, HeaderValue)>,
    pace: Backoff,
}

impl Http {
    /// Checks the options.
    ///
    /// # Errors
    /// The first option whose value cannot be used.
    pub fn new(definition: &Definition<'_>) -> Result<Http, OptionFault> {
        let options = definition.options;
        let url = address(options.text("http.url").unwrap_or_default())
            .map_err(|problem| OptionFault::new("http.url", problem))?;
        let span = |name: &str, default_ms: i64| {
            let ms = options.integer(name).unwrap_or(default_ms);
            Duration::from_millis(ms.unsigned_abs())
        };
        let timeout = span("http.timeout", 10_000);
        if timeout.is_zero() {
            return Err(OptionFault::new("http.timeout", "must be longer than 0"));
        }
        let headers = options.family(HEADER).map(|(name, value)| {
            let fault = |problem| OptionFault::new(format!("{HEADER}{name}"), problem);
            let parsed = HeaderName::from_bytes(name.as_bytes());
            let parsed = parsed.map_err(|_| fault("not a header name"))?;
            let value = HeaderValue::from_str(value);
            Ok((parsed, value.map_err(|_| fault("not a header value"))?))
        });
        Ok(Http {
            url,
            timeout,
            headers: headers.collect::<Result<_, OptionFault>>()?,
            pace: Backoff::new(span("http.retry.min", 500), span("http.retry.max", 60_000)),
        })
    }

    /// Delivers until told to stop, or until there is nothing to come.
    pub async fn run(self, context: Context) {
        let (jobs, todo) = crossbeam::channel::bounded::<Job>(1);
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .timeout_global(Some(self.timeout))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("eventflux/", env!("CARGO_PKG_VERSION")))
            .build()
            .into();
        let (url, headers) = (self.url, self.headers);
        let thread = std::thread::Builder::new().name("http-sink".to_owned());
        let spawned = thread.spawn(move || {
            // Ends when the task below does, after at most one attempt.
            for job in todo {
                let outcome = attempt(&agent, &url, &headers, &job);
                let _ = job.outcome.send(outcome);
            }
        });
        if let Err(error) = spawned {
            tracing::error!(stream = context.name, "cannot start the HTTP sink: {error}");
            return;
        }
        let task = Task {
            confirmer: Confirmer::new(context.sink, context.confirmed.clone()),
            context,
            jobs,
            pace: self.pace,
            refused_line: Sparse::new(LINE_SPAN),
            denied_line: Sparse::new(LINE_SPAN),
        };
        task.run().await;
    }
}

fn address(text: &str) -> Result<Uri, String> {
    let url: Uri = text
        .parse()
        .map_err(|error| format!("`{text}` is not a URL: {error}"))?;
    match (url.scheme_str(), url.host()) {
        (Some("http" | "https"), Some(host)) if !host.is_empty() => Ok(url),
        _ => Err(format!("`{text}` is not an http:// or https:// URL")),
    }
}

struct Job {
    id: String,
    body: Vec<u8>,
    outcome: oneshot::Sender<Outcome>,
}

enum Outcome {
    Delivered,
    /// It will never be taken.
    Refused(String),
    /// We may not post here.
    Denied(String, Option<Duration>),
    Failed(String, Option<Duration>),
}

fn attempt(
    agent: &ureq::Agent,
    url: &Uri,
    headers: &[(HeaderName, HeaderValue)],
    job: &Job,
) -> Outcome {
    let mut request = agent
        .post(url)
        .header("Content-Type", "application/json")
        .header("Idempotency-Key", job.id.as_str());
    for (name, value) in headers {
        request = request.header(name, value);
    }
    match request.send(&job.body) {
        Err(error) => Outcome::Failed(error.to_string(), None),
        Ok(mut answer) => {
            let retry_after = answer.headers().get("retry-after").and_then(retry_after);
            // Read to its end, so that the connection can be used again.
            let text = answer
                .body_mut()
                .with_config()
                .limit(ANSWER_BYTES_MAX)
                .read_to_vec();
            let status = answer.status().as_u16();
            let said = said(status, &text.unwrap_or_default());
            match status {
                200..=299 => Outcome::Delivered,
                401 | 403 | 407 => Outcome::Denied(said, retry_after),
                408 | 423 | 425 | 429 => Outcome::Failed(said, retry_after),
                400..=499 => Outcome::Refused(said),
                _ => Outcome::Failed(said, retry_after),
            }
        }
    }
}

/// What an answer says, for people.
fn said(status: u16, text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text.get(..WHY_CHARS_MAX).unwrap_or(text));
    match text.trim() {
        "" => format!("status {status}"),
        text => format!("status {status}: {text}"),
    }
}

/// The seconds of `Retry-After`. Its other form, a date, would need a clock that is right.
fn retry_after(value: &HeaderValue) -> Option<Duration> {
    let seconds = value.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

struct Task {
    context: Context,
    confirmer: Confirmer,
    jobs: crossbeam::channel::Sender<Job>,
    pace: Backoff,
    refused_line: Sparse,
    denied_line: Sparse,
}

impl Task {
    async fn run(mut self) {
        loop {
            let delivery = tokio::select! {
                biased;
                _ = self.context.stop.wait_for(|stop| *stop) => None,
                delivery = self.context.deliveries.recv() => delivery,
                () = sleep(CONFIRM_AGAIN), if self.confirmer.waits() => {
                    self.confirmer.flush();
                    continue;
                }
            };
            let Some(delivery) = delivery else { break };
            if !self.deliver(&delivery).await {
                break;
            }
        }
        while !*self.context.stop.borrow() && !self.confirmer.flush() {
            sleep(CONFIRM_AGAIN).await;
        }
        self.confirmer.flush();
    }

    /// Tries until it is settled. False when told to stop before.
    async fn deliver(&mut self, delivery: &Delivery) -> bool {
        let mut body = Vec::with_capacity(128);
        render_json(&delivery.schema, &delivery.row, &mut body);
        let mut attempts: u32 = 0;
        loop {
            if self.context.passes_over(delivery.key) {
                return true;
            }
            let Some(outcome) = self.attempt(delivery, &body).await else {
                return false;
            };
            attempts = attempts.saturating_add(1);
            let metrics = &self.context.metrics;
            let is_answer = matches!(outcome, Outcome::Delivered | Outcome::Refused(_));
            metrics.connected.store(is_answer, Ordering::Relaxed);
            let wait = match outcome {
                Outcome::Delivered => {
                    count(&metrics.delivered);
                    self.confirmer.confirm(delivery.key);
                    break;
                }
                Outcome::Refused(why) => {
                    self.refused(delivery, &why, attempts);
                    break;
                }
                Outcome::Denied(why, retry_after) => self.denied(&why, retry_after),
                Outcome::Failed(why, retry_after) => {
                    let wait = self.next_wait(retry_after);
                    tracing::warn!(
                        stream = self.context.name,
                        "not delivered: {why}; next attempt in {wait:.1?}"
                    );
                    wait
                }
            };
            if self.pause(wait).await {
                return false;
            }
        }
        self.pace.reset();
        true
    }

    fn next_wait(&mut self, retry_after: Option<Duration>) -> Duration {
        count(&self.context.metrics.retries);
        self.pace.wait().max(retry_after.unwrap_or_default())
    }

    fn refused(&mut self, delivery: &Delivery, why: &str, attempts: u32) {
        count(&self.context.metrics.refused);
        if let Some(count) = self.refused_line.occurred(Clock::now()) {
            tracing::error!(
                stream = self.context.name,
                id = delivery.id,
                count,
                "given up: the server refused it with {why}"
            );
        }
        let refused = Refused::new(why, attempts);
        self.confirmer.refuse(delivery.key, refused);
    }

    fn denied(&mut self, why: &str, retry_after: Option<Duration>) -> Duration {
        let wait = self.next_wait(retry_after);
        if let Some(count) = self.denied_line.occurred(Clock::now()) {
            tracing::error!(
                stream = self.context.name,
                count,
                "the server does not let us post: {why}; nothing is given up for it, but nothing \
                 is delivered either: look at http.url and http.header.*; \
                 next attempt in {wait:.1?}"
            );
        }
        wait
    }

    /// One attempt on the thread. `None` when told to stop before its outcome is known, and the
    /// time for that is over.
    async fn attempt(&mut self, delivery: &Delivery, body: &[u8]) -> Option<Outcome> {
        let (outcome, answer) = oneshot::channel();
        let job = Job {
            id: delivery.id.clone(),
            body: body.to_vec(),
            outcome,
        };
        // The thread is idle: there is one job at a time.
        self.jobs.try_send(job).ok()?;
        let mut answer = pin!(answer);
        let mut stop_at = None;
        loop {
            let stop_by = async {
                match stop_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                outcome = &mut answer => return outcome.ok(),
                _ = self.context.stop.wait_for(|stop| *stop), if stop_at.is_none() => {
                    stop_at = Some(Instant::now() + self.context.stop_within);
                }
                () = sleep(CONFIRM_AGAIN), if self.confirmer.waits() => {
                    self.confirmer.flush();
                }
                () = stop_by => return None,
            }
        }
    }

    /// Waits. True when told to stop.
    async fn pause(&mut self, wait: Duration) -> bool {
        let until = Instant::now() + wait;
        loop {
            tokio::select! {
                biased;
                _ = self.context.stop.wait_for(|stop| *stop) => return true,
                () = sleep_until(until) => return false,
                () = sleep(CONFIRM_AGAIN), if self.confirmer.waits() => {
                    self.confirmer.flush();
                }
            }
        }
    }
}
