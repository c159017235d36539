//! What can be set for everybody who asks a server.

use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};

use crate::config::options::{OptionFault, OptionKind, OptionSpec, Options};
use crate::pace::Backoff;
use crate::tls;

/// All of them.
pub const CLIENT_OPTIONS: &[OptionSpec] = &[
    TIMEOUT,
    RETRY_MIN,
    RETRY_MAX,
    USERNAME,
    PASSWORD,
    BEARER,
    OAUTH2_URL,
    OAUTH2_ID,
    OAUTH2_SECRET,
    OAUTH2_SCOPE,
    OAUTH2_AUDIENCE,
    OAUTH2_CREDENTIALS,
    tls::ca("http.tls.ca"),
    tls::cert("http.tls.cert"),
    tls::key("http.tls.key"),
    tls::server_name("http.tls.server_name"),
];

/// How long an attempt may take.
pub const TIMEOUT: OptionSpec = OptionSpec::new(
    "http.timeout",
    OptionKind::Duration,
    "How long one attempt may take, from looking the name up to the end of the answer",
)
.or("10 s");

/// The first pause.
pub const RETRY_MIN: OptionSpec = OptionSpec::new(
    "http.retry.min",
    OptionKind::Duration,
    "The pause after the first failed attempt; doubled after each further one, and shortened by a \
     random part",
)
.or("500 ms");

/// The longest pause.
pub const RETRY_MAX: OptionSpec = OptionSpec::new(
    "http.retry.max",
    OptionKind::Duration,
    "The longest pause between attempts, unless the server asks for a longer one",
)
.or("1 min");

/// A user's name.
pub const USERNAME: OptionSpec = OptionSpec::new(
    "http.username",
    OptionKind::Text,
    "Who we are, with a password (Basic)",
);

/// A user's password.
pub const PASSWORD: OptionSpec =
    OptionSpec::new("http.password", OptionKind::Text, "The password for that").secret();

/// A token.
pub const BEARER: OptionSpec = OptionSpec::new(
    "http.bearer",
    OptionKind::Text,
    "The token that we show (Bearer)",
)
.secret();

/// Where tokens are given out.
pub const OAUTH2_URL: OptionSpec = OptionSpec::new(
    "http.oauth2.url",
    OptionKind::Text,
    "Where tokens are given out (OAuth 2.0 client credentials): fetched when one is needed, \
     shortly before it expires, and when it is refused",
);

/// Who asks for tokens.
pub const OAUTH2_ID: OptionSpec = OptionSpec::new(
    "http.oauth2.client_id",
    OptionKind::Text,
    "Who we are there",
);

/// With which secret.
pub const OAUTH2_SECRET: OptionSpec = OptionSpec::new(
    "http.oauth2.client_secret",
    OptionKind::Text,
    "Our secret there",
)
.secret();

/// What for.
pub const OAUTH2_SCOPE: OptionSpec = OptionSpec::new(
    "http.oauth2.scope",
    OptionKind::Text,
    "What the token is to allow, several words separated by blanks",
);

/// Whom the token is for.
pub const OAUTH2_AUDIENCE: OptionSpec = OptionSpec::new(
    "http.oauth2.audience",
    OptionKind::Text,
    "For whom the token is to be, where the server asks for that",
);

/// How we say who we are.
pub const OAUTH2_CREDENTIALS: OptionSpec = OptionSpec::new(
    "http.oauth2.credentials",
    OptionKind::Choice(&["header", "body"]),
    "Where identity and secret stand when a token is asked for",
)
.or("header");

/// `http.timeout`.
///
/// # Errors
/// It is 0.
pub fn timeout(options: &Options) -> Result<Duration, OptionFault> {
    match span(options, TIMEOUT.name, 10_000) {
        Duration::ZERO => Err(OptionFault::new(TIMEOUT.name, "must be longer than 0")),
        timeout => Ok(timeout),
    }
}

/// The pauses between attempts.
#[must_use]
pub fn pace(options: &Options) -> Backoff {
    let min = span(options, RETRY_MIN.name, 500);
    Backoff::new(min, span(options, RETRY_MAX.name, 60_000))
}

/// A duration, with what holds where no defaults are set.
#[must_use]
pub fn span(options: &Options, name: &str, default_ms: i64) -> Duration {
    let ms = options.integer(name).unwrap_or(default_ms);
    Duration::from_millis(ms.unsigned_abs())
}

/// A size or number, with what holds where no defaults are set.
#[must_use]
pub fn size(options: &Options, name: &str, default: i64) -> usize {
    let size = options.integer(name).unwrap_or(default);
    usize::try_from(size).unwrap_or(usize::MAX)
}

/// A header's name, when the option is `http.header.<name>`.
///
/// # Errors
/// It cannot be one, or is one that we write.
pub fn header_name(option: &str, name: &str) -> Result<HeaderName, OptionFault> {
    const OURS: [&str; 6] = [
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "content-encoding",
        "expect",
    ];
    let parsed = HeaderName::from_bytes(name.as_bytes());
    let parsed = parsed.map_err(|_| OptionFault::new(option, "not a header name"))?;
    match OURS.contains(&parsed.as_str()) {
        true => Err(OptionFault::new(
            option,
            "this header is written by the connection itself",
        )),
        false => Ok(parsed),
    }
}

/// A header's value.
///
/// # Errors
/// It cannot be one.
pub fn header_value(option: &str, text: &str) -> Result<HeaderValue, OptionFault> {
    let value = HeaderValue::from_str(text);
    value.map_err(|_| OptionFault::new(option, "not a header value: a control character is in it"))
}
