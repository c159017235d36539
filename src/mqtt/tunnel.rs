//! TLS under another name than the host's; and a connection that is read in small bites.
//!
//! `rumqttc` asks for, and verifies, the name that it connects to. When that is not the name of
//! the broker's certificate (an address, a tunnel, a balancer that goes by SNI) TLS is done here,
//! and `rumqttc` talks to us over a local socket that has no file and takes nobody but ourselves.
//!
//! `rumqttc` also reads up to ten packets at a time, as long as its socket has any. In front of a
//! broker in a flood that is ten of the largest. What comes through here comes when nobody reads:
//! there is never more to read than this socket holds, 208 KiB.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
#[cfg(feature = "tls")]
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[cfg(feature = "tls")]
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpStream, UnixListener, lookup_host};
#[cfg(feature = "tls")]
use tokio_rustls::TlsConnector;

/// Goes on until either side ends; to be polled along with the connection.
pub(super) type Tunnel = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

/// How to speak with the broker.
pub(super) enum Speech {
    /// As it is.
    Plain,
    /// By TLS, with whoever has a certificate for this name.
    #[cfg(feature = "tls")]
    Encrypted(ServerName<'static>, Arc<ClientConfig>),
}

/// A tunnel to `broker`, and the path under which `rumqttc` finds its near end.
pub(super) fn open(broker: String, speech: Speech) -> io::Result<(String, Tunnel)> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    // A leading zero byte: a socket of the kernel's name space, not of a folder.
    let path = format!("\0eventflux/mqtt/{}/{number}", std::process::id());
    let listener = UnixListener::bind(&path)?;
    Ok((path, Box::pin(run(listener, broker, speech))))
}

async fn run(listener: UnixListener, broker: String, speech: Speech) -> io::Result<()> {
    let us = i32::try_from(std::process::id()).ok();
    let mut near = loop {
        let (near, _) = listener.accept().await?;
        if near.peer_cred()?.pid() == us {
            break near;
        }
    };
    drop(listener);
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in lookup_host(broker).await? {
        match reach(address).await {
            Ok(mut far) => {
                match speech {
                    Speech::Plain => drop(copy_bidirectional(&mut near, &mut far).await?),
                    #[cfg(feature = "tls")]
                    Speech::Encrypted(name, config) => {
                        let mut far = TlsConnector::from(config).connect(name, far).await?;
                        copy_bidirectional(&mut near, &mut far).await?;
                    }
                }
                return Ok(());
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn reach(address: SocketAddr) -> io::Result<TcpStream> {
    let far = TcpStream::connect(address).await?;
    far.set_nodelay(true)?;
    Ok(far)
}
