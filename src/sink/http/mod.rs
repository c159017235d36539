//! A sink that sends outputs to an HTTP server, one request at a time, in order.
//!
//! What it promises: a key is confirmed when the server has answered 2xx. Anything that may pass
//! (no connection, no answer in time, 5xx, 408, 423, 425, 429, a redirection, no token) is tried
//! again, with the same `Idempotency-Key`, after a growing pause or the one that `Retry-After` asks
//! for. So is what says nothing of the output itself but that we may not send (401, 403, 407): a
//! person has to mend that, and until then nothing is lost. Any other 4xx is about what was sent:
//! of several outputs together the culprits are searched by halves, so that only they are refused.

mod form;
mod task;

use std::time::Duration;

use self::form::Form;
use self::task::Task;
use super::Context;
use super::refusal::Refusals;
use crate::config::Definition;
use crate::config::options::{OptionFault, OptionKind, OptionSpec, joined};
use crate::http::auth::Auth;
use crate::http::client::Client;
use crate::http::options::{self as shared, size, span};
use crate::pace::Backoff;

/// What can be set.
pub const OPTIONS: &[OptionSpec] =
    &joined::<{ OWN_OPTIONS.len() + shared::CLIENT_OPTIONS.len() }>(&[
        OWN_OPTIONS,
        shared::CLIENT_OPTIONS,
    ]);

const OWN_OPTIONS: &[OptionSpec] = &[
    OptionSpec::new(
        form::URL,
        OptionKind::Text,
        "Where to send to: `http://` or `https://`. May have placeholders such as `{{device}}`, \
         whose values are percent-encoded",
    )
    .required(),
    OptionSpec::new(
        form::METHOD,
        OptionKind::Choice(&["POST", "PUT", "PATCH"]),
        "How to send",
    )
    .or("POST"),
    OptionSpec::new(
        "http.header.*",
        OptionKind::Text,
        "A further header, such as `http.header.X-Site`. May have placeholders",
    )
    .secret(),
    OptionSpec::new(
        MESSAGES_MAX,
        OptionKind::Integer {
            min: 1,
            max: 10_000,
        },
        "How many outputs go in one request at most; more than 1 makes each body a list",
    )
    .or("1"),
    OptionSpec::new(
        BYTES_MAX,
        OptionKind::Bytes,
        "How many bytes of outputs go in one request, before they are packed; a larger output goes \
         alone",
    )
    .or("256 KiB"),
    OptionSpec::new(
        LINGER,
        OptionKind::Duration,
        "How long a request that is not full waits for more",
    )
    .or("0"),
    OptionSpec::new(
        form::COMPRESSION,
        OptionKind::Choice(&["none", "gzip", "zstd"]),
        "How bodies are packed, where that makes them smaller",
    )
    .or("none"),
];

const MESSAGES_MAX: &str = "http.batch.messages_max";
const BYTES_MAX: &str = "http.batch.bytes_max";
const LINGER: &str = "http.batch.linger";

/// How many outputs go together.
#[derive(Clone, Copy, Debug)]
struct Batches {
    messages_max: usize,
    bytes_max: usize,
    linger: Duration,
}

/// An HTTP sink, checked.
#[derive(Debug)]
pub struct Http {
    form: Form,
    batches: Batches,
    client: Client,
    auth: Auth,
    timeout: Duration,
    pace: Backoff,
    refusals: Refusals,
}

impl Http {
    /// Checks the options.
    ///
    /// # Errors
    /// The first option whose value cannot be used.
    pub fn new(definition: &Definition<'_>) -> Result<Http, OptionFault> {
        let options = definition.options;
        let batches = Batches {
            messages_max: size(options, MESSAGES_MAX, 1),
            bytes_max: size(options, BYTES_MAX, 256 << 10),
            linger: span(options, LINGER, 0),
        };
        let form = Form::new(definition, batches.messages_max > 1)?;
        let auth = Auth::new(options)?;
        if form.has_authorization() && !matches!(auth, Auth::None) {
            let problem = "the option about who we are writes this header: use one of the two";
            return Err(OptionFault::new("http.header.Authorization", problem));
        }
        Ok(Http {
            form,
            batches,
            client: Client::new(options)?,
            auth,
            timeout: shared::timeout(options)?,
            pace: shared::pace(options),
            refusals: Refusals::new(options)?,
        })
    }

    /// Delivers until told to stop, or until there is nothing to come.
    pub async fn run(self, context: Context) {
        Task::new(self, context).run().await;
    }
}
