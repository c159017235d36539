//! Where in a document the columns lie: paths such as `$.a.b[0].c`, joined into a tree that is
//! walked while the document is read.

/// One step into a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Into an object.
    Field(String),
    /// Into an array.
    Element(usize),
}

/// Reads `$.a.b[0].c`; a name with other characters is written `['a name']`.
///
/// # Errors
/// What is wrong with it.
pub(super) fn parse(path: &str) -> Result<Vec<Step>, String> {
    let Some(mut rest) = path.strip_prefix('$') else {
        return Err(format!("`{path}` does not begin with `$`"));
    };
    let mut steps = Vec::new();
    while !rest.is_empty() {
        let (step, after) = if let Some(name) = rest.strip_prefix('.') {
            let end = name.find(['.', '[']).unwrap_or(name.len());
            let (name, after) = name.split_at(end);
            if name.is_empty() {
                return Err(format!("`{path}` has an empty name"));
            }
            (Step::Field(name.to_owned()), after)
        } else if let Some(inner) = rest.strip_prefix("['") {
            let (name, after) = inner
                .split_once("']")
                .ok_or_else(|| format!("`{path}` has a `['` without `']`"))?;
            (Step::Field(name.to_owned()), after)
        } else if let Some(inner) = rest.strip_prefix('[') {
            let (index, after) = inner
                .split_once(']')
                .ok_or_else(|| format!("`{path}` has a `[` without `]`"))?;
            let index = index
                .parse()
                .map_err(|_| format!("`[{index}]` in `{path}` is not an element number"))?;
            (Step::Element(index), after)
        } else {
            return Err(format!("expected `.` or `[` before `{rest}` in `{path}`"));
        };
        steps.push(step);
        rest = after;
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
    /// What is of interest inside, when the value is an object. Usually in the order in which the
    /// columns were defined, which is often the order in which devices write them.
    pub(super) fields: Vec<(Box<str>, Node)>,
    /// What is of interest inside, when the value is an array.
    pub(super) elements: Vec<(usize, Node)>,
}

impl Node {
    /// Has `column` take the value at `steps`.
    pub(super) fn insert(&mut self, steps: &[Step], column: usize) {
        match steps {
            [] => self.columns.push(column),
            [Step::Field(name), rest @ ..] => {
                let known = self.fields.iter().position(|(known, _)| **known == **name);
                let index = known.unwrap_or_else(|| {
                    self.fields.push((name.as_str().into(), Node::default()));
                    self.fields.len() - 1
                });
                if let Some((_, node)) = self.fields.get_mut(index) {
                    node.insert(rest, column);
                }
            }
            [Step::Element(number), rest @ ..] => {
                let known = self.elements.iter().position(|(known, _)| known == number);
                let index = known.unwrap_or_else(|| {
                    self.elements.push((*number, Node::default()));
                    self.elements.len() - 1
                });
                if let Some((_, node)) = self.elements.get_mut(index) {
                    node.insert(rest, column);
                }
            }
        }
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
        let field = |name: &str| Step::Field(name.to_owned());
        assert_eq!(parse("$.a"), Ok(vec![field("a")]));
        assert_eq!(
            parse("$.a.b[0]['c d'].e"),
            Ok(vec![
                field("a"),
                field("b"),
                Step::Element(0),
                field("c d"),
                field("e")
            ])
        );
        for bad in [
            "", "a", "$", "$[0]", "$.", "$.a[", "$.a[x]", "$.a[-1]", "$.a..b", "$a", "$['a",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
