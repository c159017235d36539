//! A configuration that comes from afar: what is done with it, what the node says of it, and all
//! that must not happen. Against real brokers with passwords and the access list of operate.md.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test may fail where it stands"
)]

#[path = "../common/authority.rs"]
mod authority;
#[path = "../common/client.rs"]
mod client;
#[path = "../common/daemon.rs"]
mod daemon;
#[path = "../common/fleet.rs"]
mod fleet;
#[path = "../common/http.rs"]
mod http;
#[path = "../common/listener.rs"]
mod listener;
#[path = "../common/mosquitto.rs"]
mod mosquitto;
#[path = "../common/operator.rs"]
mod operator;
#[path = "../common/ordeal.rs"]
mod ordeal;
#[path = "../common/proxy.rs"]
mod proxy;
#[path = "../common/random.rs"]
mod random;
#[path = "../common/signing.rs"]
mod signing;
#[path = "../common/small_disk.rs"]
mod small_disk;
#[path = "../common/traffic.rs"]
mod traffic;
#[path = "../common/wait.rs"]
mod wait;

mod away;
mod changes;
mod cli;
mod hostile;
mod kill;
mod power;
mod refuse;
mod rescue;
mod secrets;
mod state;
mod tls;
mod trouble;
mod verbs;
