//! HTTP/1.1, for whoever asks and for whoever is asked.
//!
//! What it promises: a request ends within its time, whatever the far side does; an answer takes
//! no more memory than allowed; redirections are not followed, certificates are always checked.
//! Nothing here decides what an answer means.

pub mod auth;
pub mod client;
pub mod coding;
pub mod io;
pub mod options;
mod retry_after;

pub use retry_after::retry_after;

use client::Answer;

/// So much of what a server says is shown.
const SAID_BYTES_MAX: usize = 256;

/// What an answer says, for people.
#[must_use]
pub fn said(answer: &Answer) -> String {
    let status = answer.status.as_u16();
    if answer.status.is_redirection() {
        let to = answer.headers.get(hyper::header::LOCATION);
        let to = to.and_then(|to| to.to_str().ok()).unwrap_or("elsewhere");
        return format!("status {status}: redirected to {to}, which is not followed");
    }
    let text = answer.body.get(..SAID_BYTES_MAX).unwrap_or(&answer.body);
    let text = String::from_utf8_lossy(text);
    match text.trim() {
        "" => format!("status {status}"),
        text => format!("status {status}: {text}"),
    }
}
