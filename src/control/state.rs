//! What is told of the node again and again: how it is, what is counted, what runs.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::announced::Announced;
use super::local::document_of;
use super::mailbox::Once;
use super::metrics::{self, Facts};
use super::steward::{Steward, is_synchronised};
use super::told::{ConfigBrief, NodeState, StateBody};
use crate::clock;
use crate::daemon::{Prepared, Station};

/// How often figures in the state are brought up to date when nothing else in it changes.
const FIGURES_EVERY: Duration = Duration::from_secs(30);

/// What was told, and when.
#[derive(Clone, Debug)]
pub(super) struct Telling {
    began: Instant,
    state: Option<StateBody>,
    figures_at: Instant,
    metrics_at: Instant,
    /// What Home Assistant was told.
    pub(super) announced: Announced,
    /// The configuration that was published, by its hash.
    active: Option<String>,
    /// Whether any may have been, by this run or by one before.
    has_active: bool,
    /// The text that runs, without secrets.
    text: Option<Value>,
    /// How many sources, sinks and queries it has.
    parts: usize,
}

impl Telling {
    pub(super) fn new() -> Telling {
        let now = Instant::now();
        Telling {
            began: now,
            state: None,
            figures_at: now,
            metrics_at: now,
            announced: Announced::default(),
            active: None,
            has_active: true,
            text: None,
            parts: 0,
        }
    }

    /// Another configuration runs.
    pub(super) fn runs(&mut self, prepared: &Prepared) {
        let is_document = document_of(prepared).is_some();
        let paths = prepared.texts.keys();
        let shown = paths.filter_map(|path| Some((path.clone(), prepared.redacted(path)?)));
        let mut texts: BTreeMap<String, String> = shown.collect();
        let content = texts.remove(match is_document {
            true => super::local::DOCUMENT,
            false => prepared.settings.path.as_str(),
        });
        self.text = Some(json!({ "content": content, "files": texts }));
        let queries = prepared.application.queries.len();
        self.parts = prepared.sources.len() + prepared.sinks.len() + queries;
        self.active = None;
    }

    /// How many sources, sinks and queries run.
    pub(super) fn parts(&self) -> usize {
        self.parts
    }

    /// What runs, without secrets.
    pub(super) fn text(&self) -> Value {
        self.text.clone().unwrap_or(Value::Null)
    }
}

impl Steward {
    /// Tells what has changed since it was last told.
    pub(super) fn tell(&mut self) {
        self.tell_state();
        self.tell_metrics();
        self.tell_active();
        self.tell_discovery();
    }

    fn tell_state(&mut self) {
        let body = self.state_body();
        let now = Instant::now();
        let told = self.telling.state.as_ref();
        let is_news = told.is_none_or(|told| !told.is_like(&body));
        let is_due = self.telling.figures_at + FIGURES_EVERY <= now;
        if is_news || (is_due && told != Some(&body)) {
            self.telling.figures_at = now;
            self.telling.state = Some(body.clone());
            self.wires.mailbox.set_state(&self.topics.state(), body);
        }
    }

    /// How the node is.
    pub(super) fn state_body(&self) -> StateBody {
        let mut why = Vec::new();
        let view = self.wires.window.view();
        let mut state = NodeState::Starting;
        let mut figures = (metrics::Summary::default(), (0, 0));
        if view.is_none() && self.wires.window.is_up() {
            state = NodeState::Degraded;
            why.push("nothing runs: the configuration was refused, see the log".to_owned());
        }
        if let Some(view) = &view {
            if let Some(degraded) = view.counted.pipeline.health.degraded() {
                why.push(format!("{}: {}", degraded.trouble.word(), degraded.why));
            }
            let stations = view.sources.iter().chain(&view.sinks);
            let failed = stations.filter(|(_, station)| !Station::is_at_work(station));
            why.extend(failed.map(|(name, _)| format!("'{name}' has failed")));
            if self.is_local_faulty {
                why.push("the local files are faulty, and what ran before goes on".to_owned());
            }
            if self.back_at.is_some() {
                why.push("no configuration from before could be put in force again".to_owned());
            }
            state = match why.is_empty() {
                true => NodeState::Online,
                false => NodeState::Degraded,
            };
            figures = (metrics::outbox_summary(view), metrics::queries(view));
        }
        let (outbox, (running, failed)) = figures;
        let runs = self.runs();
        let rev = runs.as_ref().and_then(|active| active.rev());
        let sha256 = runs.map(|active| active.sha256).unwrap_or_default();
        StateBody {
            state,
            why,
            is_synchronised: is_synchronised(&self.wires.window),
            config: ConfigBrief {
                rev,
                sha256,
                status: self.reported.status,
            },
            outbox_bytes: outbox.bytes,
            outbox_oldest_s: outbox.oldest_s,
            queries_running: running,
            queries_failed: failed,
        }
    }

    fn tell_metrics(&mut self) {
        let Some(interval_ms) = self.settings.control.metrics_interval_ms else {
            return;
        };
        let now = Instant::now();
        if self.telling.metrics_at + Duration::from_millis(interval_ms) > now {
            return;
        }
        self.telling.metrics_at = now;
        let Some(view) = self.wires.window.view() else {
            return;
        };
        let facts = Facts::now(self.telling.began.elapsed(), &self.settings.store.path);
        let mut body = metrics::metrics(&view, &facts);
        if let Some(object) = body.as_object_mut() {
            object.insert("control".to_owned(), self.counts());
        }
        self.wires.mailbox.send(Once {
            topic: self.topics.own("metrics"),
            payload: body.to_string().into_bytes(),
            is_fleeting: true,
        });
    }

    /// What came in and what went out, as far as it was not looked at.
    pub(super) fn counts(&self) -> Value {
        let counts = self.wires.hearing.counts().into_iter();
        let dropped = ("messages_dropped", self.wires.mailbox.dropped());
        let counts: BTreeMap<&str, u64> = counts.chain([dropped]).collect();
        json!(counts)
    }

    fn tell_active(&mut self) {
        if !self.settings.control.publish_active {
            if std::mem::take(&mut self.telling.has_active) {
                self.wires.mailbox.clear(&self.topics.active());
            }
            return;
        }
        let Some(body) = &self.telling.state else {
            return;
        };
        let config = body.config.clone();
        if self.telling.active.as_ref() == Some(&config.sha256) {
            return;
        }
        let mut told = self.telling.text();
        if let Some(object) = told.as_object_mut() {
            object.insert("v".to_owned(), 1.into());
            object.insert("rev".to_owned(), json!(config.rev));
            object.insert("sha256".to_owned(), config.sha256.as_str().into());
            object.insert("ts".to_owned(), clock::wall().utc().into());
        }
        let payload = told.to_string().into_bytes();
        self.wires.mailbox.keep(&self.topics.active(), payload);
        self.telling.active = Some(config.sha256);
        self.telling.has_active = true;
    }
}
