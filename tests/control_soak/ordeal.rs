//! The node, what surrounds it, and whether all of it is as it says.

use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use crate::counts::Counts;
use crate::documents::{document, sql};
use crate::fleet::{Fleet, Flow, NODE, OPERATOR, R};
use crate::model::Model;
use crate::mosquitto::{DEADLINE, wait_until};
use crate::operator::Moment;
use crate::random::Random;
use crate::signing::envelope;
use crate::wait::hang;

/// Below the root and the version, as a document's scope.
pub(crate) const GROUP: &str = "_group/pumps";
const CONTROL: &str = "mode = \"signed\"\ngroups = [\"pumps\"]\nallow_remote = \"endpoint\"\n";
/// Of that many steps, one is followed by a look at everything.
const LOOKS: u64 = 4;
/// Numbers that come out before the first step: a duplicate of the first ones is not recognised.
const FIRST: u64 = 100;
/// When what is under way is over.
const ENDS: [&str; 6] = [
    "in_sync",
    "valid",
    "rejected",
    "rolled_back",
    "local_override",
    "expired",
];
/// Within which a signal is heard, and what it changes is said.
const SOON: Duration = Duration::from_secs(10);
/// Within which the last document is in force: probation, and what waits before it.
const AT_LAST: Duration = Duration::from_secs(40);

pub(crate) struct Ordeal {
    pub(crate) fleet: Fleet,
    pub(crate) flow: Flow,
    counts: Counts,
    pub(crate) random: Random,
    pub(crate) model: Model,
    seen: Moment,
    begin: Instant,
    /// The highest number of a document, for the node and for its group.
    pub(crate) rev: u64,
    pub(crate) group_rev: u64,
    /// The latest configuration.
    c: u64,
    /// Those that find nobody: what is taken back once is not tried again.
    pub(crate) useless: Vec<u64>,
    requests: u64,
    ts: u64,
    /// How often this run of the node is to have begun.
    begun: usize,
}

impl Ordeal {
    pub(crate) fn new(seed: u64) -> Ordeal {
        let mut fleet = Fleet::with(CONTROL);
        let mut random = Random::seeded(seed);
        let counts = Counts::new(fleet.data.port);
        let text = sql(&fleet.data.url(), 1, &mut random);
        std::fs::write(fleet.site.path("app.sql"), text).unwrap();
        fleet.start();
        let flow = fleet.flow();
        let model = Model::new(1);
        flow.traffic()
            .wait("numbers come out", |state| state.distinct > FIRST);
        Ordeal {
            seen: fleet.observer.beginning(),
            fleet,
            flow,
            counts,
            random,
            model,
            begin: Instant::now(),
            rev: 0,
            group_rev: 0,
            c: 1,
            useless: Vec::new(),
            requests: 0,
            ts: 0,
            begun: 1,
        }
    }

    pub(crate) fn say(&self, what: &str) {
        println!("{:8.3} {what}", self.begin.elapsed().as_secs_f64());
    }

    /// Something happens, and a while goes by.
    pub(crate) fn step(&mut self) {
        self.happen();
        let most = [30, 300, 1_500][self.random.index(3)];
        hang(Duration::from_millis(self.random.below(most)));
        self.see();
        if self.random.below(2) == 0 {
            self.confirm();
        }
        if self.random.below(LOOKS) == 0 {
            self.look();
        }
    }

    /// Confirms what waits for that.
    fn confirm(&mut self) {
        let reported = self.fleet.kept("config/reported");
        if reported["awaits"] == "operator" {
            let rev = &reported["desired"]["rev"];
            self.say(&format!("{rev} is confirmed"));
            self.ask("config.confirm", &json!({"rev": rev}));
        }
    }

    /// SQL of a new configuration, and its number.
    pub(crate) fn another(&mut self) -> (u64, String) {
        self.c += 1;
        let text = sql(&self.fleet.data.url(), self.c, &mut self.random);
        (self.c, text)
    }

    /// A configuration that is as it should be, as an envelope that is not signed yet.
    pub(crate) fn good(&mut self, rev: u64) -> (u64, Value) {
        let (c, text) = self.another();
        (c, envelope(rev, &document(&text)))
    }

    /// Signs a document that may come in force, and leaves it at the broker.
    pub(crate) fn push(&mut self, scope: &str, asked: Value, c: u64) -> Value {
        let signed = self.fleet.key.signed(scope, asked);
        self.model.may_run(scope, &signed, c);
        self.leave(scope, signed.to_string().as_bytes());
        signed
    }

    /// Leaves something for whom it is.
    pub(crate) fn leave(&self, scope: &str, payload: &[u8]) {
        let topic = format!("eventflux/v1/{scope}/config/desired");
        self.fleet.publish(OPERATOR, &topic, true, payload);
    }

    /// Asks for something and does not wait; its id.
    pub(crate) fn ask(&mut self, verb: &str, args: &Value) -> String {
        self.requests += 1;
        let id = format!("soak-{}", self.requests);
        let body = json!({"v": 1, "id": id, "args": args, "ttl_s": 30}).to_string();
        let topic = format!("{R}/request/{verb}");
        self.fleet.publish(OPERATOR, &topic, false, body.as_bytes());
        id
    }

    /// The same with a signature.
    pub(crate) fn ask_signed(&mut self, verb: &str) -> String {
        self.requests += 1;
        let id = format!("soak-{}", self.requests);
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis();
        self.ts = u64::try_from(now).unwrap().max(self.ts + 1);
        let body = self.fleet.key.request(NODE, verb, &id, self.ts, "{}");
        let topic = format!("{R}/request/{verb}");
        self.fleet.publish(OPERATOR, &topic, false, body.as_bytes());
        id
    }

    /// The answer to a request, if there is one soon.
    pub(crate) fn answer(&self, from: Moment, id: &str, within: Duration) -> Option<Value> {
        let of = format!("{R}/response/");
        let mut is_it = |message: &crate::operator::Message| {
            message.topic.starts_with(&of) && message.json()["id"] == id
        };
        let found = self.fleet.observer.find(from, within, &mut is_it);
        found.map(|message| message.json())
    }

    pub(crate) fn spawn(&mut self) {
        self.fleet.site.spawn();
        self.begun = 1;
        self.model.blind += 1;
    }

    /// It is going to begin anew in the same process.
    pub(crate) fn begins_anew(&mut self) {
        self.begun += 1;
        self.model.blind += 1;
    }

    /// Waits until it listens to signals, and runs.
    pub(crate) fn ready(&mut self) {
        self.fleet.site.wait_for("ready after");
        wait_until("it has begun anew", || {
            self.fleet.site.log().matches("ready after").count() >= self.begun
        });
    }

    /// Whether all that was said is consistent.
    fn see(&mut self) {
        let now = self.fleet.observer.now();
        for message in self.fleet.observer.since(self.seen) {
            self.model.see(&message);
        }
        // What has come meanwhile is seen again, which is as well.
        self.seen = now;
    }

    /// Waits until the node is at rest: what it says it runs is what makes the rows.
    pub(crate) fn look(&mut self) -> Value {
        self.reachable();
        let (soon, end) = (Instant::now() + SOON, Instant::now() + AT_LAST);
        loop {
            assert!(Instant::now() < end, "it does not come to rest");
            let before = self.fleet.kept("config/reported");
            if !is_end(&before) {
                hang(Duration::from_millis(50));
                continue;
            }
            let made_by = self.flow.made_by();
            let state = self.fleet.kept("state");
            let after = self.fleet.kept("config/reported");
            let config = ["rev", "sha256"].map(|field| &state["config"][field]);
            let is_same = made_by == self.model.made_by(&after)
                && config == ["rev", "sha256"].map(|field| &after["active"][field]);
            if before != after || (!is_same && Instant::now() < soon) {
                // It is about to change, or to say so.
                hang(Duration::from_millis(20));
                continue;
            }
            self.say(&format!(
                "at rest: {} {} {}, made by {made_by}",
                after["status"], after["code"], after["active"]["rev"]
            ));
            assert!(is_same, "{after:#}\n{state:#}");
            self.see();
            return after;
        }
    }

    /// Waits until the node answers: what it has said before is at the broker by then.
    fn reachable(&mut self) {
        let end = Instant::now() + DEADLINE;
        loop {
            assert!(Instant::now() < end, "the node does not answer");
            let from = self.fleet.observer.now();
            let id = self.ask("ping", &json!({}));
            if self.answer(from, &id, Duration::from_millis(300)).is_some() {
                return;
            }
        }
    }

    /// A last document: it is in force soon, and nothing is missing.
    pub(crate) fn finish(mut self) -> String {
        self.rev += 1;
        let (c, mut asked) = self.good(self.rev);
        asked["confirm_s"] = json!(2);
        self.say(&format!("the last document: {} makes {c}", self.rev));
        let begin = Instant::now();
        let pushed = self.push(NODE, asked, c);
        let is_looked_at = |said: &Value| said["desired"]["sha256"] == pushed["sha256"];
        while !is_looked_at(&self.fleet.kept("config/reported")) {
            assert!(begin.elapsed() < AT_LAST, "it is not looked at");
            hang(Duration::from_millis(20));
        }
        while !is_end(&self.fleet.kept("config/reported")) {
            assert!(begin.elapsed() < AT_LAST, "its probation does not end");
            // One that follows another connection goes back to that of the local file.
            self.confirm();
            hang(Duration::from_millis(100));
        }
        let end = self.look();
        let took = begin.elapsed();
        assert_eq!(end["status"], "in_sync", "{end:#}");
        assert_eq!(end["active"]["sha256"], pushed["sha256"], "{end:#}");
        assert_eq!(self.fleet.kept("state")["state"], "online");
        self.model.check();
        self.said_nothing_terrible();
        let connects = self.fleet.broker.log();
        let connects = connects
            .matches(&format!("as eventflux-control-{NODE} "))
            .count();
        let number = usize::try_from(self.model.connection()).unwrap();
        assert!(number >= connects, "{number} after {connects} connections");
        self.check_makers();
        let published = self.flow.finish();
        self.counts.check(published);
        self.fleet.site.stop();
        format!(
            "{published} numbers, the last document after {took:.1?}, {:?}",
            self.model.seen
        )
    }

    /// Which configurations have made rows, in order: each is one that may, and none that is of no
    /// use comes twice.
    fn check_makers(&self) {
        let mut all = Vec::new();
        self.flow.traffic().wait("something comes out", |state| {
            // A row that comes again tells nothing.
            let mut highest = None;
            for one in &state.delivered {
                if highest < Some(one.number) {
                    highest = Some(one.number);
                    all.push(one.made_by.unwrap());
                }
            }
            true
        });
        all.dedup();
        let may = self.model.makers();
        for c in &all {
            assert!(may.contains(c), "{c} makes rows: {all:?}");
        }
        for c in &self.useless {
            let times = all.iter().filter(|one| *one == c).count();
            assert!(times <= 1, "{c} was tried {times} times: {all:?}");
        }
    }

    fn said_nothing_terrible(&self) {
        for log in self.fleet.site.logs() {
            for bad in ["panicked", "quarantine", "is lost", "journal cannot"] {
                assert!(!log.contains(bad), "'{bad}' in:\n{log}");
            }
        }
    }
}

fn is_end(reported: &Value) -> bool {
    ENDS.iter().any(|end| reported["status"] == *end)
}
