//! Subqueries and common table expressions become queries of their own, each into a stream that
//! only its reader knows.

use std::collections::{BTreeMap, BTreeSet};

use super::super::ast::{From, Into, IntoKind, Name, Query, Select, Source, What};
use super::super::plan::Emit;
use super::{Todo, Work, Written};

/// Adds a query, and before it those that were written inside it. `local` names streams that are
/// known under another name here.
pub(super) fn query(
    path: &str,
    query: &Query,
    partition: Option<usize>,
    local: &BTreeMap<String, String>,
    work: &mut Vec<Work>,
) {
    let target = query.into.target.text.as_str();
    let mut flat = Flat {
        path,
        partition,
        local: local.clone(),
        target,
        taken: BTreeSet::new(),
        work,
    };
    for (name, select) in &query.with {
        let hidden = flat.hidden(&name.text);
        flat.inner(select, &hidden, name);
        flat.local.insert(name.text.clone(), hidden);
    }
    let mut query = query.clone();
    query.with.clear();
    flat.sources(&mut query.select.from);
    let written = Written {
        // What WITH names can be read, not written.
        target: local.get(target).map_or(target, String::as_str).to_owned(),
        query,
        partition,
        local: flat.local,
        private: false,
    };
    work.push(Work {
        path: path.to_owned(),
        what: Todo::Query(Box::new(written)),
    });
}

struct Flat<'a> {
    path: &'a str,
    partition: Option<usize>,
    local: BTreeMap<String, String>,
    target: &'a str,
    /// The names that have been given.
    taken: BTreeSet<String>,
    work: &'a mut Vec<Work>,
}

impl Flat<'_> {
    /// A name that no one can write, and that does not change when lines move.
    fn hidden(&mut self, what: &str) -> String {
        let first = format!("{}: {what}", self.target);
        let mut name = first.clone();
        let mut number = 2;
        while self.taken.contains(&name) || self.work.iter().any(|work| work.makes() == name) {
            name = format!("{first} {number}");
            number += 1;
        }
        self.taken.insert(name.clone());
        name
    }

    fn sources(&mut self, from: &mut From) {
        match from {
            From::One(source) => self.source(source),
            // Elements are names.
            From::Pattern(_) => {}
            From::Join(join) => {
                self.sources(&mut join.left);
                self.source(&mut join.right);
            }
        }
    }

    fn source(&mut self, source: &mut Source) {
        let What::Subquery(select) = &source.what else {
            return;
        };
        let name = Name {
            text: self.hidden("subquery"),
            place: select.place,
        };
        let select = select.clone();
        self.inner(&select, &name.text, &name);
        source.what = What::Named(name);
    }

    fn inner(&mut self, select: &Select, hidden: &str, name: &Name) {
        let mut select = select.clone();
        self.sources(&mut select.from);
        let target = Name {
            text: hidden.to_owned(),
            place: name.place,
        };
        let query = Query {
            into: Into {
                target,
                kind: IntoKind::Insert(Emit::Current),
            },
            with: Vec::new(),
            place: select.place,
            select,
            properties: Vec::new(),
        };
        let written = Written {
            target: hidden.to_owned(),
            query,
            partition: self.partition,
            local: self.local.clone(),
            private: true,
        };
        self.work.push(Work {
            path: self.path.to_owned(),
            what: Todo::Query(Box::new(written)),
        });
    }
}
