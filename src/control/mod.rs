//! Configuration and commands over MQTT.
//!
//! A retained document asks for a configuration, and a retained report says what became of it;
//! requests are answered one by one; a birth and a last will say whether the node is there. What
//! it promises: a document changes nothing before all of it has been checked; what does not prove
//! itself within its probation is taken back, also over a restart; whatever comes in is bounded;
//! and the connection, which is one of its own, has no part in the flow of data.
//!
//! It leaves to others what a configuration means and how one follows another:
//! [`crate::daemon::Door`] is the one way in, for a local file as well.

mod allowance;
mod announced;
mod apply;
mod boot;
mod changes;
mod code;
mod desk;
pub mod discovery;
pub mod envelope;
pub mod events;
mod fields;
mod gate;
pub mod hash;
mod hearing;
pub mod journal;
pub mod keys;
mod link;
mod local;
mod mailbox;
pub mod metrics;
pub mod node;
pub mod request;
mod run;
mod state;
mod steward;
mod told;
mod topics;
mod trial;
pub mod verbs;

pub use code::{Code, Fault};
pub use local::Local;
pub use run::{Control, Node, Running, open, rescue};
pub use topics::Topics;

/// Who is spoken to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// One node, by its name.
    Node(String),
    /// All nodes that are in a group.
    Group(String),
}

impl std::fmt::Display for Scope {
    /// As it stands in topics and in what is signed: `pump-7`, `_group/pumps`.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Scope::Node(name) => out.write_str(name),
            Scope::Group(name) => write!(out, "_group/{name}"),
        }
    }
}
