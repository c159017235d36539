//! What Home Assistant has been told of the node, and what it is to forget.
//!
//! A broker keeps these messages also when the node is away, so what stands there is remembered
//! over restarts: what a run announces no more is taken away by it, whoever announced it.
//!
//! ```text
//! <store>/control/announced.json   the topics that may hold a message of ours: ["…", …]
//! ```
//!
//! A topic stands in the file before anything is published there, and until the broker has
//! confirmed that it is empty.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::discovery;
use super::link::Endpoint;
use super::mailbox::Mailbox;
use super::steward::Steward;
use crate::daemon::View;

/// No such file is larger.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// What was told.
#[derive(Clone, Debug, Default)]
pub(super) struct Announced {
    /// What ran when it was last told, and to whom the link spoke.
    shown: (Option<Arc<View>>, Option<Arc<Endpoint>>),
    /// The messages, by topic.
    messages: BTreeMap<String, Value>,
    /// The topics that are remembered; none before they have been read.
    memory: Option<Memory>,
    /// Topics that are to hold nothing any more, and the versions of that in the mailbox.
    leaving: BTreeMap<String, u64>,
}

/// The file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Memory {
    path: PathBuf,
    topics: BTreeSet<String>,
}

impl Steward {
    /// Has Home Assistant know what runs.
    pub(super) fn tell_discovery(&mut self) {
        let announced = &mut self.telling.announced;
        announced.forget_gone(&self.wires.mailbox);
        let view = self.wires.window.view();
        let endpoint = self.wires.endpoints.borrow().clone();
        let (shown, spoken) = &announced.shown;
        if is_same(shown, &view) && is_same(spoken, &endpoint) {
            return;
        }
        announced.shown = (view.clone(), endpoint.clone());
        let (Some(view), Some(endpoint)) = (view, endpoint) else {
            return;
        };
        let (control, node) = (&self.settings.control, self.topics.node());
        let now = discovery::messages(control, node, &endpoint.settings.brokers, &view);
        let store = &self.settings.store.path;
        announced.tell(now.into_iter().collect(), store, &self.wires.mailbox);
    }
}

impl Announced {
    /// Publishes what is new, and empties what is no more.
    fn tell(&mut self, now: BTreeMap<String, Value>, store: &Path, mailbox: &Mailbox) {
        let memory = self.memory.get_or_insert_with(|| Memory::read(store));
        memory.change(|topics| topics.extend(now.keys().cloned()));
        for (topic, payload) in &now {
            if self.messages.get(topic) != Some(payload) || self.leaving.contains_key(topic) {
                mailbox.keep(topic, payload.to_string().into_bytes());
            }
            self.leaving.remove(topic);
        }
        let gone = memory
            .topics
            .iter()
            .filter(|topic| !now.contains_key(*topic));
        self.leaving = gone
            .map(|topic| (topic.clone(), mailbox.keep(topic, Vec::new())))
            .collect();
        self.messages = now;
    }

    /// Forgets what the broker has forgotten.
    fn forget_gone(&mut self, mailbox: &Mailbox) {
        let leaving = self.leaving.iter();
        let gone = leaving.filter(|(topic, version)| mailbox.is_known(topic, **version));
        let gone: BTreeSet<String> = gone.map(|(topic, _)| topic.clone()).collect();
        let Some(memory) = self.memory.as_mut().filter(|_| !gone.is_empty()) else {
            return;
        };
        memory.change(|topics| topics.retain(|topic| !gone.contains(topic)));
        for topic in &gone {
            self.leaving.remove(topic);
            mailbox.forget(topic);
        }
    }
}

impl Memory {
    /// What earlier runs have announced. One that cannot be read is none: then what they have
    /// announced stays until it is announced anew.
    fn read(store: &Path) -> Memory {
        let path = store.join("control").join("announced.json");
        let topics = read(&path).unwrap_or_else(|error| {
            let shown = path.display();
            tracing::warn!("`{shown}` is not what was written there, and ignored: {error}");
            BTreeSet::new()
        });
        Memory { path, topics }
    }

    fn change(&mut self, change: impl FnOnce(&mut BTreeSet<String>)) {
        let before = self.topics.clone();
        change(&mut self.topics);
        if self.topics == before {
            return;
        }
        if let Err(error) = write(&self.path, &self.topics) {
            let shown = self.path.display();
            tracing::warn!("what Home Assistant knows is not remembered in `{shown}`: {error}");
        }
    }
}

fn read(path: &Path) -> std::io::Result<BTreeSet<String>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(error) => return Err(error),
    };
    let mut text = String::new();
    file.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(serde_json::from_str(&text)?)
}

fn write(path: &Path, topics: &BTreeSet<String>) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut make = std::fs::DirBuilder::new();
    make.recursive(true).mode(0o750).create(folder)?;
    let new = path.with_extension("new");
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(0o640);
    let mut file = options.open(&new)?;
    file.write_all(&serde_json::to_vec(topics)?)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    File::open(folder)?.sync_all()
}

fn is_same<T>(before: &Option<Arc<T>>, now: &Option<Arc<T>>) -> bool {
    match (before, now) {
        (None, None) => true,
        (Some(before), Some(now)) => Arc::ptr_eq(before, now),
        (_, _) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::control::mailbox::Post;

    /// What waits to be published, by topic: whether it has a payload. Confirmed when `is_taken`.
    fn published(mailbox: &Mailbox, is_taken: bool) -> BTreeMap<String, bool> {
        let mut all = BTreeMap::new();
        while let Some(post) = mailbox.next() {
            if is_taken {
                mailbox.settled(&post);
            }
            if let Post::Kept { topic, payload, .. } = post {
                all.insert(topic, !payload.is_empty());
            }
        }
        all
    }

    fn topics(all: &[(&str, bool)]) -> BTreeMap<String, bool> {
        let all = all.iter();
        all.map(|(topic, has)| ((*topic).to_owned(), *has))
            .collect()
    }

    fn messages(all: &[&str]) -> BTreeMap<String, Value> {
        let all = all.iter();
        all.map(|topic| ((*topic).to_owned(), json!({ "name": topic })))
            .collect()
    }

    #[test]
    fn what_was_announced_is_taken_away_also_by_a_later_run() {
        let store = tempfile::tempdir().unwrap();
        let run = || {
            let mailbox = Mailbox::default();
            mailbox.connected(1);
            (Announced::default(), mailbox)
        };
        let (mut first, mailbox) = run();
        first.tell(messages(&["a", "b"]), store.path(), &mailbox);
        assert_eq!(
            published(&mailbox, true),
            topics(&[("a", true), ("b", true)])
        );
        first.tell(messages(&["a", "b"]), store.path(), &mailbox);
        assert_eq!(published(&mailbox, true), topics(&[]), "nothing is new");
        // It ends before the broker has confirmed that `b` is gone.
        let (mut second, mailbox) = run();
        second.tell(messages(&["a", "c"]), store.path(), &mailbox);
        let wanted = topics(&[("a", true), ("b", false), ("c", true)]);
        assert_eq!(published(&mailbox, false), wanted);
        second.forget_gone(&mailbox);
        let (mut third, mailbox) = run();
        third.tell(messages(&["a", "c"]), store.path(), &mailbox);
        assert_eq!(published(&mailbox, true), wanted);
        third.forget_gone(&mailbox);
        let (mut fourth, mailbox) = run();
        fourth.tell(messages(&["a"]), store.path(), &mailbox);
        assert_eq!(
            published(&mailbox, true),
            topics(&[("a", true), ("c", false)])
        );
        // What comes back before it is forgotten is announced again.
        fourth.tell(messages(&["a", "c"]), store.path(), &mailbox);
        assert_eq!(published(&mailbox, true), topics(&[("c", true)]));
        fourth.forget_gone(&mailbox);
        fourth.tell(messages(&[]), store.path(), &mailbox);
        assert_eq!(
            published(&mailbox, true),
            topics(&[("a", false), ("c", false)])
        );
        fourth.forget_gone(&mailbox);
        let (mut fifth, mailbox) = run();
        fifth.tell(messages(&[]), store.path(), &mailbox);
        assert_eq!(published(&mailbox, true), topics(&[]));
    }

    #[test]
    fn a_file_that_is_damaged_is_none() {
        let store = tempfile::tempdir().unwrap();
        let folder = store.path().join("control");
        std::fs::create_dir(&folder).unwrap();
        for text in ["[\"a\"", "{}", "[1]", ""] {
            std::fs::write(folder.join("announced.json"), text).unwrap();
            let mut memory = Memory::read(store.path());
            assert_eq!(memory.topics, BTreeSet::new(), "{text}");
            memory.change(|topics| topics.extend(["b".to_owned()]));
            assert_eq!(Memory::read(store.path()), memory);
        }
    }
}
