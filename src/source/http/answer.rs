//! One request, from its head to its answer.
//!
//! What it promises: whoever is not let in costs no more than a head. A body takes memory only
//! within what its stream allows for all bodies together. An answer that says "taken", or that a
//! body can never be taken, follows the log's word that this is durable.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{
    ALLOW, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
    RETRY_AFTER, WWW_AUTHENTICATE,
};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use super::route::{Columns, Pattern, Rate, Tokens};
use super::seen::Seen;
use super::server::Server;
use crate::decode::{Reason, Reject};
use crate::event::{DeliveryMark, Value};
use crate::http::coding::{Coding, Unpack};
use crate::source::{REJECTED_BYTES_MAX, Released};

/// A body that is too large is read on, and forgotten, so long: else whoever still sends it would
/// never see the answer.
const DISCARD_WITHIN: Duration = Duration::from_secs(2);
/// And so far.
const DISCARD_BYTES_MAX: usize = 16 << 20;
/// What a key may have.
const KEY_BYTES_MAX: usize = 255;
/// When whoever found no room may come again.
const AGAIN_S: u64 = 1;
/// When whoever waited in vain for the disk may come again.
const DISK_AGAIN_S: u64 = 5;

const KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// A stream, as requests see it.
pub(super) struct Route {
    pub(super) stream: String,
    pub(super) pattern: Pattern,
    pub(super) columns: Columns,
    pub(super) tokens: Tokens,
    pub(super) rate: Option<Rate>,
    pub(super) body_bytes_max: usize,
    pub(super) connections_max: usize,
    /// How long a head, and a body, may take to come.
    pub(super) within: Duration,
    /// How long an answer may wait for the disk.
    pub(super) durable_within: Duration,
    /// Bytes of bodies that may be in memory.
    pub(super) room: Arc<Semaphore>,
    pub(super) to: mpsc::Sender<Posted>,
    pub(super) released: Released,
}

/// A body on its way to its stream.
pub(super) struct Posted {
    /// It, or why it is none, with its beginning.
    pub(super) body: Result<Vec<u8>, (Reject, Vec<u8>)>,
    pub(super) fills: Vec<(usize, Value)>,
    pub(super) mark: Option<DeliveryMark>,
    pub(super) verdict: oneshot::Sender<Verdict>,
    /// Its part of [`Route::room`].
    pub(super) _room: Option<OwnedSemaphorePermit>,
}

/// What the stream says to a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is in the log, as rows or as a reject (then with the reason), when this is released.
    Received {
        ordinal: u64,
        why: Option<String>,
        is_repeat: bool,
    },
    /// There is no room for it now.
    Full,
    /// The stream has ended by it.
    Failed,
}

type Reply = Response<Full<Bytes>>;

/// Answers a request.
pub(super) async fn answer(server: &Server, peer: SocketAddr, request: Request<Incoming>) -> Reply {
    let (head, body) = request.into_parts();
    let Some(route) = server.route(head.uri.path()) else {
        return refusal(StatusCode::NOT_FOUND, "no stream has this path");
    };
    match checked(&route, &head) {
        Err(reply) => *reply,
        Ok(coding) => {
            let received = Received {
                route: &route,
                head: &head,
                peer,
                coding,
            };
            received.answer(body).await
        }
    }
}

/// What can be said of a head alone: how the body is packed, or why it is not wanted.
fn checked(route: &Route, head: &Parts) -> Result<Option<Coding>, Box<Reply>> {
    if head.method != Method::POST && head.method != Method::PUT {
        let reply = refusal(StatusCode::METHOD_NOT_ALLOWED, "use POST");
        return Err(Box::new(with(reply, ALLOW, "POST, PUT")));
    }
    if !route.tokens.admit(&head.headers) {
        let reply = refusal(
            StatusCode::UNAUTHORIZED,
            "show a token of this stream: `Authorization: Bearer …`",
        );
        return Err(Box::new(with(reply, WWW_AUTHENTICATE, "Bearer")));
    }
    if let Some(Err(wait)) = route.rate.as_ref().map(|rate| rate.admit(Instant::now())) {
        let reply = refusal(StatusCode::TOO_MANY_REQUESTS, "more than http.rate_max");
        let seconds = wait.as_secs().saturating_add(1);
        return Err(Box::new(again(reply, seconds)));
    }
    let refused = |status, why| Err(Box::new(refusal(status, why)));
    let text = |name: HeaderName| head.headers.get(name).map(|value| value.to_str());
    let kind = text(CONTENT_TYPE).and_then(Result::ok).unwrap_or_default();
    // Otherwise anything goes: small devices, and curl, say what they like.
    if kind.to_ascii_lowercase().starts_with("multipart/") {
        let why = "a body is one message: multipart is not read";
        return refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, why);
    }
    let key = head.headers.get(KEY);
    if key.is_some_and(|key| key.len() > KEY_BYTES_MAX) {
        let why = "an Idempotency-Key has 255 bytes at most";
        return refused(StatusCode::BAD_REQUEST, why);
    }
    let packed = text(CONTENT_ENCODING).transpose().unwrap_or(Some("?"));
    Coding::named(packed).or_else(|_| {
        let why = "use the Content-Encoding gzip, zstd or none";
        refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, why)
    })
}

/// A request whose head is as it should be.
struct Received<'a> {
    route: &'a Route,
    head: &'a Parts,
    peer: SocketAddr,
    coding: Option<Coding>,
}

impl Received<'_> {
    async fn answer(&self, body: Incoming) -> Reply {
        let until = Instant::now() + self.route.within;
        let bytes_max = self.route.body_bytes_max;
        let declared = body.size_hint().exact();
        let declared = declared.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        if declared.is_some_and(|bytes| bytes > bytes_max) {
            let reject = self.too_large();
            discard(body).await;
            return self.hand_over(Err((reject, Vec::new())), None).await;
        }
        let wanted = room_for(declared, self.coding, bytes_max);
        let room = Arc::clone(&self.route.room).acquire_many_owned(wanted);
        let Ok(Ok(room)) = timeout_at(until, room).await else {
            return full();
        };
        let read = timeout_at(until, collect(body, bytes_max)).await;
        let read = match read {
            Err(_) => {
                let why = "the body did not come within http.timeout";
                let reply = refusal(StatusCode::REQUEST_TIMEOUT, why);
                return with(reply, CONNECTION, "close");
            }
            Ok(Err(error)) => {
                return refusal(StatusCode::BAD_REQUEST, &error.to_string());
            }
            Ok(Ok(Collected::Whole(bytes))) => self.unpacked(bytes),
            Ok(Ok(Collected::More(bytes))) => Err((self.too_large(), bytes)),
        };
        self.hand_over(read, Some(room)).await
    }

    fn unpacked(&self, bytes: Vec<u8>) -> Result<Vec<u8>, (Reject, Vec<u8>)> {
        let Some(coding) = self.coding else {
            return Ok(bytes);
        };
        match coding.unpack(&bytes, self.route.body_bytes_max) {
            Ok(bytes) => Ok(bytes),
            Err(Unpack::TooLarge) => Err((self.too_large(), bytes)),
            Err(Unpack::Broken(why)) => {
                let detail = format!("the body is not {}: {why}", coding.name());
                Err((Reject::new(Reason::Malformed, detail), bytes))
            }
        }
    }

    fn too_large(&self) -> Reject {
        let max = self.route.body_bytes_max;
        Reject::new(
            Reason::TooLarge,
            format!("more than {max} bytes, which is payload.bytes_max"),
        )
    }

    async fn hand_over(
        &self,
        mut body: Result<Vec<u8>, (Reject, Vec<u8>)>,
        room: Option<OwnedSemaphorePermit>,
    ) -> Reply {
        let mut status = StatusCode::UNPROCESSABLE_ENTITY;
        if let Err((reject, bytes)) = &mut body {
            bytes.truncate(REJECTED_BYTES_MAX);
            if reject.reason == Reason::TooLarge {
                status = StatusCode::PAYLOAD_TOO_LARGE;
            }
        }
        let key = self.head.headers.get(KEY).map(HeaderValue::as_bytes);
        let peer = self.peer.ip().to_canonical().to_string();
        let (verdict, judged) = oneshot::channel();
        let posted = Posted {
            body,
            fills: self
                .route
                .columns
                .fills(&self.route.pattern, self.head, &peer),
            mark: key.map(|key| Seen::mark(self.head.uri.path(), key)),
            verdict,
            _room: room,
        };
        let given = timeout(self.route.within, self.route.to.send(posted)).await;
        if !matches!(given, Ok(Ok(()))) {
            return full();
        }
        match judged.await {
            Err(_) => again(
                refusal(StatusCode::SERVICE_UNAVAILABLE, "the stream is stopping"),
                AGAIN_S,
            ),
            Ok(Verdict::Full) => full(),
            Ok(Verdict::Failed) => refusal(
                StatusCode::SERVICE_UNAVAILABLE,
                "the stream has failed, as its error.strategy says: a person has to look at it",
            ),
            Ok(Verdict::Received {
                ordinal,
                why,
                is_repeat,
            }) => match (self.durable(ordinal).await, why) {
                (false, _) => again(
                    refusal(
                        StatusCode::SERVICE_UNAVAILABLE,
                        "not durable yet, and may be taken all the same: repeat it with the same \
                         Idempotency-Key",
                    ),
                    DISK_AGAIN_S,
                ),
                (true, Some(why)) => refusal(status, &why),
                (true, None) if is_repeat => reply(StatusCode::OK, "status", "repeated"),
                (true, None) => reply(StatusCode::OK, "status", "taken"),
            },
        }
    }

    async fn durable(&self, ordinal: u64) -> bool {
        let mut released = self.route.released.clone();
        let reached = released.wait_for(|released| *released >= ordinal);
        matches!(timeout(self.route.durable_within, reached).await, Ok(Ok(_)))
    }
}

/// The room that a body of `declared` bytes takes, if it says how many. Unpacked, a small one may
/// be as large as any.
fn room_for(declared: Option<usize>, coding: Option<Coding>, bytes_max: usize) -> u32 {
    let bytes = match coding {
        Some(_) => bytes_max,
        None => declared.unwrap_or(bytes_max),
    };
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

enum Collected {
    Whole(Vec<u8>),
    /// More than allowed; this is the beginning.
    More(Vec<u8>),
}

async fn collect(mut body: Incoming, bytes_max: usize) -> hyper::Result<Collected> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        if data.len() > bytes_max - bytes.len() {
            discard(body).await;
            return Ok(Collected::More(bytes));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Collected::Whole(bytes))
}

async fn discard(mut body: Incoming) {
    let discarded = async {
        let mut bytes = 0;
        while let Some(Ok(frame)) = body.frame().await {
            bytes += frame.data_ref().map_or(0, Bytes::len);
            if bytes > DISCARD_BYTES_MAX {
                break;
            }
        }
    };
    let _ = timeout(DISCARD_WITHIN, discarded).await;
}

fn full() -> Reply {
    let why = "there is no room for it now (queue.bytes_max)";
    again(refusal(StatusCode::SERVICE_UNAVAILABLE, why), AGAIN_S)
}

fn refusal(status: StatusCode, why: &str) -> Reply {
    reply(status, "error", why)
}

fn reply(status: StatusCode, name: &str, text: &str) -> Reply {
    let body = format!("{{\"{name}\":{}}}\n", serde_json::Value::from(text));
    let mut reply = Response::new(Full::new(Bytes::from(body)));
    *reply.status_mut() = status;
    with(reply, CONTENT_TYPE, "application/json")
}

fn again(mut reply: Reply, seconds: u64) -> Reply {
    let headers: &mut HeaderMap = reply.headers_mut();
    headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    reply
}

fn with(mut reply: Reply, name: HeaderName, value: &'static str) -> Reply {
    reply
        .headers_mut()
        .insert(name, HeaderValue::from_static(value));
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packed_body_has_room_for_what_it_may_become() {
        for (declared, coding, expected) in [
            (Some(7), None, 7),
            (None, None, 1_000),
            (Some(7), Some(Coding::Gzip), 1_000),
            (None, Some(Coding::Zstd), 1_000),
        ] {
            let room = room_for(declared, coding, 1_000);
            assert_eq!(room, expected, "{declared:?} {coding:?}");
        }
    }
}
