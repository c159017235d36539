//! Which broker, and as whom.

use std::path::PathBuf;

use clap::Args;

use super::Trouble;
use crate::cli::{Exit, environment};
use crate::config::options::{Layer, OptionValue, Options};
use crate::control::request::new_id;
use crate::control::{Scope, Topics};
use crate::mqtt::Settings;

/// Where the password may stand.
const PASSWORD: &str = "EVENTFLUX_MQTT_PASSWORD";
/// A longer message ends the connection.
const PACKET_BYTES_MAX: u32 = 16 << 20;
const PASSWORD_BYTES_MAX: u64 = 64 << 10;

/// A broker, and where below it the nodes are.
#[derive(Debug, Args)]
pub(super) struct Broker {
    /// Where the broker listens: mqtt://host:port, or mqtts://host:port for TLS
    #[arg(long, value_name = "URL")]
    broker: String,
    /// The user name for the broker
    #[arg(long, value_name = "NAME")]
    username: Option<String>,
    /// A file with the password; without it EVENTFLUX_MQTT_PASSWORD is taken
    #[arg(long, value_name = "FILE", requires = "username")]
    password_file: Option<PathBuf>,
    /// The authorities to trust in place of the system's (PEM)
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Our certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "key_file")]
    cert: Option<PathBuf>,
    /// The private key of our certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "cert")]
    key_file: Option<PathBuf>,
    /// What all topics begin with: control.root of the nodes
    #[arg(long, value_name = "TOPIC", default_value = "eventflux")]
    root: String,
}

impl Broker {
    /// What is needed to connect.
    pub(super) fn settings(&self) -> Result<Settings, Trouble> {
        let usage = |message: String| Trouble::new(Exit::Usage, message);
        let mut options = Options::default();
        let mut set = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                options.set(name, OptionValue::Text(value), Layer::Sql);
            }
        };
        let file = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        set("mqtt.broker", Some(self.broker.clone()));
        set("mqtt.username", self.username.clone());
        set("mqtt.tls.ca", file(&self.ca));
        set("mqtt.tls.cert", file(&self.cert));
        set("mqtt.tls.key", file(&self.key_file));
        set("mqtt.password", self.password()?);
        let id = new_id()?;
        let id = format!("eventflux-control-{}", id.get(..12).unwrap_or(&id));
        let settings = Settings::from_options(&options, &id)
            .map_err(|fault| usage(format!("{}: {}", argument(&fault.option), fault.problem)))?;
        Ok(Settings {
            resume: false,
            packet_bytes_max: PACKET_BYTES_MAX,
            ..settings
        })
    }

    fn password(&self) -> Result<Option<String>, Trouble> {
        if let Some(path) = &self.password_file {
            let text = super::text_of(path, PASSWORD_BYTES_MAX);
            let text = text.map_err(|trouble| Trouble::new(Exit::Usage, trouble.message))?;
            return Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()));
        }
        Ok(self.username.as_ref().and_then(|_| environment(PASSWORD)))
    }

    /// The topics of a node.
    pub(super) fn topics(&self, node: &str) -> Topics {
        Topics::new(&self.root, node)
    }

    /// Where a document for these is expected.
    pub(super) fn desired(&self, scope: &Scope) -> String {
        self.topics("").desired(scope)
    }

    /// The node that a topic belongs to, and the rest of the topic.
    pub(super) fn split<'a>(&self, topic: &'a str) -> Option<(&'a str, &'a str)> {
        let inside = topic.strip_prefix(self.root.as_str())?;
        inside.strip_prefix("/v1/")?.split_once('/')
    }
}

/// The argument that stands for an option.
fn argument(option: &str) -> &str {
    match option {
        "mqtt.broker" => "--broker",
        "mqtt.username" => "--username",
        "mqtt.password" => "the password",
        "mqtt.tls.ca" => "--ca",
        "mqtt.tls.cert" => "--cert",
        "mqtt.tls.key" => "--key-file",
        other => other,
    }
}
