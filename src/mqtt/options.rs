//! What can be set about a connection, the same for every source and sink that uses one.

use std::time::Duration;

use super::{Login, Settings, Version};
use crate::config::options::{OptionFault, OptionKind, OptionSpec, Options};

const fn option(name: &'static str, kind: OptionKind, doc: &'static str) -> OptionSpec {
    OptionSpec::new(name, kind, doc)
}

/// Where the broker listens.
pub const BROKER: OptionSpec = OptionSpec {
    required: true,
    ..option(
        "mqtt.broker",
        OptionKind::Text,
        "Where the broker listens: mqtt://host:port, the port is 1883 when left out",
    )
};

/// The name of the session at the broker.
pub const CLIENT_ID: OptionSpec = option(
    "mqtt.client_id",
    OptionKind::Text,
    "The name of the session at the broker, unique there; \
     made from gateway, application and stream when left out",
);

/// The protocol.
pub const VERSION: OptionSpec = OptionSpec {
    default: Some("3.1.1"),
    ..option(
        "mqtt.version",
        OptionKind::Choice(&["3.1.1", "5"]),
        "The protocol version to speak",
    )
};

/// Who we are.
pub const USERNAME: OptionSpec = option(
    "mqtt.username",
    OptionKind::Text,
    "The user name for the broker",
);

/// The proof of it.
pub const PASSWORD: OptionSpec = OptionSpec {
    secret: true,
    ..option(
        "mqtt.password",
        OptionKind::Text,
        "The password for the broker",
    )
};

/// How soon a dead link is noticed.
pub const KEEP_ALIVE: OptionSpec = OptionSpec {
    default: Some("30 s"),
    ..option(
        "mqtt.keep_alive",
        OptionKind::Duration,
        "How often a quiet connection is probed, 1 s to 18 h; \
         a dead one is noticed within twice that",
    )
};

const PORT_DEFAULT: u16 = 1883;
const KEEP_ALIVE_MS: std::ops::RangeInclusive<i64> = 1_000..=64_800_000;
/// The longest client id that the protocol can carry.
const CLIENT_ID_BYTES_MAX: usize = 65_535;

impl Settings {
    /// Settings from checked options; `client_id` is the name when none is written.
    ///
    /// # Errors
    /// The first option whose value cannot be used.
    pub fn from_options(options: &Options, client_id: &str) -> Result<Settings, OptionFault> {
        let (host, port) = address(options.text(BROKER.name).unwrap_or_default())?;
        let client_id = options.text(CLIENT_ID.name).unwrap_or(client_id);
        if client_id.is_empty() || client_id.len() > CLIENT_ID_BYTES_MAX {
            return Err(OptionFault::new(
                CLIENT_ID.name,
                "a client id has 1 to 65535 bytes",
            ));
        }
        let keep_alive_ms = options.integer(KEEP_ALIVE.name).unwrap_or(30_000);
        if !KEEP_ALIVE_MS.contains(&keep_alive_ms) {
            return Err(OptionFault::new(KEEP_ALIVE.name, "write 1 s to 18 h"));
        }
        let login = match (options.text(USERNAME.name), options.text(PASSWORD.name)) {
            (Some(username), password) => Some(Login {
                username: username.to_owned(),
                password: password.unwrap_or_default().to_owned(),
            }),
            (None, None) => None,
            (None, Some(_)) => {
                let problem = "a password without a user name: set mqtt.username too";
                return Err(OptionFault::new(PASSWORD.name, problem));
            }
        };
        Ok(Settings {
            host,
            port,
            client_id: client_id.to_owned(),
            version: match options.text(VERSION.name) {
                Some("5") => Version::V5,
                _ => Version::V311,
            },
            login,
            keep_alive: Duration::from_millis(keep_alive_ms.unsigned_abs()),
            resume: true,
            inflight_max: 100,
        })
    }
}

/// A client id that is the same after every start and different for every stream of every
/// gateway: brokers throw the older of two clients with one id out.
#[must_use]
pub fn default_client_id(gateway: &str, application: &str, stream: &str) -> String {
    let mut id = String::from("eventflux");
    for part in [gateway, application, stream] {
        id.push('-');
        id.extend(part.chars().map(|c| match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '.' => c,
            _ => '_',
        }));
    }
    id
}

fn address(url: &str) -> Result<(String, u16), OptionFault> {
    let fault = |problem: String| OptionFault::new(BROKER.name, problem);
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(fault(format!(
            "`{url}` is not a URL: write mqtt://host:port"
        )));
    };
    match scheme {
        "mqtt" | "tcp" => {}
        "mqtts" | "ssl" | "tls" => {
            let problem = format!("{scheme}:// (TLS) is not supported yet: use mqtt://");
            return Err(fault(problem));
        }
        _ => return Err(fault(format!("unknown scheme `{scheme}`: use mqtt://"))),
    }
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains(['/', '?', '#', '@']) {
        let problem =
            "only host and port belong here; credentials go to mqtt.username and mqtt.password";
        return Err(fault(problem.to_owned()));
    }
    let (host, port) = match authority.rsplit_once(':') {
        // An IPv6 address without a port: `[::1]`.
        Some((_, port)) if port.ends_with(']') => (authority, None),
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    if host.is_empty() {
        return Err(fault(format!("`{url}` names no host")));
    }
    let port = match port {
        None => PORT_DEFAULT,
        Some(port) => match port.parse() {
            Ok(0) | Err(_) => return Err(fault(format!("`{port}` is not a port"))),
            Ok(port) => port,
        },
    };
    Ok((host.to_owned(), port))
}

/// Whether `filter` is a topic filter, a shared one (`$share/<group>/<filter>`) included.
#[must_use]
pub fn is_filter(filter: &str) -> bool {
    !filter.contains('\0') && filter.len() <= 65_535 && rumqttc::valid_filter(own_filter(filter))
}

/// Whether `topic` is a topic that can be published to.
#[must_use]
pub fn is_topic(topic: &str) -> bool {
    !topic.is_empty() && topic.len() <= 65_535 && !topic.contains(['+', '#', '\0'])
}

/// Whether a message on `topic` belongs to the subscription `filter`: MQTT 3.1.1, section 4.7.
/// (`rumqttc::matches` is not used: it panics on a topic that begins with `é` and never matches
/// one that begins with `$`.)
#[must_use]
pub fn filter_matches(filter: &str, topic: &str) -> bool {
    let filter = own_filter(filter);
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        if wanted == "#" {
            return true;
        }
        match levels.next() {
            Some(level) if wanted == "+" || wanted == level => {}
            Some(_) | None => return false,
        }
    }
    levels.next().is_none()
}

/// The filter without `$share/<group>/`.
fn own_filter(filter: &str) -> &str {
    filter
        .strip_prefix("$share/")
        .and_then(|rest| rest.split_once('/'))
        .map_or(filter, |(_, own)| own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broker_addresses() {
        let good = [
            ("mqtt://localhost", "localhost", 1883),
            ("mqtt://10.0.0.1:1884/", "10.0.0.1", 1884),
            ("mqtt://[::1]:99", "[::1]", 99),
            ("mqtt://[::1]", "[::1]", 1883),
        ];
        for (url, host, port) in good {
            assert_eq!(address(url), Ok((host.to_owned(), port)), "{url}");
        }
        for url in [
            "localhost:1883",
            "mqtts://broker:8883",
            "http://broker",
            "mqtt://",
            "mqtt://:1883",
            "mqtt://host:0",
            "mqtt://host:http",
            "mqtt://user:word@host",
        ] {
            assert!(address(url).is_err(), "{url}");
        }
    }

    #[test]
    fn filters_and_topics() {
        assert!(is_filter("plant/+/temp") && is_filter("#") && is_filter("$share/g/a/#"));
        assert!(!is_filter("") && !is_filter("a/#/b") && !is_filter("a+"));
        assert!(is_topic("a/b") && !is_topic("a/+") && !is_topic(""));
        assert!(filter_matches("$share/g/plant/+", "plant/7"));
        assert!(filter_matches("plant/#", "plant"));
        assert!(!filter_matches("plant/+", "plant/7/temp"));
        assert!(filter_matches("$SYS/#", "$SYS/uptime") && !filter_matches("#", "$SYS/uptime"));
        assert!(filter_matches("+/x", "é/x") && filter_matches("#", "é"));
    }

    #[test]
    fn client_ids_are_plain() {
        assert_eq!(
            default_client_id("pi 4", "line/1", "Readings"),
            "eventflux-pi_4-line_1-Readings"
        );
    }
}
