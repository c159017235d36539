//! An MQTT 3.1.1 broker inside the process, reachable from this machine only.
//!
//! It is `rumqttd`, without TLS and without a disk: it forgets everything with the process. It
//! lives as long as the process does. It speaks of itself under the log target `rumqttd`, to be
//! set to `error` by whoever sets the filter.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// Why there is no broker.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It would be reachable from outside.
    #[error("{0} is not a loopback address: the built-in broker has no access control")]
    NotLoopback(SocketAddr),
    /// Somebody else listens there, or a thread could not be started.
    #[error("cannot start the built-in broker on {0}")]
    Start(SocketAddr, #[source] std::io::Error),
    /// It did not begin to listen.
    #[error("the built-in broker does not listen on {0}")]
    Silent(SocketAddr),
}

const START_MAX: Duration = Duration::from_secs(5);

/// Starts a broker on `at`, where port 0 stands for any free one, and returns where it listens.
///
/// Takes a moment; not to be called on a thread that must not block.
///
/// # Errors
/// See [`Error`].
pub fn start(at: SocketAddr) -> Result<SocketAddr, Error> {
    if !at.ip().is_loopback() {
        return Err(Error::NotLoopback(at));
    }
    // The broker's thread cannot report that an address is taken, so it is tried here.
    let listener = TcpListener::bind(at).map_err(|error| Error::Start(at, error))?;
    let at = listener
        .local_addr()
        .map_err(|error| Error::Start(at, error))?;
    drop(listener);
    let mut broker = rumqttd::Broker::new(config(at));
    let thread = std::thread::Builder::new().name("demo-broker".to_owned());
    thread
        .spawn(move || {
            if let Err(error) = broker.start() {
                tracing::error!("the built-in broker ended: {error}");
            }
        })
        .map_err(|error| Error::Start(at, error))?;
    let end = Instant::now() + START_MAX;
    while TcpStream::connect_timeout(&at, START_MAX).is_err() {
        if Instant::now() > end {
            return Err(Error::Silent(at));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(at)
}

fn config(at: SocketAddr) -> rumqttd::Config {
    let connections = rumqttd::ConnectionSettings {
        connection_timeout_ms: 5_000,
        max_payload_size: 16 << 20,
        max_inflight_count: 100,
        auth: None,
        external_auth: None,
        dynamic_filters: true,
    };
    let server = rumqttd::ServerSettings {
        name: "demo".to_owned(),
        listen: at,
        tls: None,
        next_connection_delay_ms: 1,
        connections,
    };
    rumqttd::Config {
        router: rumqttd::RouterConfig {
            max_connections: 100,
            max_outgoing_packet_count: 200,
            max_segment_size: 1 << 20,
            max_segment_count: 10,
            ..rumqttd::RouterConfig::default()
        },
        v4: Some(HashMap::from([("demo".to_owned(), server)])),
        ..rumqttd::Config::default()
    }
}
