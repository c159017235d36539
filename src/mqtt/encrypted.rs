//! The way to a broker that speaks TLS, which may be under another name than the host's.

use rumqttc::{TlsConfiguration, Transport};

use super::connection::Way;
use super::tunnel::Speech;
use super::{Broker, Error};
use crate::tls;

/// How to get to a broker whom `client` shows itself to; `in_bites` as with
/// [`Way::through_tunnel`].
pub(super) fn way(client: &tls::Client, broker: &Broker, in_bites: bool) -> Result<Way, Error> {
    let host = broker.host.clone();
    let config = client
        .config()
        .map_err(|error| Error::Tls(error.to_string()))?;
    let own = tls::parse_name("mqtt.broker", &host).map_err(|fault| Error::Tls(fault.problem))?;
    let name = client.server_name().unwrap_or(&own);
    // `rumqttc` takes no address in brackets for a name.
    if *name == own && !host.starts_with('[') && !in_bites {
        return Ok(Way {
            host,
            transport: Transport::Tls(TlsConfiguration::Rustls(config)),
            tunnel: None,
        });
    }
    Way::through_tunnel(broker, Speech::Encrypted(name.clone(), config))
}
