//! Whether what a node reports is the end of a document, and which.

use super::report::Report;
use crate::cli::Exit;
use crate::control::Scope;

/// A document that was published.
#[derive(Clone, Debug)]
pub(super) struct Published {
    pub(super) rev: u64,
    pub(super) sha256: String,
    /// The group it is for.
    pub(super) group: Option<String>,
    /// The highest revision that was known before.
    pub(super) known_rev: u64,
}

/// What a report says of the document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is about something else.
    Other,
    /// It is on its way.
    Going,
    /// This was it, and what is to be said of it.
    Ended(Exit, String),
}

impl Published {
    /// Judges a report that came after the document was published.
    pub(super) fn judge(&self, report: &Report, is_retained: bool) -> Verdict {
        let status = report.status();
        let (rev, sha256) = report.document("desired");
        if rev == Some(self.rev) && sha256 == Some(self.sha256.as_str()) {
            return self.judge_ours(report);
        }
        if report.document("active") == (Some(self.rev), Some(self.sha256.as_str())) {
            let message = "it is in force, though another document is desired by now";
            return Verdict::Ended(Exit::Success, message.to_owned());
        }
        // What a node cannot read it cannot name.
        if status == "rejected" && rev.is_none() && !is_retained {
            return self.refused(report);
        }
        // One that is itself refused takes nobody's place.
        let is_newer = rev > Some(self.known_rev) && rev >= Some(self.rev);
        let is_of_our_kind = report.desired_scope() == self.scope().as_deref();
        if is_newer && is_of_our_kind && status != "rejected" {
            let rev = rev.unwrap_or_default();
            let message = format!("another document has taken its place: revision {rev}");
            return Verdict::Ended(Exit::Refused, message);
        }
        Verdict::Other
    }

    /// Whether a node that has reported this has nothing more to say of the document: it has come
    /// to its end there, and a revision that was accepted is looked at once. What was refused is
    /// looked at again.
    pub(super) fn is_settled(&self, report: &Report, scope: &Scope) -> bool {
        let ours = (Some(self.rev), Some(self.sha256.as_str()));
        if report.document("desired") != ours || report.desired_scope() != self.scope().as_deref() {
            return false;
        }
        match report.status() {
            "in_sync" => true,
            "rolled_back" | "local_override" => report.revision_used(scope) == self.rev,
            _ => false,
        }
    }

    fn judge_ours(&self, report: &Report) -> Verdict {
        let ended = |exit, message: &str| Verdict::Ended(exit, message.to_owned());
        match report.status() {
            "in_sync" => ended(Exit::Success, "it is in force"),
            "valid" => ended(Exit::Success, "it is valid; nothing was changed"),
            "rejected" => self.refused(report),
            "expired" => ended(Exit::Refused, "its time was over before it was applied"),
            "rolled_back" => {
                let why = match report.code() {
                    Some("E_HEALTH") => "it did not prove itself",
                    Some("E_UNCONFIRMED") => "nobody confirmed it in time",
                    Some("E_BOOT_GUARD") => "the node went down while it was on probation",
                    Some("E_OPERATOR") => "an operator took it back",
                    Some(_) | None => "it was taken back",
                };
                let code = report.code().unwrap_or("no code");
                ended(
                    Exit::RolledBack,
                    &format!("{why} ({code}); what ran before runs again"),
                )
            }
            "local_override" => ended(Exit::Refused, "the local file was changed, and holds"),
            _ => Verdict::Going,
        }
    }

    fn refused(&self, report: &Report) -> Verdict {
        let code = report.code().unwrap_or("no code");
        Verdict::Ended(Exit::Refused, format!("it is refused: {code}"))
    }

    /// As reports name it.
    fn scope(&self) -> Option<String> {
        self.group.as_ref().map(|group| format!("_group/{group}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn verdict(desired: (u64, &str), active: (u64, &str), status: &str) -> Verdict {
        let published = Published {
            rev: 7,
            sha256: "ours".to_owned(),
            group: None,
            known_rev: 6,
        };
        let report = json!({"status": status, "code": "E_HEALTH",
            "desired": {"rev": desired.0, "sha256": desired.1},
            "active": {"rev": active.0, "sha256": active.1}});
        let report = Report::read(report.to_string().as_bytes()).unwrap();
        published.judge(&report, false)
    }

    fn exit(desired: (u64, &str), active: (u64, &str), status: &str) -> Option<Exit> {
        match verdict(desired, active, status) {
            Verdict::Ended(exit, _) => Some(exit),
            Verdict::Other | Verdict::Going => None,
        }
    }

    #[test]
    fn only_the_end_of_our_document_is_the_end() {
        let (ours, before) = ((7, "ours"), (6, "before"));
        for going in ["validating", "applying", "probation", "dreaming"] {
            assert_eq!(verdict(ours, before, going), Verdict::Going, "{going}");
        }
        let table = [
            (ours, ours, "in_sync", Some(Exit::Success)),
            (ours, before, "valid", Some(Exit::Success)),
            (ours, before, "rejected", Some(Exit::Refused)),
            (ours, before, "expired", Some(Exit::Refused)),
            (ours, before, "rolled_back", Some(Exit::RolledBack)),
            (ours, before, "local_override", Some(Exit::Refused)),
            // What was there before we came.
            (before, before, "in_sync", None),
            (before, before, "rolled_back", None),
            // Somebody else was faster, or too late.
            ((7, "theirs"), before, "applying", Some(Exit::Refused)),
            ((8, "theirs"), before, "in_sync", Some(Exit::Refused)),
            ((7, "theirs"), before, "rejected", None),
            ((8, "theirs"), ours, "applying", Some(Exit::Success)),
        ];
        for (desired, active, status, expected) in table {
            let found = exit(desired, active, status);
            assert_eq!(found, expected, "{desired:?} {active:?} {status}");
        }
    }

    #[test]
    fn what_has_come_to_its_end_is_not_waited_for() {
        let published = Published {
            rev: 7,
            sha256: "ours".to_owned(),
            group: None,
            known_rev: 7,
        };
        let scope = Scope::Node("pump-7".to_owned());
        let is_settled = |status: &str, desired: &Value, accepted: u64| {
            let report = json!({"status": status, "desired": desired,
                "accepted": {"pump-7": accepted}});
            let report = Report::read(report.to_string().as_bytes()).unwrap();
            published.is_settled(&report, &scope)
        };
        let ours = json!({"rev": 7, "sha256": "ours"});
        let theirs = json!({"rev": 7, "sha256": "theirs"});
        let of_a_group = json!({"rev": 7, "sha256": "ours", "scope": "_group/pumps"});
        for status in ["in_sync", "rolled_back", "local_override"] {
            assert!(is_settled(status, &ours, 7), "{status}");
            assert!(!is_settled(status, &theirs, 7), "{status}");
            assert!(!is_settled(status, &of_a_group, 7), "{status}");
        }
        assert!(!is_settled("rolled_back", &ours, 6));
        for status in ["probation", "rejected", "expired", "valid"] {
            assert!(!is_settled(status, &ours, 7), "{status}");
        }
    }

    #[test]
    fn a_refusal_without_a_name_is_ours_when_it_is_new() {
        let published = Published {
            rev: 7,
            sha256: "ours".to_owned(),
            group: Some("pumps".to_owned()),
            known_rev: 6,
        };
        let report = json!({"status": "rejected", "code": "E_TOO_LARGE",
            "desired": {"rev": null, "sha256": null}});
        let report = Report::read(report.to_string().as_bytes()).unwrap();
        let refused = Verdict::Ended(Exit::Refused, "it is refused: E_TOO_LARGE".to_owned());
        assert_eq!(published.judge(&report, false), refused);
        assert_eq!(published.judge(&report, true), Verdict::Other);
        // The revisions of a node and those of its groups count apart.
        let report = json!({"status": "applying", "desired": {"rev": 9, "sha256": "own"}});
        let report = Report::read(report.to_string().as_bytes()).unwrap();
        assert_eq!(published.judge(&report, false), Verdict::Other);
    }
}
