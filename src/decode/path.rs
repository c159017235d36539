//! Where in a document the columns lie: paths such as `$.a.b[0].c`, joined into a tree that is
//! walked while the document is read.

use crate::event::json;
pub(super) use crate::event::json::Step;

/// Where a path begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// `$`: the start of the document.
    Document,
    /// `@`: the object that is a row.
    Row,
}

/// Reads `$.a.b[0].c`, or `@.a` from a row on; a name with other characters is written
/// `['a name']`.
///
/// # Errors
/// What is wrong with it.
pub(super) fn parse(path: &str) -> Result<(Origin, Vec<Step>), String> {
    let (origin, steps) = match path.strip_prefix('@') {
        Some(rest) => (Origin::Row, json::parse_path(&format!("${rest}"))?),
        None => (Origin::Document, json::parse_path(path)?),
    };
    if steps.iter().any(|step| matches!(step, Step::Element(..0))) {
        return Err(format!("`{path}` counts from the end of an array"));
    }
    match steps.first() {
        Some(Step::Field(_)) => Ok((origin, steps)),
        Some(Step::Element(_)) | None => {
            Err(format!("`{path}` names no field: an event is an object"))
        }
    }
}

/// A place in the document. The root is the event's object.
#[derive(Debug, Default)]
pub(super) struct Node {
    /// The columns that take the value here.
    pub(super) columns: Vec<usize>,
    /// The JSON columns that take the value here, whatever it is.
    pub(super) whole: Vec<usize>,
    /// Whether the rows lie here.
    pub(super) is_rows: bool,
    /// What is of interest inside, when the value is an object. Usually in the order in which the
    /// columns were defined, which is often the order in which devices write them.
    pub(super) fields: Vec<(Box<str>, Node)>,
    /// What is of interest inside, when the value is an array.
    pub(super) elements: Vec<(i64, Node)>,
}

impl Node {
    /// Has `column` take the value at `steps`, as a whole or only when it is a plain one.
    pub(super) fn insert(&mut self, steps: &[Step], column: usize, whole: bool) {
        let node = self.at(steps);
        match whole {
            true => node.whole.push(column),
            false => node.columns.push(column),
        }
    }

    /// Has the rows lie at `steps`.
    pub(super) fn insert_rows(&mut self, steps: &[Step]) {
        self.at(steps).is_rows = true;
    }

    fn at(&mut self, steps: &[Step]) -> &mut Node {
        match steps {
            [] => self,
            [Step::Field(name), rest @ ..] => {
                inside(&mut self.fields, name.as_str().into()).at(rest)
            }
            [Step::Element(number), rest @ ..] => inside(&mut self.elements, *number).at(rest),
        }
    }

    /// Whether only JSON columns take something here.
    pub(super) fn is_whole_only(&self) -> bool {
        !self.is_rows
            && self.columns.is_empty()
            && self.fields.is_empty()
            && self.elements.is_empty()
    }

    /// The field called `name`, looked for from `hint` on, and its index.
    pub(super) fn field(&self, name: &str, hint: usize) -> Option<(usize, &Node)> {
        if let Some((known, node)) = self.fields.get(hint) {
            if **known == *name {
                return Some((hint, node));
            }
        }
        let mut all = self.fields.iter().enumerate();
        all.find(|(_, (known, _))| **known == *name)
            .map(|(index, (_, node))| (index, node))
    }
}

/// The node under a name or a number, made if there is none.
fn inside<K: PartialEq>(all: &mut Vec<(K, Node)>, key: K) -> &mut Node {
    let known = all.iter().position(|(known, _)| *known == key);
    let index = known.unwrap_or(all.len());
    if known.is_none() {
        all.push((key, Node::default()));
    }
    #[expect(clippy::indexing_slicing, reason = "found or pushed just now")]
    &mut all[index].1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        assert_eq!(
            parse("$.a[0]"),
            Ok((
                Origin::Document,
                vec![Step::Field("a".to_owned()), Step::Element(0)]
            ))
        );
        assert_eq!(
            parse("@.a"),
            Ok((Origin::Row, vec![Step::Field("a".to_owned())]))
        );
        for bad in ["", "a", "$", "$[0]", "@", "@a", "$.a[-1]", "$.a..b"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
