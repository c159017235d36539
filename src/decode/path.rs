//! Where in a document the columns lie: paths such as `$.a.b[0].c`, joined into a tree that is
//! walked while the document is read.

use crate::event::json;
pub(super) use crate::event::json::Step;

/// Reads `$.a.b[0].c`; a name with other characters is written `['a name']`.
///
/// # Errors
/// What is wrong with it.
pub(super) fn parse(path: &str) -> Result<Vec<Step>, String> {
    let steps = json::parse_path(path)?;
    if steps.iter().any(|step| matches!(step, Step::Element(..0))) {
        return Err(format!("`{path}` counts from the end of an array"));
    }
    match steps.first() {
        Some(Step::Field(_)) => Ok(steps),
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
    /// What is of interest inside, when the value is an object. Usually in the order in which the
    /// columns were defined, which is often the order in which devices write them.
    pub(super) fields: Vec<(Box<str>, Node)>,
    /// What is of interest inside, when the value is an array.
    pub(super) elements: Vec<(i64, Node)>,
}

impl Node {
    /// Has `column` take the value at `steps`, as a whole or only when it is a plain one.
    pub(super) fn insert(&mut self, steps: &[Step], column: usize, whole: bool) {
        match steps {
            [] if whole => self.whole.push(column),
            [] => self.columns.push(column),
            [Step::Field(name), rest @ ..] => {
                let known = self.fields.iter().position(|(known, _)| **known == **name);
                let index = known.unwrap_or_else(|| {
                    self.fields.push((name.as_str().into(), Node::default()));
                    self.fields.len() - 1
                });
                if let Some((_, node)) = self.fields.get_mut(index) {
                    node.insert(rest, column, whole);
                }
            }
            [Step::Element(number), rest @ ..] => {
                let known = self.elements.iter().position(|(known, _)| known == number);
                let index = known.unwrap_or_else(|| {
                    self.elements.push((*number, Node::default()));
                    self.elements.len() - 1
                });
                if let Some((_, node)) = self.elements.get_mut(index) {
                    node.insert(rest, column, whole);
                }
            }
        }
    }

    /// Whether only JSON columns take something here.
    pub(super) fn is_whole_only(&self) -> bool {
        self.columns.is_empty() && self.fields.is_empty() && self.elements.is_empty()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        assert_eq!(
            parse("$.a[0]"),
            Ok(vec![Step::Field("a".to_owned()), Step::Element(0)])
        );
        for bad in ["", "a", "$", "$[0]", "$.a[-1]", "$.a..b"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
