//! The verbs by name, and who answers which.

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    /// About the node and its configuration; [`super::Desk`] knows nothing of these.
    Node(NodeVerb),
    /// About what runs: [`super::Desk::answer`].
    Desk(DeskVerb),
    /// Rows as they pass, which takes its time: [`super::Desk::tap`].
    Tap,
}

/// About the node and its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NodeVerb {
    /// How the node is.
    Status,
    /// The document in force.
    ConfigGet,
    /// What a document would change.
    ConfigDiff,
    /// What is wrong with a document.
    ConfigValidate,
    /// A document that is being tried out is to stay.
    ConfigConfirm,
    /// The document before is to come back.
    ConfigRollback,
    /// The daemon is to end and be started anew.
    Restart,
}

/// About what runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DeskVerb {
    /// Whether anybody is there.
    Ping,
    /// The queries.
    QueryList,
    /// What the SQL has become.
    QueryExplain,
    /// Events through some SQL that is not that of the application.
    QueryTest,
    /// A checkpoint, at once.
    CheckpointNow,
    /// What waits for the sinks.
    OutboxStatus,
    /// A sink is given nothing for now.
    OutboxPause,
    /// A sink is given what waits.
    OutboxResume,
    /// What waits for a sink is given up.
    OutboxPurge,
    /// How much is logged.
    LogLevel,
    /// All that can be told about the node.
    Diagnostics,
}

impl Verb {
    /// All of them.
    pub const ALL: [Verb; 19] = [
        Verb::Desk(DeskVerb::Ping),
        Verb::Node(NodeVerb::Status),
        Verb::Node(NodeVerb::ConfigGet),
        Verb::Node(NodeVerb::ConfigDiff),
        Verb::Node(NodeVerb::ConfigValidate),
        Verb::Node(NodeVerb::ConfigConfirm),
        Verb::Node(NodeVerb::ConfigRollback),
        Verb::Desk(DeskVerb::QueryList),
        Verb::Desk(DeskVerb::QueryExplain),
        Verb::Desk(DeskVerb::QueryTest),
        Verb::Tap,
        Verb::Desk(DeskVerb::CheckpointNow),
        Verb::Desk(DeskVerb::OutboxStatus),
        Verb::Desk(DeskVerb::OutboxPause),
        Verb::Desk(DeskVerb::OutboxResume),
        Verb::Desk(DeskVerb::OutboxPurge),
        Verb::Desk(DeskVerb::LogLevel),
        Verb::Desk(DeskVerb::Diagnostics),
        Verb::Node(NodeVerb::Restart),
    ];

    /// The verb that is called so in a topic.
    #[must_use]
    pub fn of(word: &str) -> Option<Verb> {
        Verb::ALL.into_iter().find(|verb| verb.word() == word)
    }

    /// As it stands in topics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Verb::Node(NodeVerb::Status) => "status",
            Verb::Node(NodeVerb::ConfigGet) => "config.get",
            Verb::Node(NodeVerb::ConfigDiff) => "config.diff",
            Verb::Node(NodeVerb::ConfigValidate) => "config.validate",
            Verb::Node(NodeVerb::ConfigConfirm) => "config.confirm",
            Verb::Node(NodeVerb::ConfigRollback) => "config.rollback",
            Verb::Node(NodeVerb::Restart) => "restart",
            Verb::Desk(DeskVerb::Ping) => "ping",
            Verb::Desk(DeskVerb::QueryList) => "query.list",
            Verb::Desk(DeskVerb::QueryExplain) => "query.explain",
            Verb::Desk(DeskVerb::QueryTest) => "query.test",
            Verb::Desk(DeskVerb::CheckpointNow) => "checkpoint.now",
            Verb::Desk(DeskVerb::OutboxStatus) => "outbox.status",
            Verb::Desk(DeskVerb::OutboxPause) => "outbox.pause",
            Verb::Desk(DeskVerb::OutboxResume) => "outbox.resume",
            Verb::Desk(DeskVerb::OutboxPurge) => "outbox.purge",
            Verb::Desk(DeskVerb::LogLevel) => "log.level",
            Verb::Desk(DeskVerb::Diagnostics) => "diagnostics",
            Verb::Tap => "tap",
        }
    }

    /// Whether the node is another one afterwards, so that `control.mode` must let it.
    #[must_use]
    pub fn changes(self) -> bool {
        match self {
            Verb::Node(NodeVerb::ConfigConfirm | NodeVerb::ConfigRollback | NodeVerb::Restart)
            | Verb::Desk(
                DeskVerb::CheckpointNow
                | DeskVerb::OutboxPause
                | DeskVerb::OutboxResume
                | DeskVerb::OutboxPurge
                | DeskVerb::LogLevel,
            ) => true,
            Verb::Node(
                NodeVerb::Status
                | NodeVerb::ConfigGet
                | NodeVerb::ConfigDiff
                | NodeVerb::ConfigValidate,
            )
            | Verb::Desk(
                DeskVerb::Ping
                | DeskVerb::QueryList
                | DeskVerb::QueryExplain
                | DeskVerb::QueryTest
                | DeskVerb::OutboxStatus
                | DeskVerb::Diagnostics,
            )
            | Verb::Tap => false,
        }
    }

    /// Whether it needs a signature where documents do.
    #[must_use]
    pub fn needs_signature(self) -> bool {
        matches!(
            self,
            Verb::Desk(DeskVerb::OutboxPurge)
                | Verb::Node(NodeVerb::Restart | NodeVerb::ConfigRollback)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In the order of the contract.
    const WORDS: &str = "ping, status, config.get, config.diff, config.validate, config.confirm, \
        config.rollback, query.list, query.explain, query.test, tap, checkpoint.now, \
        outbox.status, outbox.pause, outbox.resume, outbox.purge, log.level, diagnostics, restart";

    #[test]
    fn every_verb_of_the_contract_is_known_by_its_word() {
        let words: Vec<&str> = Verb::ALL.iter().map(|verb| verb.word()).collect();
        assert_eq!(words.join(", "), WORDS);
        for verb in Verb::ALL {
            assert_eq!(Verb::of(verb.word()), Some(verb));
        }
        for unknown in ["", "Ping", "config", "outbox.purge/x", "shell"] {
            assert_eq!(Verb::of(unknown), None);
        }
    }

    #[test]
    fn what_needs_a_signature_changes_something() {
        let signed: Vec<&str> = Verb::ALL
            .iter()
            .filter(|verb| verb.needs_signature())
            .map(|verb| verb.word())
            .collect();
        assert_eq!(signed, ["config.rollback", "outbox.purge", "restart"]);
        assert!(
            Verb::ALL
                .iter()
                .all(|verb| verb.changes() || !verb.needs_signature())
        );
    }
}
