//! What can happen.

use std::time::Duration;

use serde_json::{Value, json};

use crate::documents::{document, faulty, nobody};
use crate::fleet::NODE;
use crate::mosquitto::free_port;
use crate::ordeal::{GROUP, Ordeal};
use crate::signing::{Key, envelope};
use crate::wait::hang;

/// How long an answer may take when the node hears the question at all.
const ANSWERED: Duration = Duration::from_secs(3);

impl Ordeal {
    /// One of all.
    pub(crate) fn happen(&mut self) {
        match self.random.below(38) {
            0..=4 => self.a_document(),
            5 => self.an_operators(),
            6 => self.a_faulty_one(),
            7 => self.a_useless_one(),
            8 => self.a_stale_one(),
            9 => self.a_conflicting_one(),
            10 => self.a_forged_one(),
            11 => self.a_check(),
            12 | 13 => self.a_group(),
            14 => self.a_withdrawal(),
            15 | 16 => self.an_edit(),
            17 => self.a_faulty_edit(),
            18 | 19 => self.a_rollback(),
            20 => self.a_restart(),
            21..=23 => self.a_kill(),
            24 => self.a_stop(),
            25 | 26 => self.the_broker_away(false),
            27 => self.the_broker_away(true),
            28 => self.the_data_broker_away(),
            29 => self.a_hangup(),
            30 => self.a_race(),
            31 => self.the_same_again(),
            32 => self.a_late_one(),
            33 | 34 => self.an_endpoint(),
            35 => self.one_that_keeps_state(),
            36 => self.a_faulty_start(),
            _ => self.a_burst(),
        }
    }

    fn a_document(&mut self) {
        self.rev += 1 + self.random.below(2);
        let (c, asked) = self.good(self.rev);
        self.say(&format!("document {} makes {c}", self.rev));
        self.push(NODE, asked, c);
        if self.random.below(4) == 0 {
            hang(Duration::from_millis(self.random.below(1_200)));
            self.a_kill();
        }
    }

    fn an_operators(&mut self) {
        self.rev += 1;
        let (c, mut asked) = self.good(self.rev);
        asked["confirm"] = json!("operator");
        let confirms = self.random.below(3) > 0;
        self.say(&format!(
            "document {} makes {c}; confirmed: {confirms}",
            self.rev
        ));
        self.push(NODE, asked, c);
        if confirms {
            hang(Duration::from_millis(self.random.below(900)));
            let rev = self.rev;
            self.ask("config.confirm", &json!({"rev": rev}));
        }
    }

    /// The control connection is another one: it leads nowhere, or to the same broker.
    fn an_endpoint(&mut self) {
        self.rev += 1;
        let (c, text) = self.another();
        let leads_nowhere = self.random.below(2) == 0;
        let option = match leads_nowhere {
            true => format!("mqtt.broker = \"mqtt://127.0.0.1:{}\"", free_port()),
            false => format!("mqtt.keep_alive = \"{} s\"", 20 + self.random.below(9)),
        };
        self.say(&format!("document {} makes {c}: {option}", self.rev));
        let content = format!("{}[control]\n{option}\n", document(&text));
        let mut asked = envelope(self.rev, &content);
        asked["confirm_s"] = json!(1 + self.random.below(3));
        self.push(NODE, asked, c);
        hang(Duration::from_millis(500 + self.random.below(500)));
        let rev = self.rev;
        self.ask("config.confirm", &json!({"rev": rev}));
    }

    fn one_that_keeps_state(&mut self) {
        self.rev += 1;
        let (c, mut asked) = self.good(self.rev);
        asked["state_policy"] = json!("keep_or_fail");
        self.say(&format!("document {} makes {c}, or fails", self.rev));
        self.push(NODE, asked, c);
    }

    fn a_faulty_one(&mut self) {
        self.rev += 1;
        let (_, text) = self.another();
        let content = faulty(&text, &mut self.random);
        self.say(&format!("document {} is faulty", self.rev));
        let signed = self.fleet.signed(self.rev, &content);
        self.leave(NODE, signed.to_string().as_bytes());
    }

    fn a_useless_one(&mut self) {
        self.rev += 1;
        let (c, text) = self.another();
        let content = document(&format!("{text}{}", nobody(free_port())));
        self.say(&format!("document {} makes {c} and finds nobody", self.rev));
        self.useless.push(c);
        self.push(NODE, envelope(self.rev, &content), c);
    }

    fn a_stale_one(&mut self) {
        // One that was never accepted does not hold back a lower one: that one may come in force.
        let rev = 1 + self.random.below(self.rev.max(1));
        let (c, asked) = self.good(rev);
        self.say(&format!("document {rev} of {} makes {c}", self.rev));
        self.rev = self.rev.max(rev);
        self.push(NODE, asked, c);
    }

    fn a_conflicting_one(&mut self) {
        self.rev = self.rev.max(1);
        let (c, asked) = self.good(self.rev);
        self.say(&format!("document {} again makes {c}", self.rev));
        self.push(NODE, asked, c);
    }

    fn a_forged_one(&mut self) {
        let (_, mut asked) = self.good(self.rev + 1);
        let how = self.random.below(5);
        self.say(&format!("a forged document {}: {how}", self.rev + 1));
        let mut signed = self.fleet.key.signed(NODE, asked.clone());
        match how {
            0 => signed = Key::new().signed(NODE, signed),
            1 => signed["confirm_s"] = json!(3),
            2 => signed = self.fleet.key.signed("pump-8", signed),
            3 => signed = asked,
            _ => {
                asked["sig"] =
                    json!({"alg": "ed25519", "kid": self.fleet.key.kid(), "value": "AAAA"});
                signed = asked;
            }
        }
        let text = signed.to_string();
        let end = match self.random.below(3) {
            0 => self.random.index(text.len()),
            _ => text.len(),
        };
        self.leave(NODE, &text.as_bytes()[..end.max(1)]);
    }

    fn a_check(&mut self) {
        let (_, mut asked) = self.good(self.rev + 1);
        asked["mode"] = json!("validate");
        self.say(&format!("document {} is to be checked", self.rev + 1));
        let signed = self.fleet.key.signed(NODE, asked);
        self.leave(NODE, signed.to_string().as_bytes());
    }

    fn a_group(&mut self) {
        self.group_rev += 1;
        let (c, asked) = self.good(self.group_rev);
        self.say(&format!(
            "document {} of the group makes {c}",
            self.group_rev
        ));
        self.push(GROUP, asked, c);
        if self.random.below(2) == 0 {
            self.say("the node's own is withdrawn");
            self.leave(NODE, b"");
        }
    }

    fn a_withdrawal(&mut self) {
        let scope = [NODE, GROUP][self.random.index(2)];
        self.say(&format!("that of {scope} is withdrawn"));
        self.leave(scope, b"");
    }

    /// As an editor does that replaces the file.
    fn write(&self, text: &str) {
        let path = self.fleet.site.path("app.sql");
        let next = self.fleet.site.path("app.sql.next");
        std::fs::write(&next, text).unwrap();
        std::fs::rename(next, path).unwrap();
    }

    fn an_edit(&mut self) {
        let (c, text) = self.another();
        self.say(&format!("the local file makes {c}"));
        self.ready();
        self.model.local.push(c);
        self.write(&text);
        self.fleet.site.signal("HUP");
    }

    fn a_faulty_edit(&mut self) {
        self.say("the local file is faulty for a while");
        self.ready();
        let known = std::fs::read_to_string(self.fleet.site.path("app.sql")).unwrap();
        self.write("CREATE STREAM");
        self.fleet.site.signal("HUP");
        hang(Duration::from_millis(self.random.below(1_200)));
        self.write(&known);
        self.fleet.site.signal("HUP");
    }

    /// When the local file is faulty at a start, what ran before goes on, as if it were not.
    fn a_faulty_start(&mut self) {
        self.look();
        self.say("the local file is faulty at a start");
        let known = std::fs::read_to_string(self.fleet.site.path("app.sql")).unwrap();
        self.write("CREATE STREAM");
        self.a_kill();
        self.ready();
        self.look();
        self.write(&known);
        if self.random.below(2) == 0 {
            self.fleet.site.kill();
            self.spawn();
            self.ready();
        } else {
            self.fleet.site.signal("HUP");
        }
        self.look();
    }

    fn a_hangup(&mut self) {
        self.say("SIGHUP");
        self.ready();
        for _ in 0..=self.random.below(3) {
            self.fleet.site.signal("HUP");
        }
    }

    fn a_rollback(&mut self) {
        self.say("config.rollback");
        self.ask_signed("config.rollback");
    }

    fn a_restart(&mut self) {
        self.say("restart");
        self.ready();
        let from = self.fleet.observer.now();
        let id = self.ask_signed("restart");
        if self.answer(from, &id, ANSWERED).is_some() {
            self.begins_anew();
            if self.random.below(2) == 0 {
                self.ready();
            }
        } else {
            // Whether it heard is not known, nor how often it begins then.
            self.say("nobody answers: killed");
            self.fleet.site.kill();
            self.spawn();
        }
    }

    fn a_kill(&mut self) {
        let times = 1 + self.random.below(3);
        self.say(&format!("killed {times} times"));
        for _ in 0..times {
            self.random.spin(Duration::from_millis(60));
            self.fleet.site.kill();
            self.spawn();
        }
    }

    fn a_stop(&mut self) {
        self.say("SIGTERM");
        self.ready();
        self.fleet.site.stop();
        self.spawn();
    }

    /// The control broker goes and comes, with what it kept or without.
    fn the_broker_away(&mut self, forgets: bool) {
        self.say(&format!("the control broker goes; it forgets: {forgets}"));
        self.fleet.broker.stop();
        match self.random.below(4) {
            0 => self.a_kill(),
            1 => self.an_edit(),
            2 => self.a_stop(),
            _ => {}
        }
        hang(Duration::from_millis(self.random.below(2_000)));
        if forgets {
            self.fleet.broker.forget();
            self.model.blind += 1;
        }
        self.fleet.broker.start();
        self.say("it is back");
    }

    fn the_data_broker_away(&mut self) {
        self.say("the data broker goes");
        self.flow.traffic().pause();
        self.fleet.data.stop();
        if self.random.below(3) == 0 {
            self.a_document();
        }
        hang(Duration::from_millis(self.random.below(1_500)));
        self.fleet.data.start();
        self.flow.traffic().resume();
        self.say("it is back");
    }

    /// Two write what follows from the same.
    fn a_race(&mut self) {
        let base = self.fleet.kept("config/reported")["active"]["sha256"].clone();
        self.say("two race");
        for _ in 0..2 {
            self.rev += 1;
            let (c, mut asked) = self.good(self.rev);
            asked["base_sha256"] = base.clone();
            self.push(NODE, asked, c);
        }
    }

    fn the_same_again(&mut self) {
        self.rev += 1;
        let (c, asked) = self.good(self.rev);
        self.say(&format!("document {} twenty times makes {c}", self.rev));
        let signed: Value = self.push(NODE, asked, c);
        for _ in 0..20 {
            self.leave(NODE, signed.to_string().as_bytes());
        }
    }

    fn a_late_one(&mut self) {
        self.rev += 1;
        let (c, mut asked) = self.good(self.rev);
        asked["expires"] = json!("2020-01-01T00:00:00Z");
        self.say(&format!("document {} is over", self.rev));
        // A clock that nobody has set does not know that.
        self.push(NODE, asked, c);
    }

    fn a_burst(&mut self) {
        self.say("a burst");
        for _ in 0..5 {
            match self.random.below(4) {
                0 => self.a_group(),
                1 => self.a_faulty_one(),
                2 => self.a_hangup(),
                _ => self.a_document(),
            }
        }
    }
}
