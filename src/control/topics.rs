//! The topics of the contract, version 1.

use super::Scope;

/// The topics of one node: `<root>/v1/<node>/…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics {
    root: String,
    node: String,
}

/// What a topic is about that something came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// The node's own state.
    State,
    /// What the configuration is to be.
    Desired(Scope),
    /// A request, by its verb.
    Request(String),
}

impl Topics {
    /// The topics of `node` below `root`.
    #[must_use]
    pub fn new(root: &str, node: &str) -> Topics {
        Topics {
            root: root.to_owned(),
            node: node.to_owned(),
        }
    }

    /// Whose they are.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// The node as somebody who is spoken to.
    #[must_use]
    pub fn scope(&self) -> Scope {
        Scope::Node(self.node.clone())
    }

    /// One of the node's own, such as `state`.
    #[must_use]
    pub fn own(&self, name: &str) -> String {
        format!("{}/v1/{}/{name}", self.root, self.node)
    }

    /// Birth and death.
    #[must_use]
    pub fn state(&self) -> String {
        self.own("state")
    }

    /// What became of a document.
    #[must_use]
    pub fn reported(&self) -> String {
        self.own("config/reported")
    }

    /// The running configuration.
    #[must_use]
    pub fn active(&self) -> String {
        self.own("config/active")
    }

    /// Where a document is expected.
    #[must_use]
    pub fn desired(&self, scope: &Scope) -> String {
        format!("{}/v1/{scope}/config/desired", self.root)
    }

    /// Where requests come from: no verb has levels, and whoever is allowed `request/#` is allowed
    /// this as well.
    #[must_use]
    pub fn requests(&self) -> String {
        self.own("request/+")
    }

    /// Where a request is answered.
    #[must_use]
    pub fn response(&self, verb: &str) -> String {
        self.own(&format!("response/{verb}"))
    }

    /// What a message that came is about; none: it is none of ours.
    #[must_use]
    pub fn about(&self, topic: &[u8]) -> Option<About> {
        let topic = std::str::from_utf8(topic).ok()?;
        let inside = topic.strip_prefix(self.root.as_str())?;
        let inside = inside.strip_prefix("/v1/")?;
        if let Some(group) = inside.strip_prefix("_group/") {
            let name = group.strip_suffix("/config/desired")?;
            return Some(About::Desired(Scope::Group(name.to_owned())));
        }
        let own = inside.strip_prefix(self.node.as_str())?.strip_prefix('/')?;
        match own {
            "state" => Some(About::State),
            "config/desired" => Some(About::Desired(self.scope())),
            own => {
                let verb = own.strip_prefix("request/")?;
                Some(About::Request(verb.to_owned()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_say_what_they_are_about() {
        let topics = Topics::new("plant/flux", "pump-7");
        let node = || topics.scope();
        let group = Scope::Group("pumps".to_owned());
        assert_eq!(topics.state(), "plant/flux/v1/pump-7/state");
        let table = [
            (topics.state(), Some(About::State)),
            (topics.desired(&node()), Some(About::Desired(node()))),
            (topics.desired(&group), Some(About::Desired(group.clone()))),
            (
                topics.own("request/outbox.purge"),
                Some(About::Request("outbox.purge".to_owned())),
            ),
            (topics.reported(), None),
            ("plant/flux/v1/pump-70/state".to_owned(), None),
            ("plant/flux/v2/pump-7/state".to_owned(), None),
            ("state".to_owned(), None),
        ];
        for (topic, about) in table {
            assert_eq!(topics.about(topic.as_bytes()), about, "{topic}");
        }
        assert_eq!(topics.about(&[0xff]), None);
    }
}
