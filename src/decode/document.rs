//! Documents become rows, for formats that have objects and arrays: which column takes what, and
//! the row while it is filled. How a document is read is left to the format.
//!
//! One object is one row, an array of objects as many. Where rows lie below (`<format>.root`), the
//! columns that are mapped from the document's start are filled when its end has been seen, since
//! they may stand behind the rows.

use super::column::{Columns, Scalar};
use super::path::{self, Node, Origin};
use super::{MESSAGE_ROWS_MAX, Reason, Reject};
use crate::config::options::{OptionFault, Options};
use crate::event::{Batch, Schema, Type, Value};

/// What the options say.
#[derive(Debug)]
pub(super) struct Plan {
    /// What is of interest in a document, from its start.
    pub(super) tree: Node,
    /// What is of interest in a row's object, where rows lie below.
    pub(super) row_tree: Option<Node>,
    columns: Columns,
    /// The columns that a row's object fills, and those that the document around it does.
    inner: Vec<usize>,
    outer: Vec<usize>,
    rejects_missing: bool,
    rejects_unknown: bool,
    root: String,
}

impl Plan {
    /// # Errors
    /// The first option whose value cannot be used.
    pub(super) fn new(
        format: &str,
        columns: Columns,
        options: &Options,
    ) -> Result<Plan, OptionFault> {
        let mapping = format!("{format}.mapping.");
        columns.check_family(options, &mapping)?;
        let root_option = format!("{format}.root");
        let root = options.text(&root_option).filter(|root| *root != "$");
        let root_steps = match root {
            Some(written) => {
                let fault = |problem| OptionFault::new(&root_option, problem);
                let (origin, steps) = path::parse(written).map_err(fault)?;
                if origin == Origin::Row {
                    return Err(fault(format!("`{written}` does not begin with `$`")));
                }
                Some(steps)
            }
            None => None,
        };
        let (mut tree, mut row_tree) = (Node::default(), root.map(|_| Node::default()));
        let (mut inner, mut outer) = (Vec::new(), Vec::new());
        for (index, column) in columns.own() {
            let whole = column.ty == Type::Json;
            let option = format!("{mapping}{}", column.name);
            let (origin, steps) = match options.text(&option) {
                Some(written) => path::parse(written)
                    .map_err(|problem| OptionFault::new(option.as_str(), problem))?,
                None => (Origin::Row, vec![path::Step::Field(column.name.clone())]),
            };
            match (origin, &mut row_tree, &root_steps) {
                (Origin::Row, Some(row_tree), _) => {
                    row_tree.insert(&steps, index, whole);
                    inner.push(index);
                }
                (Origin::Document, Some(_), Some(root)) if steps.starts_with(root) => {
                    let problem = format!(
                        "lies inside of `{root_option}`, where the rows are: count from the row, \
                         as `@.{}`",
                        column.name
                    );
                    return Err(OptionFault::new(option, problem));
                }
                (Origin::Document, Some(_), _) => {
                    tree.insert(&steps, index, whole);
                    outer.push(index);
                }
                (Origin::Row | Origin::Document, None, _) => {
                    tree.insert(&steps, index, whole);
                    inner.push(index);
                }
            }
        }
        if let Some(steps) = &root_steps {
            tree.insert_rows(steps);
        }
        let set_to_reject =
            |name: &str| options.text(&format!("{format}.{name}")) == Some("reject");
        Ok(Plan {
            tree,
            row_tree,
            columns,
            inner,
            outer,
            rejects_missing: set_to_reject("missing"),
            rejects_unknown: set_to_reject("unknown"),
            root: root.unwrap_or_default().to_owned(),
        })
    }

    fn missing(&self, of: &[usize], present: &[bool]) -> Option<Reject> {
        if !self.rejects_missing {
            return None;
        }
        let missing = of
            .iter()
            .find(|column| present.get(**column) == Some(&false))?;
        let name = &self.columns.get(*missing)?.name;
        let detail = format!("no value for column `{name}`");
        Some(Reject::new(Reason::MissingField, detail))
    }
}

/// What is kept from message to message, for its memory.
#[derive(Debug)]
pub(super) struct Scratch {
    present: Vec<bool>,
    outer: Vec<Value>,
    outer_present: Vec<bool>,
}

impl Scratch {
    pub(super) fn new(schema: &Schema) -> Scratch {
        Scratch {
            present: vec![false; schema.width()],
            outer: vec![Value::Null; schema.width()],
            outer_present: vec![false; schema.width()],
        }
    }
}

/// A fault that [`Message::fault`] holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Noted;

/// A message while it is read.
pub(super) struct Message<'a> {
    pub(super) plan: &'a Plan,
    pub(super) scratch: &'a mut Scratch,
    pub(super) into: &'a mut Batch,
    pub(super) ignored: &'a mut u64,
    /// Why it has no rows.
    pub(super) fault: Option<Reject>,
    /// How many rows it may still have.
    rows_left: usize,
}

impl<'a> Message<'a> {
    pub(super) fn new(
        plan: &'a Plan,
        scratch: &'a mut Scratch,
        into: &'a mut Batch,
        ignored: &'a mut u64,
    ) -> Message<'a> {
        Message {
            plan,
            scratch,
            into,
            ignored,
            fault: None,
            rows_left: MESSAGE_ROWS_MAX,
        }
    }

    /// Makes the rows of one object of the document; `read` reads it.
    #[inline]
    pub(super) fn object<E>(
        &mut self,
        noted: fn(Noted) -> E,
        read: impl FnOnce(&'a Node, &mut Cells<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let plan = self.plan;
        if plan.row_tree.is_some() {
            return self.around(noted, read);
        }
        take_row(&mut self.rows_left, &mut self.fault).map_err(noted)?;
        self.scratch.present.fill(false);
        let mut cells = Cells {
            plan,
            row: self.into.push_null(),
            present: &mut self.scratch.present,
            fault: &mut self.fault,
            ignored: self.ignored,
            below: None,
        };
        read(&plan.tree, &mut cells)?;
        cells.end_row().map_err(noted)
    }

    /// The same where the rows lie below.
    fn around<E>(
        &mut self,
        noted: fn(Noted) -> E,
        read: impl FnOnce(&'a Node, &mut Cells<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let plan = self.plan;
        let first = self.into.len();
        let Scratch {
            present,
            outer,
            outer_present,
        } = &mut *self.scratch;
        outer.fill(Value::Null);
        outer_present.fill(false);
        let mut cells = Cells {
            plan,
            row: outer,
            present: outer_present,
            fault: &mut self.fault,
            ignored: self.ignored,
            below: Some(Below {
                into: self.into,
                present,
                first,
                rows_left: &mut self.rows_left,
                is_found: false,
            }),
        };
        read(&plan.tree, &mut cells)?;
        let is_found = cells.below.as_ref().is_some_and(|below| below.is_found);
        if !is_found && plan.rejects_missing {
            let detail = format!("nothing lies at `{}`", plan.root);
            return Err(noted(self.note(Reject::new(Reason::MissingField, detail))));
        }
        if let Some(reject) = plan.missing(&plan.outer, outer_present) {
            self.fault = Some(reject);
            return Err(noted(Noted));
        }
        for column in &plan.outer {
            if let Some(value) = outer.get(*column) {
                self.into.fill(first, *column, value);
            }
        }
        Ok(())
    }

    /// Notes a fault.
    pub(super) fn note(&mut self, reject: Reject) -> Noted {
        self.fault = Some(reject);
        Noted
    }

    /// Something else stands where the rows are expected.
    pub(super) fn not_an_event(&mut self, found: &str) -> Noted {
        self.note(not_an_event(found))
    }
}

fn not_an_event(found: &str) -> Reject {
    let detail = format!("expected an object or an array of objects, found {found}");
    Reject::new(Reason::WrongType, detail)
}

fn take_row(rows_left: &mut usize, fault: &mut Option<Reject>) -> Result<(), Noted> {
    match rows_left.checked_sub(1) {
        Some(left) => {
            *rows_left = left;
            Ok(())
        }
        None => {
            *fault = Some(super::too_many_rows());
            Err(Noted)
        }
    }
}

/// The row being filled, or the document around rows.
pub(super) struct Cells<'a> {
    pub(super) plan: &'a Plan,
    row: &'a mut [Value],
    present: &'a mut [bool],
    fault: &'a mut Option<Reject>,
    ignored: &'a mut u64,
    below: Option<Below<'a>>,
}

/// Where rows below go.
struct Below<'a> {
    into: &'a mut Batch,
    present: &'a mut [bool],
    /// How many rows there were before this document.
    first: usize,
    rows_left: &'a mut usize,
    is_found: bool,
}

impl Cells<'_> {
    /// Notes that a field that no column takes was found; an error where that is not wanted.
    /// `is_top` says that it is a field of the object that was begun last, not of one inside.
    pub(super) fn unknown(&mut self, name: &str, is_top: bool) -> Result<(), Noted> {
        if !is_top || !self.plan.rejects_unknown || self.below.is_some() {
            return Ok(());
        }
        let detail = format!("no column takes the field `{}`", super::text::excerpt(name));
        Err(self.note(Reject::new(Reason::UnknownField, detail)))
    }

    /// What the columns at `node` take that want a plain value.
    #[inline]
    pub(super) fn store(&mut self, node: &Node, scalar: Scalar<'_>) -> Result<(), Noted> {
        for column in &node.columns {
            let columns = &self.plan.columns;
            if let Err(reject) = columns.store(*column, scalar, self.row, self.ignored) {
                return Err(self.note(reject));
            }
            if let Some(present) = self.present.get_mut(*column) {
                *present = true;
            }
        }
        if node.is_rows && !matches!(scalar, Scalar::Null) {
            return Err(self.not_an_event("a plain value"));
        }
        Ok(())
    }

    /// What JSON columns at `node` take. A value that cannot be one says why.
    pub(super) fn store_whole(
        &mut self,
        node: &Node,
        value: Result<Value, Reject>,
    ) -> Result<(), Noted> {
        let value = match value {
            Ok(value) => value,
            Err(reject) => {
                let columns = &self.plan.columns;
                if let Err(reject) = columns.misfit(self.ignored, || reject) {
                    return Err(self.note(reject));
                }
                Value::Null
            }
        };
        for column in &node.whole {
            if let (Some(cell), Some(present)) =
                (self.row.get_mut(*column), self.present.get_mut(*column))
            {
                *cell = value.clone();
                *present = true;
            }
        }
        Ok(())
    }

    /// The columns at `node` want a plain value, and there is an object or an array.
    #[inline]
    pub(super) fn refuse_nested(&mut self, node: &Node, found: &str) -> Result<(), Noted> {
        for index in &node.columns {
            let Some(column) = self.plan.columns.get(*index) else {
                continue;
            };
            let reject = || column.reject_found(Reason::WrongType, found);
            if let Err(reject) = self.plan.columns.misfit(self.ignored, reject) {
                return Err(self.note(reject));
            }
            if let (Some(cell), Some(present)) =
                (self.row.get_mut(*index), self.present.get_mut(*index))
            {
                *cell = Value::Null;
                *present = true;
            }
        }
        Ok(())
    }

    /// The place of the rows is reached. Of two such places with one name the last counts.
    pub(super) fn begin_below(&mut self) {
        if let Some(below) = &mut self.below {
            below.is_found = true;
            while below.into.len() > below.first {
                below.into.pop();
            }
        }
    }

    /// Makes a row below of an object; `read` reads it.
    pub(super) fn object_below<E>(
        &mut self,
        noted: fn(Noted) -> E,
        read: impl FnOnce(&Node, &mut Cells<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let (Some(below), Some(tree)) = (&mut self.below, &self.plan.row_tree) else {
            return Ok(());
        };
        take_row(below.rows_left, self.fault).map_err(noted)?;
        below.present.fill(false);
        let mut cells = Cells {
            plan: self.plan,
            row: below.into.push_null(),
            present: below.present,
            fault: self.fault,
            ignored: self.ignored,
            below: None,
        };
        read(tree, &mut cells)?;
        cells.end_row().map_err(noted)
    }

    /// Something else stands where the rows are expected.
    pub(super) fn not_an_event(&mut self, found: &str) -> Noted {
        self.note(not_an_event(found))
    }

    fn end_row(&mut self) -> Result<(), Noted> {
        match self.plan.missing(&self.plan.inner, self.present) {
            Some(reject) => Err(self.note(reject)),
            None => Ok(()),
        }
    }

    fn note(&mut self, reject: Reject) -> Noted {
        *self.fault = Some(reject);
        Noted
    }
}
