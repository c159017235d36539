//! `control watch`: what nodes say, as it comes.

use std::time::Duration;

use clap::Args;
use serde_json::Value;
use tokio::time::Instant;

use super::broker::Broker;
use super::line::{Heard, Line, Next};
use super::report::{Report, clean};
use super::{Trouble, name, wait_for};
use crate::cli::{Exit, Terminal};

/// Who waits for ever waits so long.
const FOR_EVER: Duration = Duration::from_secs(10 * 365 * 86_400);

#[derive(Debug, Args)]
pub(in crate::cli) struct Watch {
    #[command(flatten)]
    broker: Broker,
    #[command(flatten)]
    whom: Whom,
    /// How long, in seconds; until it is interrupted when left out
    #[arg(long = "for", value_name = "S")]
    seconds: Option<u32>,
    /// A JSON object a line: node, topic, payload, retained
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Whom {
    /// One node
    #[arg(long, value_name = "NAME", value_parser = name)]
    node: Option<String>,
    /// All nodes
    #[arg(long)]
    all: bool,
}

pub(super) fn watch(wish: &Watch, terminal: &mut Terminal<'_>) -> Result<Exit, Trouble> {
    let settings = wish.broker.settings()?;
    let topics = wish.broker.topics(wish.whom.node.as_deref().unwrap_or("+"));
    let topics = [topics.state(), topics.reported(), topics.own("event")];
    wait_for(async {
        let time = wish
            .seconds
            .map(|seconds| Duration::from_secs(seconds.into()));
        let until = Instant::now() + time.unwrap_or(FOR_EVER);
        let mut line = Line::open(settings, &topics).await?;
        let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
        loop {
            let next = tokio::select! {
                next = line.next(until) => next,
                _ = &mut interrupted => break,
            };
            match next {
                // Nobody reads on: `watch --all | grep -m 1 offline` has what it wants.
                Next::Message(heard) if show(&heard, wish, terminal).is_err() => break,
                Next::Message(_) => {}
                Next::Again => terminal.complain("the line to the broker broke, and stands again"),
                Next::Late => break,
            }
        }
        line.close().await;
        Ok(Exit::Success)
    })
}

fn show(heard: &Heard, wish: &Watch, terminal: &mut Terminal<'_>) -> std::io::Result<()> {
    let Some((node, rest)) = wish.broker.split(&heard.topic) else {
        return Ok(());
    };
    let payload: Value = serde_json::from_slice(&heard.payload)
        .unwrap_or_else(|_| String::from_utf8_lossy(&heard.payload).into());
    if wish.json {
        let line = serde_json::json!({
            "node": node,
            "topic": rest,
            "retained": heard.is_retained,
            "payload": payload,
        });
        return writeln!(terminal.out, "{line}");
    }
    let words = match rest {
        "state" => state(&payload),
        "config/reported" => Report::read(&heard.payload)
            .map(|report| reported(&report))
            .unwrap_or_default(),
        _ => payload.to_string(),
    };
    let line = clean(&format!("{node} {rest}: {words}"));
    writeln!(terminal.out, "{line}")?;
    if let Some(report) = Report::read(&heard.payload).filter(|_| rest == "config/reported") {
        for which in ["errors", "warnings"] {
            for finding in report.findings(which, "desired.toml", "") {
                writeln!(terminal.out, "{finding}")?;
            }
        }
    }
    Ok(())
}

fn state(payload: &Value) -> String {
    let text = |name: &str| payload.get(name).and_then(Value::as_str).unwrap_or("?");
    let why = payload.get("why").and_then(Value::as_array);
    let why: Vec<&str> = why
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let why = match why.is_empty() {
        true => String::new(),
        false => format!(": {}", why.join("; ")),
    };
    format!(
        "{}{why} [{} {}, {}]",
        text("state"),
        text("version"),
        text("arch"),
        text("ts")
    )
}

fn reported(report: &Report) -> String {
    let rev = |which: &str| match report.document(which) {
        (Some(rev), _) => format!("revision {rev}"),
        (None, Some(_)) => "the local file".to_owned(),
        (None, None) => "nothing".to_owned(),
    };
    let code = report.code().map(|code| format!(" {code}"));
    let phase = report.phase().map(|phase| format!(" ({phase})"));
    format!(
        "{}{}{}; desired {}, in force {}",
        report.status(),
        phase.unwrap_or_default(),
        code.unwrap_or_default(),
        rev("desired"),
        rev("active")
    )
}
