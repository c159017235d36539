//! HTTP/1.1, for whoever asks and for whoever is asked.
//!
//! What it promises: a request ends within its time, whatever the far side does; an answer takes
//! no more memory than allowed; redirections are not followed, certificates are always checked.
//! Nothing here decides what an answer means.

pub mod auth;
pub mod client;
pub mod coding;
mod discretion;
pub mod io;
pub mod options;
mod retry_after;

pub use retry_after::retry_after;
