//! How outputs become requests.

use std::sync::Arc;

use hyper::Method;
use hyper::body::Bytes;
use hyper::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
};

use crate::config::Definition;
use crate::config::options::OptionFault;
use crate::encode::{Encoder, Framing, Message, Template};
use crate::event::Timestamp;
use crate::http::client::{Request, Target};
use crate::http::coding::Coding;
use crate::http::options::header_name;

pub(super) const URL: &str = "http.url";
pub(super) const METHOD: &str = "http.method";
pub(super) const COMPRESSION: &str = "http.compression";
const HEADER: &str = "http.header.";

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// How long the oldest output of a request has waited, in milliseconds.
const AGE: HeaderName = HeaderName::from_static("x-eventflux-age-ms");
/// `true` when one of them waited so long that it is no news.
const HISTORICAL: HeaderName = HeaderName::from_static("x-eventflux-historical");
/// How many outputs there are in a list.
const COUNT: HeaderName = HeaderName::from_static("x-eventflux-count");

/// Where outputs go, and in which form.
#[derive(Debug)]
pub(super) struct Form {
    method: Method,
    url: Template,
    headers: Vec<(HeaderName, Template)>,
    encoder: Encoder,
    coding: Option<Coding>,
    /// Whether a body is a list, even of one.
    is_list: bool,
    /// Of all outputs, where none has anything of its own.
    same: Option<Arc<Envelope>>,
}

/// What stands around a body. Outputs go together only in the same.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Envelope {
    target: Target,
    headers: HeaderMap,
}

impl Form {
    /// Checks the options.
    pub(super) fn new(definition: &Definition<'_>, is_list: bool) -> Result<Form, OptionFault> {
        let Definition {
            options,
            schema,
            format,
            ..
        } = *definition;
        let template = |option: &str, text: &str| {
            let template = Template::parse(text, schema);
            template.map_err(|problem| OptionFault::new(option, problem))
        };
        let url = template(URL, options.text(URL).unwrap_or_default())?;
        let mut headers = Vec::new();
        for (name, text) in options.family(HEADER) {
            let option = format!("{HEADER}{name}");
            headers.push((header_name(&option, name)?, template(&option, text)?));
        }
        let encoder = Encoder::new(format, options, schema)?;
        if is_list && encoder.framing() == Framing::Unframed {
            let problem = format!("nothing tells where one `{format}` ends: send one at a time");
            return Err(OptionFault::new("http.batch.messages_max", problem));
        }
        let mut form = Form {
            method: match options.text(METHOD) {
                Some("PUT") => Method::PUT,
                Some("PATCH") => Method::PATCH,
                Some(_) | None => Method::POST,
            },
            url,
            headers,
            encoder,
            coding: match options.text(COMPRESSION) {
                Some("gzip") => Some(Coding::Gzip),
                Some("zstd") => Some(Coding::Zstd),
                Some(_) | None => None,
            },
            is_list,
            same: None,
        };
        let sample = form.sample(definition)?;
        let is_same = form.url.is_constant()
            && form
                .headers
                .iter()
                .all(|(_, template)| template.is_constant());
        form.same = is_same.then(|| Arc::new(sample));
        Ok(form)
    }

    /// An envelope with `x` in all placeholders, to see whether there can be one.
    fn sample(&self, definition: &Definition<'_>) -> Result<Envelope, OptionFault> {
        let message = Message {
            stream: definition.stream,
            id: "x",
            time: Timestamp(0),
            made: Timestamp(0),
            age_ms: 0,
            historical: false,
            schema: definition.schema,
            row: &[],
        };
        let mut url = String::new();
        self.url
            .render_with(&message, &mut url, |_, into| into.push('x'));
        let target = Target::parse(&url);
        let target = target.map_err(|problem| OptionFault::new(URL, problem))?;
        let mut headers = HeaderMap::new();
        for (name, template) in &self.headers {
            let mut text = String::new();
            template.render_with(&message, &mut text, |_, into| into.push('x'));
            let value = HeaderValue::from_bytes(text.as_bytes()).map_err(|_| {
                let problem = "not a header value: a control character is in it";
                OptionFault::new(format!("{HEADER}{name}"), problem)
            })?;
            headers.insert(name, value);
        }
        Ok(Envelope { target, headers })
    }

    /// Whether a header says who we are.
    pub(super) fn has_authorization(&self) -> bool {
        self.headers.iter().any(|(name, _)| *name == AUTHORIZATION)
    }

    /// What stands around an output.
    ///
    /// # Errors
    /// Its values make no URL or no header; in a sentence.
    pub(super) fn envelope(&self, message: &Message<'_>) -> Result<Arc<Envelope>, String> {
        if let Some(same) = &self.same {
            return Ok(Arc::clone(same));
        }
        let mut url = String::new();
        self.url.render_with(message, &mut url, |filled, into| {
            percent_encode(&filled.text(), into);
        });
        let mut headers = HeaderMap::new();
        for (name, template) in &self.headers {
            // Umlauts may stand there (RFC 9110, section 5.5: `obs-text`); a line break may not.
            let value = HeaderValue::from_bytes(template.text(message).as_bytes());
            let why = |_| format!("its values make no header {name}");
            headers.insert(name, value.map_err(why)?);
        }
        let target = Target::parse(&url)?;
        Ok(Arc::new(Envelope { target, headers }))
    }

    /// How many bytes an output adds to a body, nearly.
    pub(super) fn bytes(&self, message: &Message<'_>) -> usize {
        let mut body = Vec::new();
        self.encoder.encode(message, &mut body);
        body.len() + 1
    }

    /// The request that carries all of `messages`, which have this envelope.
    ///
    /// # Errors
    /// The body cannot be packed; in a sentence.
    pub(super) fn request(
        &self,
        envelope: &Envelope,
        messages: &[Message<'_>],
    ) -> Result<Request, String> {
        let mut body = Vec::with_capacity(256);
        match (self.is_list, messages) {
            (false, [message]) => self.encoder.encode(message, &mut body),
            _ => self.encoder.encode_all(messages, &mut body),
        }
        let mut headers = HeaderMap::new();
        let kind = match self.is_list {
            true => self.encoder.batch_content_type(),
            false => self.encoder.content_type(),
        };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        if let Some(coding) = self.coding {
            let packed = coding.pack(&body);
            let packed = packed.map_err(|error| format!("cannot pack the body: {error}"))?;
            if packed.len() < body.len() {
                body = packed;
                headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
            }
        }
        let oldest = messages.iter().map(|message| message.age_ms).max();
        headers.insert(AGE, HeaderValue::from(oldest.unwrap_or_default()));
        if messages.iter().any(|message| message.historical) {
            headers.insert(HISTORICAL, HeaderValue::from_static("true"));
        }
        if self.is_list {
            headers.insert(COUNT, HeaderValue::from(messages.len()));
        }
        if let Ok(key) = HeaderValue::from_str(&key(messages)) {
            headers.insert(KEY, key);
        }
        for (name, value) in &envelope.headers {
            headers.insert(name, value.clone());
        }
        Ok(Request {
            target: envelope.target.clone(),
            method: self.method.clone(),
            headers,
            body: Bytes::from(body),
        })
    }
}

/// The same for the same outputs: the identity of one, the first and the last of several.
fn key(messages: &[Message<'_>]) -> String {
    match messages {
        [] => String::new(),
        [one] => one.id.to_owned(),
        [first, .., last] => format!("{}..{}", first.id, last.id),
    }
}

/// Everything but what RFC 3986 calls unreserved becomes `%XX`.
fn percent_encode(text: &str, into: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                into.push(char::from(byte));
            }
            other => into.push_str(&format!("%{other:02X}")),
        }
    }
}
