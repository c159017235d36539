//! How we say to a server who we are.
//!
//! What it promises: a token is fetched once and used until shortly before it expires; one that is
//! refused is fetched anew, once for each request that was refused. Nothing secret is in any error.

use std::time::Duration;

use hyper::Method;
use hyper::body::Bytes;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use tokio::time::Instant;

use super::client::{Allowed, Client, Request, Target};
use super::options::{
    BEARER, OAUTH2_AUDIENCE, OAUTH2_CREDENTIALS, OAUTH2_ID, OAUTH2_SCOPE, OAUTH2_SECRET,
    OAUTH2_URL, PASSWORD, USERNAME,
};
use super::retry_after;
use crate::config::options::{OptionFault, OptionSpec, Options};
use crate::event::to_base64;

/// What an answer with a token may take.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// A token of which nobody says how long it lasts is used so long.
const LASTS: Duration = Duration::from_secs(3_600);
/// None is used for longer: some servers say with a huge number that theirs lasts for ever.
const LASTS_MAX: Duration = Duration::from_secs(30 * 86_400);
/// So long before its end a token is given up, or a tenth of its life if that is less.
const EARLIER: Duration = Duration::from_secs(30);

/// Who we are.
#[derive(Debug)]
pub enum Auth {
    /// Nobody in particular, or as the headers say.
    None,
    /// The same at every request.
    Fixed(HeaderValue),
    /// By a token that is given out for a while.
    OAuth2(Box<OAuth2>),
}

/// Why there is no token now.
#[derive(Debug, thiserror::Error)]
#[error("no token: {why}")]
pub struct NoToken {
    /// In a sentence.
    pub why: String,
    /// How long to wait, if the server says so.
    pub retry_after: Option<Duration>,
    /// Whether it was refused, so that a person has to mend something.
    pub is_denied: bool,
}

impl Auth {
    /// Checks the options: one way at most.
    ///
    /// # Errors
    /// The first option whose value cannot be used.
    pub fn new(options: &Options) -> Result<Auth, OptionFault> {
        let ways = [USERNAME.name, BEARER.name, OAUTH2_URL.name];
        let mut chosen = ways.into_iter().filter(|name| options.has(name));
        let first = chosen.next();
        if let (Some(first), Some(second)) = (first, chosen.next()) {
            let problem = format!("use either this or {first}");
            return Err(OptionFault::new(second, problem));
        }
        lonely(options, PASSWORD, USERNAME)?;
        for part in [OAUTH2_ID, OAUTH2_SECRET, OAUTH2_SCOPE, OAUTH2_AUDIENCE] {
            lonely(options, part, OAUTH2_URL)?;
        }
        if let Some(user) = options.text(USERNAME.name) {
            if user.contains(':') {
                let problem =
                    "a user's name has no colon: HTTP could not tell it from the password";
                return Err(OptionFault::new(USERNAME.name, problem));
            }
            let password = options.text(PASSWORD.name).unwrap_or_default();
            return Ok(Auth::Fixed(basic(USERNAME.name, user, password)?));
        }
        if let Some(token) = options.text(BEARER.name) {
            return Ok(Auth::Fixed(bearer(BEARER.name, token)?));
        }
        match options.text(OAUTH2_URL.name) {
            Some(url) => Ok(Auth::OAuth2(Box::new(OAuth2::new(options, url)?))),
            None => Ok(Auth::None),
        }
    }

    /// Adds what says who we are. A token is fetched when there is none, within `within`.
    ///
    /// # Errors
    /// There is no token.
    pub async fn sign(&mut self, headers: &mut HeaderMap, within: Duration) -> Result<(), NoToken> {
        let value = match self {
            Auth::None => return Ok(()),
            Auth::Fixed(value) => value.clone(),
            Auth::OAuth2(oauth2) => oauth2.token(within).await?,
        };
        headers.insert(AUTHORIZATION, value);
        Ok(())
    }

    /// The server has refused what we said. Whether another attempt at once may say something
    /// better.
    pub fn refused(&mut self) -> bool {
        match self {
            Auth::None | Auth::Fixed(_) => false,
            Auth::OAuth2(oauth2) => oauth2.token.take().is_some(),
        }
    }
}

fn lonely(options: &Options, part: OptionSpec, whole: OptionSpec) -> Result<(), OptionFault> {
    match options.has(part.name) && !options.has(whole.name) {
        true => Err(OptionFault::new(
            part.name,
            format!("without {} nothing reads it: set that too", whole.name),
        )),
        false => Ok(()),
    }
}

fn basic(option: &str, user: &str, password: &str) -> Result<HeaderValue, OptionFault> {
    let text = to_base64(format!("{user}:{password}").as_bytes());
    sensitive(option, &format!("Basic {text}"))
}

fn bearer(option: &str, token: &str) -> Result<HeaderValue, OptionFault> {
    sensitive(option, &format!("Bearer {token}"))
}

fn sensitive(option: &str, text: &str) -> Result<HeaderValue, OptionFault> {
    let mut value = super::options::header_value(option, text)?;
    value.set_sensitive(true);
    Ok(value)
}

/// The client credentials grant of OAuth 2.0 (RFC 6749, section 4.4).
#[derive(Debug)]
pub struct OAuth2 {
    client: Client,
    request: Request,
    token: Option<(HeaderValue, Instant)>,
}

impl OAuth2 {
    fn new(options: &Options, url: &str) -> Result<OAuth2, OptionFault> {
        let target = Target::parse(url);
        let target = target.map_err(|problem| OptionFault::new(OAUTH2_URL.name, problem))?;
        let needed = |spec: OptionSpec| {
            let problem = format!("{} is needed to get a token there", spec.name);
            let value = options.text(spec.name);
            value.ok_or_else(|| OptionFault::new(OAUTH2_URL.name, problem))
        };
        let (id, secret) = (needed(OAUTH2_ID)?, needed(OAUTH2_SECRET)?);
        let mut form = vec![("grant_type", "client_credentials")];
        let mut headers = HeaderMap::new();
        if options.text(OAUTH2_CREDENTIALS.name) == Some("body") {
            form.extend([("client_id", id), ("client_secret", secret)]);
        } else {
            let value = basic(OAUTH2_ID.name, &encoded(id), &encoded(secret))?;
            headers.insert(AUTHORIZATION, value);
        }
        for (name, spec) in [("scope", OAUTH2_SCOPE), ("audience", OAUTH2_AUDIENCE)] {
            form.extend(options.text(spec.name).map(|text| (name, text)));
        }
        let pairs = form
            .iter()
            .map(|(name, text)| format!("{name}={}", encoded(text)));
        let body = pairs.collect::<Vec<String>>().join("&");
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(CONTENT_TYPE, kind);
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        Ok(OAuth2 {
            client: Client::new(options)?,
            request: Request {
                target,
                method: Method::POST,
                headers,
                body: Bytes::from(body),
            },
            token: None,
        })
    }

    async fn token(&mut self, within: Duration) -> Result<HeaderValue, NoToken> {
        if let Some((token, until)) = &self.token {
            if Instant::now() < *until {
                return Ok(token.clone());
            }
        }
        let asked_at = Instant::now();
        let (token, lasts) = self.fetch(within).await?;
        let until = asked_at + lasts.saturating_sub(EARLIER.min(lasts / 10));
        self.token = Some((token.clone(), until));
        Ok(token)
    }

    async fn fetch(&mut self, within: Duration) -> Result<(HeaderValue, Duration), NoToken> {
        let no_token = |why: String| NoToken {
            why,
            retry_after: None,
            is_denied: false,
        };
        let allowed = Allowed {
            within,
            answer_bytes_max: ANSWER_BYTES_MAX,
        };
        let answer = self.client.ask(&self.request, allowed).await;
        let answer = answer.map_err(|error| no_token(error.to_string()))?;
        if !answer.status.is_success() {
            let status = answer.status.as_u16();
            return Err(NoToken {
                why: self.client.said(&answer),
                retry_after: retry_after(&answer.headers),
                is_denied: matches!(status, 400..=499) && !matches!(status, 408 | 425 | 429),
            });
        }
        #[derive(serde::Deserialize)]
        struct Granted {
            access_token: String,
            expires_in: Option<serde_json::Value>,
        }
        let granted: Granted = serde_json::from_slice(&answer.body)
            .map_err(|_| no_token("the answer is no JSON with an access_token".to_owned()))?;
        let token = bearer(OAUTH2_URL.name, &granted.access_token)
            .map_err(|_| no_token("its access_token cannot stand in a header".to_owned()))?;
        // A number, and from some servers a number in quotes.
        let seconds = granted
            .expires_in
            .and_then(|value| value.as_u64().or_else(|| value.as_str()?.parse().ok()));
        let lasts = seconds.map_or(LASTS, Duration::from_secs);
        Ok((token, lasts.min(LASTS_MAX)))
    }
}

/// As forms have it (RFC 6749, appendix B), with `%20` for a blank, which is right everywhere.
pub(super) fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}
