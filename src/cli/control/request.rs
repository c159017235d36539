//! `control request`: one request, and its answer.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::Value;
use tokio::time::Instant;

use super::broker::Broker;
use super::line::{Line, Next};
use super::report::clean;
use super::{Trouble, name, signing_key, wait_for};
use crate::cli::{Exit, Terminal};
use crate::clock;
use crate::control::keys::SigningKey;
use crate::control::request::{Draft, new_id};

#[derive(Debug, Args)]
pub(in crate::cli) struct Request {
    /// What is asked for, such as ping, status or outbox.status
    #[arg(value_name = "VERB", value_parser = verb)]
    verb: String,
    /// The arguments, a JSON object
    #[arg(value_name = "JSON", value_parser = arguments)]
    args: Option<Value>,
    #[command(flatten)]
    broker: Broker,
    /// The node
    #[arg(long, value_name = "NAME", value_parser = name)]
    node: String,
    /// The private key to sign with: outbox.purge, restart and config.rollback may need it
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// How long to wait for the answer, in seconds; the node ignores what comes to it later
    #[arg(long, value_name = "S", default_value_t = 30,
        value_parser = clap::value_parser!(u32).range(1..=86_400))]
    timeout: u32,
    /// Print the answer as it came, errors too
    #[arg(long)]
    json: bool,
}

fn verb(text: &str) -> Result<String, String> {
    let is_known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if (1..=64).contains(&text.len()) && text.chars().all(is_known) {
        return Ok(text.to_owned());
    }
    Err("a verb is a word such as ping or outbox.status".to_owned())
}

fn arguments(text: &str) -> Result<Value, String> {
    match serde_json::from_str(text) {
        Ok(args @ Value::Object(_)) => Ok(args),
        Ok(_) => Err("arguments are a JSON object, such as {\"rev\":42}".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// A request on its way.
pub(super) struct Ask<'a> {
    pub(super) id: String,
    node: &'a str,
    verb: &'a str,
    args: Option<Value>,
    ttl_s: u32,
}

impl Ask<'_> {
    pub(super) fn new<'a>(
        node: &'a str,
        verb: &'a str,
        args: Option<Value>,
        ttl_s: u32,
    ) -> Result<Ask<'a>, Trouble> {
        Ok(Ask {
            id: new_id()?,
            node,
            verb,
            args,
            ttl_s,
        })
    }

    pub(super) fn payload(&self, key: Option<&SigningKey>) -> String {
        let draft = Draft {
            node: self.node,
            verb: self.verb,
            id: &self.id,
            args: self.args.clone(),
            ttl_s: Some(self.ttl_s),
            ts: u64::try_from(clock::wall().0).unwrap_or(0),
        };
        draft.to_json(key)
    }
}

/// What a response says, when it is one to this request: its data, or its error.
pub(super) fn answer(payload: &[u8], id: &str) -> Option<Result<Value, String>> {
    let response: Value = serde_json::from_slice(payload).ok()?;
    if response.get("id")?.as_str()? != id {
        return None;
    }
    if response.get("status").and_then(Value::as_str) == Some("ok") {
        return Some(Ok(response.get("data").cloned().unwrap_or(Value::Null)));
    }
    let part = |name: &str| {
        let part = response
            .get("error")
            .and_then(|error| error.get(name)?.as_str());
        part.map(clean).unwrap_or_default()
    };
    Some(Err(format!("{}: {}", part("code"), part("message"))))
}

pub(super) fn request(wish: &Request, terminal: &mut Terminal<'_>) -> Result<Exit, Trouble> {
    let settings = wish.broker.settings()?;
    let key = signing_key(wish.key.as_ref())?;
    let topics = wish.broker.topics(&wish.node);
    let ask = Ask::new(&wish.node, &wish.verb, wish.args.clone(), wish.timeout)?;
    let payload = ask.payload(key.as_ref());
    wait_for(async {
        let until = Instant::now() + Duration::from_secs(u64::from(wish.timeout));
        let mut line = Line::open(settings, &[topics.response(&wish.verb)]).await?;
        let topic = topics.own(&format!("request/{}", wish.verb));
        line.publish(&topic, payload.as_bytes(), false).await?;
        loop {
            match line.next(until).await {
                Next::Message(heard) => {
                    let Some(answer) = answer(&heard.payload, &ask.id) else {
                        continue;
                    };
                    line.close().await;
                    return Ok(tell(answer, &heard.payload, wish, terminal));
                }
                // The answer may have come while nobody listened; a repeated id is answered again.
                Next::Again => line.publish(&topic, payload.as_bytes(), false).await?,
                Next::Late => {
                    let message = format!("{}: no answer within {} s", wish.node, wish.timeout);
                    return Err(Trouble::new(Exit::NoAnswer, message));
                }
            }
        }
    })
}

fn tell(
    answer: Result<Value, String>,
    payload: &[u8],
    wish: &Request,
    terminal: &mut Terminal<'_>,
) -> Exit {
    if wish.json {
        terminal.say(String::from_utf8_lossy(payload));
    }
    match answer {
        Ok(_) if wish.json => Exit::Success,
        Ok(Value::Null) => Exit::Success,
        Ok(Value::String(text)) => {
            terminal.say(clean(&text));
            Exit::Success
        }
        Ok(data) => {
            // Control characters in it are escaped.
            terminal.say(serde_json::to_string_pretty(&data).unwrap_or_default());
            Exit::Success
        }
        Err(why) => {
            terminal.complain(format_args!("{}: {why}", wish.node));
            Exit::Refused
        }
    }
}
