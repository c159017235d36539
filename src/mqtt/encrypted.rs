//! The way to a broker that speaks TLS, which may be under another name than the host's.
//!
//! `rumqttc` asks for, and verifies, the name that it connects to. When that is not the name of
//! the broker's certificate (an address, a tunnel, a balancer that goes by SNI) TLS is done here,
//! and `rumqttc` talks to us over a local socket that has no file and takes nobody but ourselves.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rumqttc::{TlsConfiguration, Transport};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpStream, UnixListener, lookup_host};
use tokio_rustls::TlsConnector;

use super::connection::{Tunnel, Way};
use super::{Broker, Error};
use crate::tls;

/// How to get to a broker whom `client` shows itself to.
pub(super) fn way(client: &tls::Client, broker: &Broker) -> Result<Way, Error> {
    let host = broker.host.clone();
    let config = client
        .config()
        .map_err(|error| Error::Tls(error.to_string()))?;
    let own = tls::parse_name("mqtt.broker", &host).map_err(|fault| Error::Tls(fault.problem))?;
    let name = client.server_name().unwrap_or(&own);
    // `rumqttc` takes no address in brackets for a name.
    if *name == own && !host.starts_with('[') {
        return Ok(Way {
            host,
            transport: Transport::Tls(TlsConfiguration::Rustls(config)),
            tunnel: None,
        });
    }
    let (path, tunnel) = open(broker.to_string(), name.clone(), config)
        .map_err(|error| Error::Lost(error.to_string()))?;
    Ok(Way {
        host: path,
        transport: Transport::Unix,
        tunnel: Some(tunnel),
    })
}

/// A tunnel to `broker`, and the path under which `rumqttc` finds its near end.
fn open(
    broker: String,
    name: ServerName<'static>,
    config: Arc<ClientConfig>,
) -> io::Result<(String, Tunnel)> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    // A leading zero byte: a socket of the kernel's name space, not of a folder.
    let path = format!("\0eventflux/mqtt/{}/{number}", std::process::id());
    let listener = UnixListener::bind(&path)?;
    Ok((path, Box::pin(run(listener, broker, name, config))))
}

async fn run(
    listener: UnixListener,
    broker: String,
    name: ServerName<'static>,
    config: Arc<ClientConfig>,
) -> io::Result<()> {
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
            Ok(far) => {
                let mut far = TlsConnector::from(config).connect(name, far).await?;
                copy_bidirectional(&mut near, &mut far).await?;
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
