//! `control push`: a document to a node or a group, and what becomes of it.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::broker::Broker;
use super::document::{self, Terms};
use super::finish::{Published, Verdict};
use super::line::{Heard, Line, Next};
use super::report::{Report, clean};
use super::request::Ask;
use super::{Addressee, Trouble, signing_key, wait_for};
use crate::cli::{Exit, Terminal};
use crate::control::Scope;
use crate::control::envelope::{Confirm, Draft, Mode};
use crate::control::keys::SigningKey;

/// When so long nothing has come that the broker keeps, there is no more of it.
const KEPT_WITHIN: Duration = Duration::from_millis(500);
/// How long a node may take besides its probation.
const TAKES_S: u64 = 60;
const CONFIRM: &str = "config.confirm";
const CONFIRM_TTL_S: u32 = 30;

#[derive(Debug, Args)]
pub(in crate::cli) struct Push {
    /// The document (TOML); - for the standard input
    #[arg(value_name = "DOC", required_unless_present = "withdraw")]
    document: Option<PathBuf>,
    #[command(flatten)]
    broker: Broker,
    #[command(flatten)]
    to: Addressee,
    /// The private key to sign with
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Its revision; auto: one more than the highest that is to be seen
    #[arg(long, value_name = "N|auto", value_parser = revision, default_value = "auto")]
    rev: Revision,
    /// Apply it only in place of the configuration with this SHA-256, or of the one that is in
    /// force now (current)
    #[arg(long, value_name = "SHA256|current|none", value_parser = base, default_value = "none")]
    base: Base,
    #[command(flatten)]
    terms: Terms,
    /// Confirm it as soon as it is on probation, without being asked
    #[arg(long)]
    yes: bool,
    /// How long to follow it, in seconds; a minute more than its probation when left out
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=604_800))]
    timeout: Option<u64>,
    /// Of a group: how many nodes are waited for; without it, until the time is up
    #[arg(long, value_name = "N", requires = "group")]
    expect: Option<usize>,
    /// Publish it, and do not wait for what becomes of it
    #[arg(long)]
    detach: bool,
    /// Take back what is published for this node or group; what runs goes on running
    #[arg(long, conflicts_with_all = ["document", "yes", "detach", "expect", "key"])]
    withdraw: bool,
    /// Print each report as it came, a line each
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug)]
enum Revision {
    Auto,
    Number(u64),
}

#[derive(Clone, Debug)]
enum Base {
    None,
    Current,
    Sha256(String),
}

fn revision(text: &str) -> Result<Revision, String> {
    match (text, text.parse()) {
        ("auto", _) => Ok(Revision::Auto),
        (_, Ok(number @ 1..)) => Ok(Revision::Number(number)),
        _ => Err("a revision is `auto` or a number from 1 on".to_owned()),
    }
}

fn base(text: &str) -> Result<Base, String> {
    match text {
        "none" => Ok(Base::None),
        "current" => Ok(Base::Current),
        text => document::sha256(text).map(Base::Sha256),
    }
}

pub(super) fn push(wish: &Push, terminal: &mut Terminal<'_>) -> Result<Exit, Trouble> {
    let settings = wish.broker.settings()?;
    let desired = wish.broker.desired(&wish.to.scope());
    let Some(path) = &wish.document else {
        return wait_for(async {
            let mut line = Line::open(settings, &[]).await?;
            line.publish(&desired, b"", true).await?;
            line.close().await;
            terminal.complain(format_args!("{}: withdrawn", wish.to.scope()));
            Ok(Exit::Success)
        });
    };
    let content = document::read(path)?;
    let key = signing_key(wish.key.as_ref())?;
    wait_for(async {
        let topics = match wish.to.scope() {
            Scope::Node(node) => {
                let topics = wish.broker.topics(&node);
                vec![topics.reported(), topics.response(CONFIRM)]
            }
            Scope::Group(_) => vec![wish.broker.topics("+").reported()],
        };
        let line = Line::open(settings, &topics).await?;
        let push = Pushing {
            wish,
            name: path.display().to_string(),
            key,
            line,
            before: Before::default(),
            shown: BTreeMap::new(),
            ended: BTreeMap::new(),
            confirmed: BTreeMap::new(),
            answers: None,
        };
        push.run(content, terminal).await
    })
}

/// What was to be seen before the document was published.
#[derive(Debug, Default)]
struct Before {
    rev: u64,
    active: Option<String>,
    /// What the nodes have reported, each with its topic.
    reports: Vec<Heard>,
}

/// What a node said last: its status and phase.
type Shown = (String, Option<String>);

struct Pushing<'a> {
    wish: &'a Push,
    /// What the document is called here.
    name: String,
    key: Option<SigningKey>,
    line: Line,
    before: Before,
    shown: BTreeMap<String, Shown>,
    ended: BTreeMap<String, Exit>,
    /// The request with which a node was asked to keep it.
    confirmed: BTreeMap<String, String>,
    /// What somebody says at the terminal; present while a node awaits it.
    answers: Option<oneshot::Receiver<bool>>,
}

impl Pushing<'_> {
    async fn run(mut self, content: String, terminal: &mut Terminal<'_>) -> Result<Exit, Trouble> {
        self.look().await;
        let rev = self.revision()?;
        let base = self.base()?;
        let scope = self.wish.to.scope();
        let draft = self.wish.terms.draft(scope.clone(), rev, base, content);
        let published = Published {
            rev,
            sha256: draft.sha256(),
            group: self.wish.to.group.clone(),
            known_rev: self.before.rev,
        };
        let signed = match &self.key {
            Some(key) => format!("signed by {}", key.kid()),
            None => "not signed".to_owned(),
        };
        terminal.complain(format_args!(
            "{scope}: publishing revision {rev}, {} bytes, {signed}, sha256 {}",
            draft.content.len(),
            published.sha256
        ));
        let payload = draft.to_json(self.key.as_ref());
        let topic = self.wish.broker.desired(&scope);
        self.line.publish(&topic, payload.as_bytes(), true).await?;
        if self.wish.detach {
            self.line.close().await;
            return Ok(Exit::Success);
        }
        // A node that has it already says nothing new.
        for heard in std::mem::take(&mut self.before.reports) {
            let report = Report::read(&heard.payload);
            if report.is_some_and(|report| published.is_settled(&report, &scope)) {
                self.heard(&heard, &draft, &published, terminal).await?;
            }
        }
        let until = Instant::now() + self.patience(&draft);
        while !self.is_done() {
            match self.next(until).await {
                Step::Heard(heard) => self.heard(&heard, &draft, &published, terminal).await?,
                Step::Again => terminal.complain("the line to the broker broke, and stands again"),
                Step::Answer(yes) => self.answered(yes, rev, terminal).await?,
                Step::Late => break,
            }
        }
        self.line.close().await;
        Ok(end(&self.ended, self.wish, terminal))
    }

    /// Reads what the broker keeps.
    async fn look(&mut self) {
        let scope = self.wish.to.scope();
        while let Next::Message(heard) = self.line.next(Instant::now() + KEPT_WITHIN).await {
            let Some(report) = Report::read(&heard.payload) else {
                continue;
            };
            if !heard.topic.ends_with("/config/reported") {
                continue;
            }
            let rev = report.revision_used(&scope);
            self.before.rev = self.before.rev.max(rev);
            if let Some(sha256) = report.document("active").1 {
                self.before.active = Some(sha256.to_owned());
            }
            self.before.reports.push(heard);
        }
    }

    fn revision(&self) -> Result<u64, Trouble> {
        match self.wish.rev {
            Revision::Number(rev) => Ok(rev),
            Revision::Auto => self.before.rev.checked_add(1).ok_or_else(|| {
                let message = "there is no higher revision than what is published already";
                Trouble::new(Exit::Refused, message)
            }),
        }
    }

    fn base(&self) -> Result<Option<String>, Trouble> {
        match (&self.wish.base, &self.wish.to.group) {
            (Base::None, _) => Ok(None),
            (Base::Sha256(sha256), _) => Ok(Some(sha256.clone())),
            (Base::Current, Some(_)) => {
                let message = "--base current: the nodes of a group may run different ones";
                Err(Trouble::new(Exit::Usage, message))
            }
            (Base::Current, None) => {
                let active = self.before.active.clone();
                let message = "--base current: the node has not reported what is in force";
                active
                    .map(Some)
                    .ok_or_else(|| Trouble::new(Exit::NoAnswer, message))
            }
        }
    }

    fn patience(&self, draft: &Draft) -> Duration {
        let probation = match draft.mode {
            Mode::Validate => 0,
            Mode::Apply => u64::from(draft.confirm_s),
        };
        Duration::from_secs(self.wish.timeout.unwrap_or(probation + TAKES_S))
    }

    fn is_done(&self) -> bool {
        match (&self.wish.to.group, self.wish.expect) {
            (None, _) => !self.ended.is_empty(),
            (Some(_), Some(expected)) => self.ended.len() >= expected,
            (Some(_), None) => false,
        }
    }

    async fn next(&mut self, until: Instant) -> Step {
        let next = self.line.next(until);
        let Some(answers) = &mut self.answers else {
            return next.await.into();
        };
        tokio::select! {
            next = next => next.into(),
            answer = answers => {
                self.answers = None;
                Step::Answer(answer.unwrap_or(false))
            }
        }
    }

    async fn heard(
        &mut self,
        heard: &Heard,
        draft: &Draft,
        published: &Published,
        terminal: &mut Terminal<'_>,
    ) -> Result<(), Trouble> {
        let Some((node, rest)) = self.wish.broker.split(&heard.topic) else {
            return Ok(());
        };
        let node = node.to_owned();
        if rest == "response/config.confirm" {
            self.response(&node, &heard.payload, terminal);
            return Ok(());
        }
        let Some(report) = Report::read(&heard.payload).filter(|_| rest == "config/reported")
        else {
            return Ok(());
        };
        let verdict = published.judge(&report, heard.is_retained);
        if verdict == Verdict::Other || self.ended.contains_key(&node) {
            return Ok(());
        }
        if self.wish.json {
            terminal.say(String::from_utf8_lossy(&heard.payload));
        }
        if verdict == Verdict::Going {
            self.progress(&node, &report, draft, terminal);
            return self.confirm(&node, &report, draft, terminal).await;
        }
        if let Verdict::Ended(exit, message) = verdict {
            for which in ["errors", "warnings"] {
                for finding in report.findings(which, &self.name, &draft.content) {
                    terminal.complain(finding);
                }
            }
            let changed = report.changed().map(|changed| format!(" ({changed})"));
            let changed = changed.unwrap_or_default();
            let (status, message) = (clean(report.status()), clean(&message));
            let words = format!("{node}: {status}: {message}{changed}");
            if self.wish.json || exit != Exit::Success {
                terminal.complain(words);
            } else {
                terminal.say(words);
            }
            self.ended.insert(node, exit);
        }
        Ok(())
    }

    fn progress(&mut self, node: &str, report: &Report, draft: &Draft, to: &mut Terminal<'_>) {
        let (status, phase) = (report.status(), report.phase());
        let shown = (status.to_owned(), phase.map(str::to_owned));
        if self.shown.get(node) == Some(&shown) {
            return;
        }
        let phase = phase.filter(|phase| *phase != status);
        let phase = phase.map(|phase| format!(" ({phase})"));
        let left = match status {
            "probation" => format!(", {} s", draft.confirm_s),
            _ => String::new(),
        };
        let line = format!("{node}: {status}{}{left}", phase.unwrap_or_default());
        to.complain(clean(&line));
        self.shown.insert(node.to_owned(), shown);
    }

    /// Confirms what is on probation, or asks whether to.
    async fn confirm(
        &mut self,
        node: &str,
        report: &Report,
        draft: &Draft,
        terminal: &mut Terminal<'_>,
    ) -> Result<(), Trouble> {
        let is_asked = self.confirmed.contains_key(node);
        if report.status() != "probation" || is_asked {
            return Ok(());
        }
        if self.wish.yes {
            return self.send_confirm(node, draft.rev, terminal).await;
        }
        if draft.confirm != Confirm::Operator && !report.awaits_operator() {
            return Ok(());
        }
        self.confirmed.insert(node.to_owned(), String::new());
        let is_alone = self.wish.to.group.is_none();
        if !is_alone || !std::io::stdin().is_terminal() {
            terminal.complain(format_args!(
                "{node}: to keep it, somebody must send: eventflux control request config.confirm \
                 '{{\"rev\":{}}}' --node {node}",
                draft.rev
            ));
            return Ok(());
        }
        terminal.complain(format_args!("{node}: keep it? Type yes and Enter: "));
        let (to, answers) = oneshot::channel();
        // It ends with the program: a terminal cannot be waited for in any other way.
        let asked = std::thread::Builder::new().spawn(move || {
            let mut answer = String::new();
            let read = std::io::stdin().read_line(&mut answer);
            let _ = to.send(read.is_ok() && matches!(answer.trim(), "y" | "yes"));
        });
        if asked.is_ok() {
            self.answers = Some(answers);
        }
        Ok(())
    }

    async fn answered(
        &mut self,
        yes: bool,
        rev: u64,
        terminal: &mut Terminal<'_>,
    ) -> Result<(), Trouble> {
        let Some(node) = self.wish.to.node.clone() else {
            return Ok(());
        };
        if !yes {
            terminal.complain("not confirmed: it will be taken back");
            return Ok(());
        }
        self.send_confirm(&node, rev, terminal).await
    }

    async fn send_confirm(
        &mut self,
        node: &str,
        rev: u64,
        terminal: &mut Terminal<'_>,
    ) -> Result<(), Trouble> {
        let ask = Ask::new(
            node,
            CONFIRM,
            Some(serde_json::json!({ "rev": rev })),
            CONFIRM_TTL_S,
        )?;
        let topic = self.wish.broker.topics(node).own("request/config.confirm");
        let payload = ask.payload(self.key.as_ref());
        terminal.complain(format_args!("{node}: confirming"));
        self.confirmed.insert(node.to_owned(), ask.id);
        self.line.publish(&topic, payload.as_bytes(), false).await
    }

    fn response(&self, node: &str, payload: &[u8], terminal: &mut Terminal<'_>) {
        let Some(asked) = self.confirmed.get(node) else {
            return;
        };
        if let Some(Err(why)) = super::request::answer(payload, asked) {
            terminal.complain(format_args!("{node}: not confirmed: {why}"));
        }
    }
}

enum Step {
    Heard(Heard),
    Again,
    Answer(bool),
    Late,
}

impl From<Next> for Step {
    fn from(next: Next) -> Step {
        match next {
            Next::Message(heard) => Step::Heard(heard),
            Next::Again => Step::Again,
            Next::Late => Step::Late,
        }
    }
}

/// The worst of all ends.
fn end(ended: &BTreeMap<String, Exit>, wish: &Push, terminal: &mut Terminal<'_>) -> Exit {
    let has = |exit: Exit| ended.values().any(|other| *other == exit);
    let expected = wish.expect.unwrap_or(1);
    if ended.len() < expected {
        terminal.complain(format_args!(
            "no end in time: {} of {expected} nodes have come to one; the document stays \
             published, `control watch` shows what becomes of it",
            ended.len()
        ));
    }
    match () {
        () if has(Exit::RolledBack) => Exit::RolledBack,
        () if has(Exit::Refused) => Exit::Refused,
        () if ended.len() < expected => Exit::NoAnswer,
        () => Exit::Success,
    }
}
