//! A node that is killed on the way of its documents.

#![allow(dead_code, reason = "each test program uses its part")]

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use serde_json::{Value, json};

use crate::fleet::{Fleet, Flow};
use crate::mosquitto::DEADLINE;
use crate::random::Random;

/// More steps than a document has.
pub(crate) const STEPS_MAX: usize = 60;
/// How many kills are at any moment besides.
pub(crate) const ANYWHERE: u64 = 4;
/// Within which those happen.
pub(crate) const SOON: Duration = Duration::from_millis(120);

/// Sees what is written into the folder of control.
pub(crate) struct Steps(Inotify);

impl Steps {
    pub(crate) fn of(fleet: &Fleet) -> Steps {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK).unwrap();
        for folder in ["store/control", "store/control/docs"] {
            let flags = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CLOSE_WRITE;
            inotify.add_watch(&fleet.site.path(folder), flags).unwrap();
        }
        Steps(inotify)
    }

    /// Waits until `count` steps were made; false when `is_over` is so before.
    pub(crate) fn wait(&self, count: usize, mut is_over: impl FnMut() -> bool) -> bool {
        let end = Instant::now() + DEADLINE;
        let mut seen = 0;
        loop {
            // Asked first, so that what happened before the end is counted.
            let over = is_over();
            while let Ok(events) = self.0.read_events() {
                seen += events.len();
            }
            if seen >= count || over {
                return seen >= count;
            }
            assert!(Instant::now() < end, "neither {count} steps nor the end");
            let mut waits = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            poll(&mut waits, PollTimeout::from(20u8)).unwrap();
        }
    }
}

/// A node, and which configuration it has.
pub(crate) struct Ordeal {
    pub(crate) fleet: Fleet,
    flow: Flow,
    /// The document in force by revision and hash, and what it makes.
    active: (Value, Value, u64),
    rev: u64,
    pub(crate) ends: BTreeMap<String, u32>,
}

impl Ordeal {
    pub(crate) fn new() -> Ordeal {
        Ordeal::with("mode = \"signed\"\n")
    }

    /// One with these lines in `[control]`.
    pub(crate) fn with(control: &str) -> Ordeal {
        let mut fleet = Fleet::with(control);
        fleet.start();
        let flow = fleet.flow();
        let first = fleet.signed(1, &fleet.document(1));
        assert_eq!(fleet.apply(&first)["status"], "in_sync");
        Ordeal {
            fleet,
            flow,
            active: (json!(1), first["sha256"].clone(), 1),
            rev: 1,
            ends: BTreeMap::new(),
        }
    }

    /// Pushes the next document, kills the node as soon as it has said `count` times how far it
    /// is, and looks at what comes of that; false when it does not say so much.
    pub(crate) fn kill_said(
        &mut self,
        count: usize,
        content: &dyn Fn(&Fleet, u64) -> String,
    ) -> bool {
        self.rev += 1;
        let document = self.fleet.signed(self.rev, &content(&self.fleet, self.rev));
        let from = self.fleet.observer.now();
        self.fleet.push(&document);
        let (mut said, mut is_over) = (0, false);
        self.fleet.reported("what comes of it", from, |report| {
            let status = report["status"].as_str().unwrap();
            said += 1;
            is_over = ["in_sync", "rejected", "rolled_back"].contains(&status);
            is_over || said == count
        });
        self.fleet.site.kill();
        self.look(&document);
        said == count && !is_over
    }

    /// Pushes the next document, kills the node at its step `step`, and looks at what comes of
    /// that; false when there is no such step.
    pub(crate) fn kill_at(&mut self, step: usize, content: &dyn Fn(&Fleet, u64) -> String) -> bool {
        self.rev += 1;
        let document = self.fleet.signed(self.rev, &content(&self.fleet, self.rev));
        let steps = Steps::of(&self.fleet);
        let from = self.fleet.observer.now();
        self.fleet.push(&document);
        let rev = self.rev;
        let is_end = |said: &Value| {
            let ends = ["in_sync", "rejected", "rolled_back"];
            ends.iter().any(|end| said["status"] == *end) && said["desired"]["rev"] == rev
        };
        let is_there = steps.wait(step, || {
            let published = self.fleet.observer.since(from);
            published.iter().any(|one| is_end(&one.json()))
        });
        self.fleet.site.kill();
        self.look(&document);
        is_there
    }

    /// Pushes the next document and kills the node at some moment soon after.
    pub(crate) fn kill_somewhere(
        &mut self,
        random: &mut Random,
        content: &dyn Fn(&Fleet, u64) -> String,
    ) {
        self.rev += 1;
        let document = self.fleet.signed(self.rev, &content(&self.fleet, self.rev));
        self.fleet.push(&document);
        random.spin(SOON);
        self.fleet.site.kill();
        // In the middle of what it does about it at its start, too.
        self.fleet.site.spawn();
        random.spin(SOON);
        self.fleet.site.kill();
        self.look(&document);
    }

    /// Starts the node and sees which of the two configurations it has.
    pub(crate) fn look(&mut self, document: &Value) {
        let from = self.fleet.observer.now();
        self.fleet.start();
        let reported = self.fleet.end_of(from, &document["rev"]);
        let (status, code) = (&reported["status"], &reported["code"]);
        *self.ends.entry(format!("{status} {code}")).or_default() += 1;
        match status.as_str().unwrap() {
            "in_sync" => {
                let (rev, sha) = (&document["rev"], &document["sha256"]);
                self.active = (rev.clone(), sha.clone(), self.rev);
            }
            "rolled_back" => {
                let codes = ["E_BOOT_GUARD", "E_HEALTH", "E_UNCONFIRMED"];
                let is_right = codes.iter().any(|one| code == *one);
                assert!(is_right, "{reported:#}");
            }
            "rejected" => assert_eq!(code, "E_CONFIG", "{reported:#}"),
            _ => panic!("{reported:#}"),
        }
        let (rev, sha, made_by) = &self.active;
        assert_eq!(reported["active"]["rev"], *rev, "{reported:#}");
        assert_eq!(reported["active"]["sha256"], *sha, "{reported:#}");
        assert_eq!(self.flow.made_by(), *made_by, "{reported:#}");
        let state = self.fleet.kept("state");
        assert_eq!(state["config"]["sha256"], *sha, "{state}");
        assert_eq!(state["config"]["rev"], *rev, "{state}");
    }

    /// Kills at every step and some times anywhere.
    pub(crate) fn kill_everywhere(
        &mut self,
        seed: u64,
        content: &dyn Fn(&Fleet, u64) -> String,
    ) -> usize {
        let begin = Instant::now();
        let steps = (1..STEPS_MAX)
            .take_while(|step| self.kill_at(*step, content))
            .count();
        let words = (1..STEPS_MAX)
            .take_while(|count| self.kill_said(*count, content))
            .count();
        assert!(words >= 1, "it never says how far it is");
        let mut random = Random::new(seed);
        for _ in 0..ANYWHERE {
            self.kill_somewhere(&mut random, content);
        }
        println!(
            "{steps} steps, {words} words, {:.1?}: {:?}",
            begin.elapsed(),
            self.ends
        );
        steps
    }

    /// How often documents have ended in one of these ways.
    pub(crate) fn ended(&self, how: &str) -> u32 {
        self.ends.get(how).copied().unwrap_or_default()
    }

    pub(crate) fn finish(mut self) {
        self.flow.finish();
        self.fleet.site.stop();
    }
}
