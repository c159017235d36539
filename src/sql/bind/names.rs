//! Names in expressions: columns, the sources that have them, and what SELECT calls its columns.

use sqlparser::ast;

use super::super::functions::Reads;
use super::super::parse::place_of;
use super::super::plan::{Expr, ExprKind};
use super::expr::{Bound, Scope};
use crate::diagnostic::did_you_mean;
use crate::event::Schema;

/// A source of columns.
#[derive(Clone, Copy)]
pub(super) struct Named<'a> {
    /// Its alias and its name. Where there is an alias, it is what messages call it.
    pub(super) names: [Option<&'a str>; 2],
    pub(super) schema: &'a Schema,
    /// The place of its first column among those of all sources.
    pub(super) first: usize,
    /// What it is: stream, table and so on.
    pub(super) what: &'static str,
    /// Whether its columns are found without its name before them.
    pub(super) alone: bool,
}

impl<'a> Named<'a> {
    pub(super) fn shown(&self) -> &'a str {
        self.names
            .iter()
            .flatten()
            .next()
            .copied()
            .unwrap_or_default()
    }
}
impl<'s> Scope<'s> {
    /// The source that is called `name`: by its alias, or by its own name where only one has it.
    pub(super) fn source_named(&self, name: &str) -> Option<&'s Named<'s>> {
        let shown = self.sources.iter().find(|source| source.shown() == name);
        let mut own = self.sources_of(name);
        shown.or_else(|| own.next().filter(|_| own.next().is_none()))
    }

    /// The sources that read what is called `name`, whatever their aliases are.
    fn sources_of(&self, name: &str) -> impl Iterator<Item = &'s Named<'s>> {
        let called = move |source: &&Named<'_>| source.names.contains(&Some(name));
        self.sources.iter().filter(called)
    }

    pub(super) fn column(&mut self, stream: Option<&ast::Ident>, name: &ast::Ident) -> Bound {
        let sources = match stream {
            Some(stream) => match self.source_named(&stream.value) {
                Some(source) => std::slice::from_ref(source),
                None => return self.unknown_source(stream),
            },
            None => {
                let named = self.sources.iter().position(|source| !source.alone);
                self.sources
                    .get(..named.unwrap_or(self.sources.len()))
                    .unwrap_or_default()
            }
        };
        if let (None, true) = (stream, self.aliases_first) {
            if let Some(bound) = self.alias(name) {
                return bound;
            }
        }
        let mut found = sources.iter().filter_map(|source| {
            let index = source.schema.index_of(&name.value)?;
            Some((source, index, source.schema.fields().get(index)?.ty))
        });
        if let Some((source, index, ty)) = found.next() {
            if let Some((other, ..)) = found.next() {
                let (a, b) = (source.shown(), other.shown());
                let column = &name.value;
                if a.is_empty() || b.is_empty() {
                    let message = format!("column '{column}' is in several elements");
                    let hint = Some("give each an alias: e1=S".to_owned());
                    return self.fail_with(place_of(name.span), message, hint);
                }
                let message = format!("column '{column}' is in both '{a}' and '{b}'");
                let hint = Some(format!("write {a}.{column} or {b}.{column}"));
                return self.fail_with(place_of(name.span), message, hint);
            }
            return Ok(Expr {
                kind: ExprKind::Column(source.first + index),
                ty,
            });
        }
        if stream.is_none() {
            if let Some(bound) = self.alias(name) {
                return bound;
            }
        }
        self.progress.unknown.set(true);
        let columns = sources.iter().flat_map(|source| source.schema.fields());
        let columns = columns.map(|field| field.name.as_str());
        let aliases = self.aliases.iter().map(|(alias, _)| alias.as_str());
        let hint = did_you_mean(&name.value, columns.chain(aliases));
        let message = match sources {
            [source] => format!(
                "unknown column '{}' in {} '{}'",
                name.value,
                source.what,
                source.shown()
            ),
            [] => format!("unknown column '{}': no row is taken here", name.value),
            _ => {
                let names: Vec<String> = sources
                    .iter()
                    .map(|source| format!("'{}'", source.shown()))
                    .collect();
                format!("unknown column '{}' in {}", name.value, names.join(", "))
            }
        };
        self.fail_with(place_of(name.span), message, hint)
    }

    pub(super) fn unknown_source(&mut self, stream: &ast::Ident) -> Bound {
        if let Some(refused) = self.hidden_element(stream) {
            return refused;
        }
        self.progress.unknown.set(true);
        let several: Vec<&str> = self.sources_of(&stream.value).map(Named::shown).collect();
        if let [first, .., last] = several.as_slice() {
            let hint = Some(format!("write {first} or {last}"));
            let message = format!("'{}' is read more than once here", stream.value);
            return self.fail_with(place_of(stream.span), message, hint);
        }
        let known = self.sources.iter().flat_map(|source| source.names);
        let hint = did_you_mean(&stream.value, known.flatten());
        let message = format!("unknown stream or alias '{}'", stream.value);
        self.fail_with(place_of(stream.span), message, hint)
    }

    fn alias(&mut self, name: &ast::Ident) -> Option<Bound> {
        let (_, expr) = self
            .aliases
            .iter()
            .find(|(alias, _)| *alias == name.value)?;
        // A copy may be as large as what one statement binds.
        let steps = &self.progress.steps;
        steps.set(steps.get() + 10);
        let mut draws = None;
        expr.walk(&mut |expr| match expr.kind {
            ExprKind::Call(function, _) if function.reads == Reads::Position => {
                draws = function.names.first();
            }
            _ => {}
        });
        if let Some(function) = draws {
            let message = format!(
                "'{}' would not be the same here: {function} gives another",
                name.value
            );
            let hint = Some("compute it in a subquery".to_owned());
            return Some(self.fail_with(place_of(name.span), message, hint));
        }
        Some(Ok(expr.clone()))
    }
}
