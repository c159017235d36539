//! What a server says, without what it must not be heard to repeat: the secrets that we told it.

use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, LOCATION};

use super::auth::encoded;
use super::client::Answer;
use super::options::{BEARER, OAUTH2_ID, OAUTH2_SECRET, PASSWORD, USERNAME};
use crate::config::HIDDEN;
use crate::config::options::Options;
use crate::event::to_base64;

/// So much of what a server says is shown.
const SAID_BYTES_MAX: usize = 256;
/// Shorter ones are in everything.
const WORD_BYTES_MIN: usize = 4;

/// What is not to be repeated.
#[derive(Clone, Default)]
pub(super) struct Discretion {
    /// The longest first.
    words: Vec<String>,
    /// The token that a request has shown, which nobody has written down.
    token: Option<String>,
}

impl std::fmt::Debug for Discretion {
    /// Only how much there is.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Discretion about {} words", self.words.len())
    }
}

impl Discretion {
    pub(super) fn new(options: &Options) -> Discretion {
        let mut words = options.secrets();
        let text = |name: &str| options.text(name).unwrap_or_default();
        for name in [PASSWORD.name, BEARER.name, OAUTH2_SECRET.name] {
            words.push(text(name).to_owned());
        }
        let login = |user: &str, password: &str| to_base64(format!("{user}:{password}").as_bytes());
        let (id, secret) = (text(OAUTH2_ID.name), text(OAUTH2_SECRET.name));
        let (user, password) = (text(USERNAME.name), text(PASSWORD.name));
        if options.has(OAUTH2_SECRET.name) {
            words.push(login(&encoded(id), &encoded(secret)));
        }
        if options.has(PASSWORD.name) {
            words.push(login(user, password));
        }
        let over_the_line: Vec<String> = words.iter().map(|word| encoded(word)).collect();
        words.extend(over_the_line);
        words.retain(|word| word.len() >= WORD_BYTES_MIN);
        // One may be a part of another.
        words.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        words.dedup();
        Discretion { words, token: None }
    }

    /// A request goes out with these headers.
    pub(super) fn sends(&mut self, headers: &HeaderMap) {
        let shown = headers.get(AUTHORIZATION);
        let Some(shown) = shown.and_then(|shown| shown.to_str().ok()) else {
            return;
        };
        let (_, token) = shown.split_once(' ').unwrap_or(("", shown));
        let is_known = |known: &String| known.as_str() == token;
        if token.len() >= WORD_BYTES_MIN && !self.hidden().any(is_known) {
            self.token = Some(token.to_owned());
        }
    }

    /// What an answer says, for people.
    pub(super) fn said(&self, answer: &Answer) -> String {
        let status = answer.status.as_u16();
        if answer.status.is_redirection() {
            let to = answer.headers.get(LOCATION);
            let to = to.and_then(|to| to.to_str().ok()).unwrap_or("elsewhere");
            let to = self.cover(to);
            return format!("status {status}: redirected to {to}, which is not followed");
        }
        // One that the end cuts off is to be known all the same.
        let longest = self.hidden().map(String::len).max().unwrap_or(0);
        let bytes = answer.body.get(..SAID_BYTES_MAX.saturating_add(longest));
        let text = String::from_utf8_lossy(bytes.unwrap_or(&answer.body));
        let mut text = self.cover(&text);
        let end = (0..=SAID_BYTES_MAX.min(text.len())).rev();
        let end = end.into_iter().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
        match text.trim() {
            "" => format!("status {status}"),
            text => format!("status {status}: {text}"),
        }
    }

    fn hidden(&self) -> impl Iterator<Item = &String> {
        self.token.iter().chain(&self.words)
    }

    fn cover(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for word in self.hidden() {
            if text.contains(word.as_str()) {
                text = text.replace(word.as_str(), HIDDEN);
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;

    use super::*;
    use crate::config::options::{Layer, OptionValue};

    fn discretion() -> Discretion {
        let mut options = Options::default();
        for (name, value) in [
            (USERNAME.name, "me"),
            (PASSWORD.name, "pass word"),
            (BEARER.name, "abc"),
        ] {
            options.set(name, OptionValue::Text(value.to_owned()), Layer::Sql);
        }
        Discretion::new(&options)
    }

    fn answer(status: u16, to: Option<&'static str>, body: &str) -> Answer {
        let mut headers = HeaderMap::new();
        headers.extend(to.map(|to| (LOCATION, hyper::header::HeaderValue::from_static(to))));
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers,
            body: body.as_bytes().to_vec(),
            is_whole: true,
        }
    }

    #[test]
    fn what_a_server_repeats_is_left_out() {
        let long = "x".repeat(SAID_BYTES_MAX - 3);
        let table = [
            (answer(404, None, ""), "status 404".to_owned()),
            (
                answer(400, None, " no abc, `pass word` or pass%20word "),
                "status 400: no abc, `[hidden]` or [hidden]".to_owned(),
            ),
            (
                answer(401, None, "Basic bWU6cGFzcyB3b3Jk"),
                "status 401: Basic [hidden]".to_owned(),
            ),
            (
                answer(302, Some("http://a/?p=pass%20word"), "pass word"),
                "status 302: redirected to http://a/?p=[hidden], which is not followed".to_owned(),
            ),
            (
                answer(500, None, &format!("{long}pass word")),
                format!("status 500: {long}[hi"),
            ),
            (
                answer(500, None, &format!("{long}\u{20ac}\u{20ac}")),
                format!("status 500: {long}\u{20ac}"),
            ),
        ];
        let discretion = discretion();
        for (answer, expected) in table {
            assert_eq!(discretion.said(&answer), expected);
        }
        assert_eq!(format!("{discretion:?}"), "Discretion about 3 words");
    }

    #[test]
    fn a_token_that_was_given_out_is_left_out_too() {
        let mut discretion = discretion();
        let mut sends = |said: &'static str| {
            let value = hyper::header::HeaderValue::from_static(said);
            discretion.sends(&HeaderMap::from_iter([(AUTHORIZATION, value)]));
            discretion.said(&answer(
                403,
                None,
                "no first.token, no second.token, no me:x",
            ))
        };
        let first = "status 403: no [hidden], no second.token, no me:x";
        assert_eq!(sends("Bearer first.token"), first);
        // The next one takes its place.
        let second = "status 403: no first.token, no [hidden], no me:x";
        assert_eq!(sends("Bearer second.token"), second);
        assert_eq!(sends("Basic bWU6cGFzcyB3b3Jk"), second);
    }
}
