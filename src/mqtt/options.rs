//! What can be set about a connection, the same for every source and sink that uses one.

use std::sync::Arc;
use std::time::Duration;

use super::{Announcement, Broker, Login, Qos, Settings, Version, is_topic};
use crate::config::options::{Layer, OptionFault, OptionKind, OptionSpec, Options, joined};
use crate::tls;

/// The options of a connection that no stream uses, and that keeps no session.
pub const LINK: [OptionSpec; 14] = [
    OptionSpec::new(
        "mqtt.broker",
        OptionKind::List,
        "Where the broker listens: mqtt://host:port, or mqtts://host:port for TLS; the port is \
         1883, or 8883, when left out. Several are tried in turn",
    )
    .required()
    .exclusive(),
    OptionSpec::new(
        "mqtt.client_id",
        OptionKind::Text,
        "The name of the session at the broker, unique there; made from gateway, application and \
         stream when left out",
    )
    .exclusive(),
    OptionSpec::new(
        "mqtt.version",
        OptionKind::Choice(&["3.1.1", "5"]),
        "The protocol version to speak",
    )
    .or("3.1.1"),
    OptionSpec::new(
        "mqtt.username",
        OptionKind::Text,
        "The user name for the broker",
    ),
    OptionSpec::new(
        "mqtt.password",
        OptionKind::Text,
        "The password for the broker",
    )
    .secret(),
    tls::ca("mqtt.tls.ca"),
    tls::cert("mqtt.tls.cert"),
    tls::key("mqtt.tls.key"),
    tls::server_name("mqtt.tls.server_name"),
    tls::alpn("mqtt.tls.alpn"),
    OptionSpec::new(
        "mqtt.keep_alive",
        OptionKind::Duration,
        "How often a quiet connection is probed; a dead one is noticed within twice that and 5 s",
    )
    .or("30 s")
    .between(1_000, 64_800_000),
    OptionSpec::new(
        "mqtt.connect_timeout",
        OptionKind::Duration,
        "How long it may take until a broker has accepted us",
    )
    .or("10 s")
    .between(100, 600_000),
    OptionSpec::new(
        "mqtt.reconnect.min",
        OptionKind::Duration,
        "The pause after the first round through the brokers that found none; it doubles from \
         round to round, and each is shortened by a random part",
    )
    .or("250 ms")
    .between(1, 86_400_000),
    OptionSpec::new(
        "mqtt.reconnect.max",
        OptionKind::Duration,
        "The longest such pause",
    )
    .or("30 s")
    .between(1, 86_400_000),
];

/// What a connection can do for a stream besides.
const SESSION: [OptionSpec; 9] = [
    OptionSpec::new(
        "mqtt.session_expiry",
        OptionKind::Duration,
        "For how long the broker keeps the session while we are away (MQTT 5); for ever when left \
         out, but a day for a sink",
    )
    .between(1_000, SESSION_EXPIRY_MS_MAX),
    OptionSpec::new(
        "mqtt.will.topic",
        OptionKind::Text,
        "Where it is said that we are gone: by the broker when the connection breaks, by us when \
         we end",
    ),
    OptionSpec::new("mqtt.will.payload", OptionKind::Text, "What is said then").or("offline"),
    OptionSpec::new(
        "mqtt.will.qos",
        OptionKind::Integer { min: 0, max: 2 },
        "With which QoS the broker says it",
    )
    .or("1"),
    OptionSpec::new(
        "mqtt.will.retain",
        OptionKind::Flag,
        "Whether the broker keeps it for later subscribers",
    )
    .or("true"),
    OptionSpec::new(
        "mqtt.birth.topic",
        OptionKind::Text,
        "Where we say that we have come, at the beginning of each connection",
    ),
    OptionSpec::new("mqtt.birth.payload", OptionKind::Text, "What we say then").or("online"),
    OptionSpec::new(
        "mqtt.birth.retain",
        OptionKind::Flag,
        "Whether the broker keeps it for later subscribers",
    )
    .or("true"),
    OptionSpec::new(
        "mqtt.qos",
        OptionKind::Integer { min: 0, max: 2 },
        "0: what is under way when a connection breaks is lost; 1: it is sent again; 2: it is \
         sent again and known as a repeat",
    )
    .or("1"),
];

/// Every option of a connection.
pub const CONNECTION: [OptionSpec; 23] = joined(&[&LINK, &SESSION]);

/// The options of a connection behind those of a connector's own; `ALL` is how many there are.
#[must_use]
#[expect(
    clippy::indexing_slicing,
    reason = "done by the compiler, which then refuses"
)]
pub const fn with_connection<const OWN: usize, const ALL: usize>(
    own: [OptionSpec; OWN],
) -> [OptionSpec; ALL] {
    assert!(ALL == OWN + CONNECTION.len(), "so many options there are");
    let mut all = [CONNECTION[0]; ALL];
    let mut index = 0;
    while index < ALL {
        all[index] = if index < OWN {
            own[index]
        } else {
            CONNECTION[index - OWN]
        };
        index += 1;
    }
    all
}

const PORT_PLAIN: u16 = 1_883;
const PORT_TLS: u16 = 8_883;
/// What fits into 32 bits of seconds, but for the number that means for ever.
const SESSION_EXPIRY_MS_MAX: i64 = 4_294_967_294_000;
/// The longest client id that the protocol can carry.
const CLIENT_ID_BYTES_MAX: usize = 65_535;

impl Settings {
    /// Settings from checked options; `client_id` is the name when none is written.
    ///
    /// # Errors
    /// The first option whose value cannot be used.
    pub fn from_options(options: &Options, client_id: &str) -> Result<Settings, OptionFault> {
        let brokers = options.list("mqtt.broker").into_iter();
        let brokers: Result<Vec<Broker>, _> = brokers.map(broker).collect();
        let brokers = brokers?;
        let client_id = options.text("mqtt.client_id").unwrap_or(client_id);
        if client_id.is_empty() || client_id.len() > CLIENT_ID_BYTES_MAX {
            let problem = "a client id has 1 to 65535 bytes";
            return Err(OptionFault::new("mqtt.client_id", problem));
        }
        let version = match options.text("mqtt.version") {
            Some("5") => Version::V5,
            _ => Version::V311,
        };
        let reconnect = (
            span(options, "mqtt.reconnect.min", 250),
            span(options, "mqtt.reconnect.max", 30_000),
        );
        if reconnect.0 > reconnect.1 {
            let problem = "it is shorter than mqtt.reconnect.min";
            return Err(OptionFault::new("mqtt.reconnect.max", problem));
        }
        Ok(Settings {
            tls: tls_client(options, &brokers)?,
            brokers,
            client_id: client_id.to_owned(),
            login: login(options)?,
            keep_alive: span(options, "mqtt.keep_alive", 30_000),
            connect_timeout: span(options, "mqtt.connect_timeout", 10_000),
            reconnect,
            session_expiry_s: session_expiry_s(options, version)?,
            will: announcement(options, "mqtt.will")?,
            birth: announcement(options, "mqtt.birth")?,
            version,
            resume: true,
            ..Settings::plain(String::new(), 0, "")
        })
    }
}

/// What `mqtt.qos` says.
#[must_use]
pub fn qos(options: &Options) -> Qos {
    care(options, "mqtt.qos")
}

fn care(options: &Options, name: &str) -> Qos {
    match options.integer(name) {
        Some(0) => Qos::AtMostOnce,
        Some(2) => Qos::ExactlyOnce,
        Some(_) | None => Qos::AtLeastOnce,
    }
}

fn span(options: &Options, name: &str, default_ms: i64) -> Duration {
    Duration::from_millis(options.integer(name).unwrap_or(default_ms).unsigned_abs())
}

fn login(options: &Options) -> Result<Option<Login>, OptionFault> {
    match (options.text("mqtt.username"), options.text("mqtt.password")) {
        (Some(username), password) => Ok(Some(Login {
            username: username.to_owned(),
            password: password.unwrap_or_default().to_owned(),
        })),
        (None, None) => Ok(None),
        (None, Some(_)) => {
            let problem = "a password without a user name: set mqtt.username too";
            Err(OptionFault::new("mqtt.password", problem))
        }
    }
}

fn tls_client(
    options: &Options,
    brokers: &[Broker],
) -> Result<Option<Arc<tls::Client>>, OptionFault> {
    if brokers.iter().any(|broker| broker.tls) {
        return Ok(Some(Arc::new(tls::client(options, "mqtt.tls")?)));
    }
    let mut written = options.iter();
    // What is written for all streams need not concern this one.
    match written.find(|(name, _, layer)| *layer >= Layer::Stream && name.starts_with("mqtt.tls."))
    {
        None => Ok(None),
        Some((name, _, _)) => {
            let problem = "the broker is spoken to without TLS: write mqtts:// in mqtt.broker";
            Err(OptionFault::new(name, problem))
        }
    }
}

fn session_expiry_s(options: &Options, version: Version) -> Result<u32, OptionFault> {
    const NAME: &str = "mqtt.session_expiry";
    let Some(ms) = options.integer(NAME) else {
        return Ok(u32::MAX);
    };
    if version == Version::V311 && options.layer(NAME) >= Some(Layer::Stream) {
        let problem = "MQTT 3.1.1 has no word for it: set mqtt.version = '5'";
        return Err(OptionFault::new(NAME, problem));
    }
    Ok(u32::try_from(ms / 1_000).unwrap_or(u32::MAX))
}

fn announcement(options: &Options, prefix: &str) -> Result<Option<Announcement>, OptionFault> {
    let name = |part: &str| format!("{prefix}.{part}");
    let Some(topic) = options.text(&name("topic")) else {
        // What is built in says nothing.
        let mut written = ["payload", "qos", "retain"].into_iter().map(name);
        let is_set = |name: &String| options.layer(name) >= Some(Layer::Stream);
        return match written.find(is_set) {
            None => Ok(None),
            Some(lonely) => {
                let problem = format!("nothing is said without a topic: set {prefix}.topic too");
                Err(OptionFault::new(lonely, problem))
            }
        };
    };
    if !is_topic(topic) {
        let problem = format!("`{topic}` is not a topic that can be published to");
        return Err(OptionFault::new(name("topic"), problem));
    }
    Ok(Some(Announcement {
        topic: topic.to_owned(),
        payload: options
            .text(&name("payload"))
            .unwrap_or_default()
            .to_owned(),
        qos: care(options, &name("qos")),
        retain: options.flag(&name("retain")),
    }))
}

/// The brokers of a connection whose options are checked.
#[must_use]
pub fn brokers(options: &Options) -> Vec<Broker> {
    let urls = options.list("mqtt.broker").into_iter();
    urls.filter_map(|url| broker(url).ok()).collect()
}

fn broker(url: &str) -> Result<Broker, OptionFault> {
    let fault = |problem: String| OptionFault::new("mqtt.broker", problem);
    // What stands before an `@` may be a password, and this is shown in the log.
    let shown = match url.contains('@') {
        true => "it".to_owned(),
        false => format!("`{url}`"),
    };
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(fault(format!(
            "{shown} is not a URL: write mqtt://host:port"
        )));
    };
    let tls = match scheme {
        "mqtt" | "tcp" => false,
        "mqtts" | "ssl" | "tls" => true,
        _ => {
            let problem = format!("unknown scheme `{scheme}`: use mqtt:// or mqtts://");
            return Err(fault(problem));
        }
    };
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
        return Err(fault(format!("{shown} names no host")));
    }
    if tls {
        tls::parse_name("mqtt.broker", host)?;
    }
    let port = match port {
        None if tls => PORT_TLS,
        None => PORT_PLAIN,
        Some(port) => match port.parse() {
            Ok(0) | Err(_) => return Err(fault(format!("`{port}` is not a port"))),
            Ok(port) => port,
        },
    };
    Ok(Broker {
        host: host.to_owned(),
        port,
        tls,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::options::OptionValue;

    #[cfg(feature = "tls")]
    #[test]
    fn broker_addresses() {
        let good = [
            ("mqtt://localhost", "localhost", 1883, false),
            ("mqtt://10.0.0.1:1884/", "10.0.0.1", 1884, false),
            ("mqtt://[::1]:99", "[::1]", 99, false),
            ("mqtts://[::1]", "[::1]", 8883, true),
            ("ssl://broker:8884", "broker", 8884, true),
            ("tls://broker", "broker", 8883, true),
        ];
        for (url, host, port, tls) in good {
            let host = host.to_owned();
            assert_eq!(broker(url), Ok(Broker { host, port, tls }), "{url}");
        }
        for url in [
            "localhost:1883",
            "http://broker",
            "mqtt://",
            "mqtt://:1883",
            "mqtt://host:0",
            "mqtt://host:http",
            "mqtt://user:word@host",
            "mqtts://no host",
            "",
        ] {
            assert!(broker(url).is_err(), "{url}");
        }
    }

    fn options(all: &[(&str, &str)]) -> Options {
        let mut options = Options::default();
        for (name, text) in all {
            let value = match text.parse() {
                Ok(number) if *name != "mqtt.version" => OptionValue::Integer(number),
                _ => OptionValue::Text((*text).to_owned()),
            };
            options.set(name, value, Layer::Sql);
        }
        options
    }

    #[test]
    fn what_does_not_fit_together_is_a_fault_of_one_option() {
        const PLAIN: (&str, &str) = ("mqtt.broker", "mqtt://a");
        let table: [(&[(&str, &str)], &str); 8] = [
            (&[("mqtt.broker", "mqtt://a, b")], "mqtt.broker"),
            (&[PLAIN, ("mqtt.password", "x")], "mqtt.password"),
            (&[PLAIN, ("mqtt.tls.alpn", "mqtt")], "mqtt.tls.alpn"),
            (
                &[PLAIN, ("mqtt.reconnect.min", "31000")],
                "mqtt.reconnect.max",
            ),
            (
                &[PLAIN, ("mqtt.session_expiry", "5000")],
                "mqtt.session_expiry",
            ),
            (&[PLAIN, ("mqtt.will.payload", "gone")], "mqtt.will.payload"),
            (&[PLAIN, ("mqtt.birth.topic", "a/+")], "mqtt.birth.topic"),
            (
                &[("mqtt.broker", "mqtts://a"), ("mqtt.tls.ca", "/none")],
                "mqtt.tls.ca",
            ),
        ];
        for (written, option) in table {
            let fault = Settings::from_options(&options(written), "id").unwrap_err();
            assert_eq!(fault.option, option, "{fault}");
        }
    }

    #[cfg(feature = "tls")]
    #[test]
    fn a_list_of_brokers_may_mix_tls_and_none() {
        let written = [
            ("mqtt.broker", "mqtts://one, mqtt://two:99"),
            ("mqtt.version", "5"),
            ("mqtt.session_expiry", "60000"),
        ];
        let settings = Settings::from_options(&options(&written), "id").unwrap();
        let brokers: Vec<String> = settings.brokers.iter().map(Broker::to_string).collect();
        assert_eq!(brokers, ["one:8883", "two:99"]);
        assert!(settings.tls.is_some());
        assert_eq!(settings.session_expiry_s, 60);
    }
}
