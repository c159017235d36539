//! One listener for each address, whoever of our streams is behind it.
//!
//! What it promises: streams come and go, the listener stays until the last one has gone, and lets
//! requests that are under way end. A connection that does not bring a request in time is closed.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::answer::{Route, answer};
use crate::http::io::{Io, Stream, Timer};
use crate::pace::Sparse;
use crate::tls::{self, NotEncrypted};

/// How long requests under way may take when the listener closes.
const END_WITHIN: Duration = Duration::from_secs(10);
/// How soon an accept that failed, for want of file handles most likely, is tried again.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// What is kept of a request before its body is read; longer heads are answered 431.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const LINE_SPAN: Duration = Duration::from_secs(10);

/// Every listener of this process.
static OPEN: Mutex<BTreeMap<SocketAddr, Arc<Server>>> = Mutex::new(BTreeMap::new());

/// How connections to an address are encrypted.
#[derive(Clone, Debug)]
pub(super) struct Encryption {
    /// `None`: not at all.
    pub(super) tls: Option<Arc<tls::Server>>,
    /// What tells two from each other: what is written about them.
    pub(super) digest: [u8; 32],
}

/// A listener and the streams behind it.
pub(super) struct Server {
    /// The address it has; not the one asked for when that left the port open.
    local: SocketAddr,
    inside: Mutex<Inside>,
    /// Somebody has left.
    left: Notify,
    /// Turns true when it is to end.
    closing: watch::Sender<bool>,
}

struct Inside {
    encryption: Encryption,
    routes: Vec<Arc<Route>>,
}

/// A stream's place at a listener, until it is dropped.
pub(super) struct Seat {
    server: Arc<Server>,
    route: Arc<Route>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut inside = self.server.inside();
        inside
            .routes
            .retain(|route| !Arc::ptr_eq(route, &self.route));
        self.server.left.notify_one();
    }
}

impl Seat {
    /// Where the listener is.
    pub(super) fn local(&self) -> SocketAddr {
        self.server.local
    }
}

/// Takes a seat at the listener of `at`, which is opened if there is none.
///
/// # Errors
/// Why not, in a sentence.
pub(super) fn join(
    at: SocketAddr,
    encryption: &Encryption,
    route: &Arc<Route>,
) -> Result<Seat, String> {
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    let server = match open.get(&at) {
        Some(server) => Arc::clone(server),
        None => {
            let cannot = |error: std::io::Error| format!("cannot listen on {at}: {error}");
            let listener = bind(at).map_err(cannot)?;
            let server = Arc::new(Server {
                local: listener.local_addr().map_err(cannot)?,
                inside: Mutex::new(Inside {
                    encryption: encryption.clone(),
                    routes: Vec::new(),
                }),
                left: Notify::new(),
                closing: watch::channel(false).0,
            });
            tokio::spawn(Arc::clone(&server).run(at, listener));
            // A port of the system's choice is nobody else's.
            if at.port() != 0 {
                open.insert(at, Arc::clone(&server));
            }
            server
        }
    };
    server.seat(encryption, route)?;
    Ok(Seat {
        route: Arc::clone(route),
        server,
    })
}

fn bind(at: SocketAddr) -> std::io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(at)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

impl Server {
    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seat(&self, encryption: &Encryption, route: &Arc<Route>) -> Result<(), String> {
        let mut inside = self.inside();
        if inside.routes.is_empty() {
            inside.encryption = encryption.clone();
        }
        if inside.encryption.digest != encryption.digest {
            return Err("another stream listens there with other http.tls options".to_owned());
        }
        let mut routes = inside.routes.iter();
        if let Some(other) = routes.find(|other| other.pattern.is_as(&route.pattern)) {
            let stream = &other.stream;
            return Err(format!("stream '{stream}' listens there on the same path"));
        }
        inside.routes.push(Arc::clone(route));
        Ok(())
    }

    /// The stream that takes this path; the one that names most of it.
    pub(super) fn route(&self, path: &str) -> Option<Arc<Route>> {
        let inside = self.inside();
        let routes = inside.routes.iter();
        let routes = routes.filter(|route| route.pattern.takes(path));
        routes.min_by_key(|route| route.pattern.rank()).cloned()
    }

    fn connections_max(&self) -> usize {
        let inside = self.inside();
        let limits = inside.routes.iter().map(|route| route.connections_max);
        limits.max().unwrap_or_default()
    }

    /// How long a head may take to come: as long as the most patient stream gives it.
    fn patience(&self) -> Duration {
        let inside = self.inside();
        let limits = inside.routes.iter().map(|route| route.within);
        limits.max().unwrap_or(END_WITHIN)
    }

    async fn run(self: Arc<Server>, at: SocketAddr, listener: TcpListener) {
        let mut connections = JoinSet::new();
        let mut line = Sparse::new(LINE_SPAN);
        loop {
            let has_room = connections.len() < self.connections_max();
            tokio::select! {
                accepted = listener.accept(), if has_room => match accepted {
                    Ok((stream, peer)) => {
                        connections.spawn(Arc::clone(&self).connection(stream, peer));
                    }
                    Err(error) => {
                        if let Some(count) = line.occurred(std::time::Instant::now()) {
                            tracing::warn!(count, "no connection taken at {at}: {error}");
                        }
                        sleep(ACCEPT_AGAIN).await;
                    }
                },
                Some(_) = connections.join_next() => {}
                () = self.left.notified() => {
                    if self.close(at) {
                        break;
                    }
                }
            }
        }
        drop(listener);
        self.closing.send_replace(true);
        let ended = async { while connections.join_next().await.is_some() {} };
        let _ = timeout(END_WITHIN, ended).await;
    }

    /// Whether nobody is left, so that it ends.
    fn close(&self, at: SocketAddr) -> bool {
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        let is_empty = self.inside().routes.is_empty();
        if is_empty && open.get(&at).is_some_and(|own| std::ptr::eq(&**own, self)) {
            open.remove(&at);
        }
        is_empty
    }

    async fn connection(self: Arc<Server>, stream: TcpStream, peer: SocketAddr) {
        let patience = self.patience();
        let _ = stream.set_nodelay(true);
        let Some(stream) = self.encrypted(stream, peer, patience).await else {
            return;
        };
        let server = Arc::clone(&self);
        let service = service_fn(move |request| {
            let server = Arc::clone(&server);
            async move { Ok::<_, Infallible>(answer(&server, peer, request).await) }
        });
        let mut builder = http1::Builder::new();
        builder
            .timer(Timer)
            .header_read_timeout(patience)
            .max_buf_size(HEAD_BYTES_MAX);
        let mut connection = pin!(builder.serve_connection(Io(stream), service));
        let mut closing = self.closing.subscribe();
        let is_closing = async { closing.wait_for(|closing| *closing).await.is_ok() };
        let ended = tokio::select! {
            ended = &mut connection => ended,
            _ = is_closing => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!("connection of {peer}: {error}");
        }
    }

    async fn encrypted(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        patience: Duration,
    ) -> Option<Box<dyn Stream>> {
        let tls = self.inside().encryption.tls.clone();
        let Some(tls) = tls else {
            return Some(Box::new(stream));
        };
        match timeout(patience, tls.accept(stream)).await {
            Ok(Ok(stream)) => Some(Box::new(stream)),
            Ok(Err(NotEncrypted::Ours(error))) => {
                tracing::error!("cannot encrypt the connection of {peer}: {error}");
                None
            }
            Ok(Err(NotEncrypted::Theirs(error))) => {
                tracing::debug!("connection of {peer}: {error}");
                None
            }
            Err(_) => None,
        }
    }
}
