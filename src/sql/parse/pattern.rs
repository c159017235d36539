//! `PATTERN (…)` and `SEQUENCE (…)`.
//!
//! ```text
//! pattern  = ("PATTERN" | "SEQUENCE") "(" chain [within] ")" {within | skip}
//! chain    = logical {("->" | ",") logical}             a comma in a SEQUENCE only
//! logical  = unit {"AND" unit} | unit {"OR" unit}
//! unit     = ["EVERY"] (element | "(" chain ")") | "NOT" element ["FOR" span]
//! element  = [alias "="] stream {"[" condition "]" | quantifier | "AS" alias}      each once
//! within   = "WITHIN" (span | n "EVENTS")
//! skip     = "AFTER" "MATCH" "SKIP" ("PAST" "LAST" "ROW" | "TO" "NEXT" "ROW")
//! ```

use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::super::ast::{Name, Pattern, PatternElement, PatternNode, PatternWhat, Quantifier};
use super::super::plan::{PatternKind, Skip, Within};
use super::{Parsed, StatementParser};
use crate::diagnostic::{Diagnostic, Place};

/// Words that mean something in a pattern, so that a stream of that name must be quoted.
const WORDS: [&str; 8] = ["EVERY", "NOT", "AND", "OR", "FOR", "AS", "WITHIN", "AFTER"];

/// What makes one piece of several.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Joint {
    Chain,
    All,
    Any,
}

impl StatementParser<'_> {
    /// Whether `PATTERN (` or `SEQUENCE (` comes next.
    pub(super) fn peek_pattern(&self) -> bool {
        (self.peek_word("PATTERN") || self.peek_word("SEQUENCE")) && self.nth_is(1, &Token::LParen)
    }

    /// A pattern, up to the clauses of the query.
    pub(super) fn pattern(&mut self) -> Parsed<Pattern> {
        let place = self.here();
        let kind = if self.word("SEQUENCE") {
            PatternKind::Sequence
        } else {
            self.expect_word("PATTERN")?;
            PatternKind::Pattern
        };
        self.token(&Token::LParen)?;
        let root = self.chain(kind)?;
        let mut pattern = Pattern {
            kind,
            root,
            within: None,
            skip: None,
            order_by: None,
            place,
        };
        self.within(&mut pattern)?;
        if self.peek_word("AFTER") {
            let fault = self.error_here("AFTER MATCH SKIP does not belong inside the parentheses");
            return Err(fault.with_hint("write it behind them"));
        }
        if pattern.within.is_some() {
            self.token(&Token::RParen)?;
        } else {
            self.end_of_group(kind)?;
        }
        self.no_quantifier_of_a_group()?;
        while self.within(&mut pattern)? || self.after_match(&mut pattern)? {}
        self.nothing_of_a_source()?;
        Ok(pattern)
    }

    /// `WITHIN span`, `WITHIN n EVENTS`; whether it was there.
    fn within(&mut self, pattern: &mut Pattern) -> Parsed<bool> {
        let place = self.here();
        if !self.word("WITHIN") {
            return Ok(false);
        }
        let within = self.within_bound()?;
        if pattern.within.replace((within, place)).is_some() {
            let message = "the pattern has a WITHIN already";
            return Err(Diagnostic::error(self.path, place, message));
        }
        Ok(true)
    }

    /// Behind WITHIN.
    pub(super) fn within_bound(&mut self) -> Parsed<Within> {
        if !self.counts_events() {
            return self.span_ms().map(Within::Time);
        }
        let place = self.here();
        let count = self.sql(Parser::parse_literal_uint)?;
        self.parser.advance_token();
        if count == 0 {
            let message = "WITHIN needs at least 1 event";
            return Err(Diagnostic::error(self.path, place, message));
        }
        Ok(Within::Events(count))
    }

    /// `AFTER MATCH SKIP …`; whether it was there.
    fn after_match(&mut self, pattern: &mut Pattern) -> Parsed<bool> {
        let place = self.here();
        let Some(skip) = self.skip()? else {
            return Ok(false);
        };
        if pattern.skip.replace((skip, place)).is_some() {
            let message = "the pattern has an AFTER MATCH SKIP already";
            return Err(Diagnostic::error(self.path, place, message));
        }
        Ok(true)
    }

    /// `AFTER MATCH SKIP …`, if it comes next.
    pub(super) fn skip(&mut self) -> Parsed<Option<Skip>> {
        if !self.word("AFTER") {
            return Ok(None);
        }
        self.expect_word("MATCH")?;
        self.expect_word("SKIP")?;
        let (words, skip) = if self.word("PAST") {
            (["LAST", "ROW"], Skip::PastLastRow)
        } else if self.word("TO") {
            (["NEXT", "ROW"], Skip::ToNextRow)
        } else {
            return Err(self.expected("PAST LAST ROW or TO NEXT ROW"));
        };
        for word in words {
            if !self.word(word) {
                let fault = self.expected(word);
                let hint = "AFTER MATCH SKIP PAST LAST ROW and AFTER MATCH SKIP TO NEXT ROW are \
                            supported";
                return Err(fault.with_hint(hint));
            }
        }
        Ok(Some(skip))
    }

    /// Whether what comes next tries to read the pattern like a stream.
    fn nothing_of_a_source(&self) -> Parsed<()> {
        if self.peek_word("AS") {
            let fault = self.error_here("a pattern has no alias");
            return Err(fault.with_hint("its elements have: e1=S"));
        }
        if self.peek_word("WINDOW") {
            let fault = self.error_here("a pattern has no WINDOW");
            return Err(fault.with_hint("let another query read its matches through a window"));
        }
        let joins = ["JOIN", "LEFT", "RIGHT", "FULL", "INNER", "CROSS", "NATURAL"];
        let joined = joins.iter().any(|word| self.peek_word(word));
        if joined || self.peek() == Token::Comma {
            return Err(self.no_join_of_patterns());
        }
        Ok(())
    }

    pub(super) fn no_join_of_patterns(&self) -> Diagnostic {
        let fault = self.error_here("a pattern cannot be joined");
        fault.with_hint("let another query join its matches")
    }

    /// `a -> b -> c`.
    fn chain(&mut self, kind: PatternKind) -> Parsed<PatternNode> {
        let mut nodes = vec![self.logical(kind)?];
        loop {
            if self.peek() == Token::Comma && kind == PatternKind::Pattern {
                let fault = self.error_here("a comma between elements belongs to a SEQUENCE");
                return Err(fault.with_hint("in a PATTERN write '->'"));
            }
            let next = self.parser.consume_token(&Token::Arrow)
                || self.parser.consume_token(&Token::Comma);
            if !next {
                return Ok(joined(Joint::Chain, nodes));
            }
            nodes.push(self.logical(kind)?);
        }
    }

    /// `a AND b AND c`, `a OR b OR c`.
    fn logical(&mut self, kind: PatternKind) -> Parsed<PatternNode> {
        let mut nodes = vec![self.unit(kind)?];
        let mut joint = None;
        loop {
            let next = if self.peek_word("AND") {
                Joint::All
            } else if self.peek_word("OR") {
                Joint::Any
            } else {
                return Ok(joined(joint.unwrap_or(Joint::All), nodes));
            };
            if *joint.get_or_insert(next) != next {
                let fault = self.error_here("AND and OR are mixed without parentheses");
                return Err(fault.with_hint("write (A AND B) OR C, or A AND (B OR C)"));
            }
            self.parser.advance_token();
            nodes.push(self.unit(kind)?);
        }
    }

    /// What stands between arrows, AND and OR.
    fn unit(&mut self, kind: PatternKind) -> Parsed<PatternNode> {
        let place = self.here();
        if self.word("EVERY") {
            if self.peek_word("EVERY") || self.peek_word("NOT") {
                let message = "EVERY stands before an element or a group in parentheses";
                let hint = match self.peek_word("NOT") {
                    true => "write EVERY (NOT …)",
                    false => "one EVERY is enough",
                };
                return Err(self.error_here(message).with_hint(hint));
            }
            let what = PatternWhat::Every(Box::new(self.element_or_group(kind)?));
            return Ok(PatternNode { what, place });
        }
        if self.word("NOT") {
            let what = self.absent()?;
            return Ok(PatternNode { what, place });
        }
        self.element_or_group(kind)
    }

    fn element_or_group(&mut self, kind: PatternKind) -> Parsed<PatternNode> {
        let place = self.here();
        if self.parser.consume_token(&Token::LParen) {
            let group = self.nested("parentheses", |parser| parser.chain(kind))?;
            for word in ["WITHIN", "AFTER"] {
                if self.peek_word(word) {
                    let message = format!("{word} does not belong inside a group");
                    let hint = "it is for the whole pattern: write it at the end";
                    return Err(self.error_here(message).with_hint(hint));
                }
            }
            self.end_of_group(kind)?;
            self.no_quantifier_of_a_group()?;
            return Ok(group);
        }
        let what = PatternWhat::Element(self.element()?);
        if self.peek_word("FOR") {
            let fault = self.error_here("FOR belongs to an element that must not come");
            return Err(fault.with_hint("write NOT A FOR 5 SECONDS"));
        }
        Ok(PatternNode { what, place })
    }

    fn end_of_group(&mut self, kind: PatternKind) -> Parsed<()> {
        if self.parser.consume_token(&Token::RParen) {
            return Ok(());
        }
        Err(self.expected(match kind {
            PatternKind::Pattern => "'->', AND, OR or ')'",
            PatternKind::Sequence => "'->', ',', AND, OR or ')'",
        }))
    }

    pub(super) fn no_quantifier_of_a_group(&mut self) -> Parsed<()> {
        if self.peek_quantifier() {
            let fault = self.error_here("a quantifier behind a group is not supported");
            let hint = "give its elements quantifiers of their own, or write the group out";
            return Err(fault.with_hint(hint));
        }
        Ok(())
    }

    /// Behind NOT.
    fn absent(&mut self) -> Parsed<PatternWhat> {
        if self.peek() == Token::LParen || self.peek_word("EVERY") || self.peek_word("NOT") {
            return Err(self.error_here("NOT stands before one element"));
        }
        let element = self.element()?;
        if let Some(quantifier) = element.quantifier {
            let message = "an element that must not come has no quantifier";
            return Err(Diagnostic::error(self.path, quantifier.place, message));
        }
        let for_ms = match self.word("FOR") {
            true => Some(self.span_ms()?),
            false => None,
        };
        Ok(PatternWhat::Absent(element, for_ms))
    }

    fn element(&mut self) -> Parsed<PatternElement> {
        let mut element = PatternElement {
            stream: self.element_name()?,
            alias: None,
            condition: None,
            quantifier: None,
        };
        if self.parser.consume_token(&Token::Eq) {
            let stream = self.element_name()?;
            element.alias = Some(std::mem::replace(&mut element.stream, stream));
        }
        loop {
            let place = self.here();
            let again = if self.peek_word("AS") {
                let alias = self.element_alias()?;
                element.alias.replace(alias).map(|_| "an alias")
            } else if self.peek() == Token::LBracket {
                let condition = self.condition()?;
                element.condition.replace(condition).map(|_| "a condition")
            } else if self.peek_quantifier() {
                let quantifier = self.quantifier()?;
                let known = element.quantifier.replace(quantifier);
                known.map(|_| "a quantifier")
            } else {
                return Ok(element);
            };
            if let Some(what) = again {
                let message = format!("the element has {what} already");
                return Err(Diagnostic::error(self.path, place, message));
            }
        }
    }

    fn element_name(&mut self) -> Parsed<Name> {
        const WHAT: &str = "an element such as e1=S[a > 5]";
        if WORDS.iter().any(|word| self.peek_word(word)) {
            return Err(self.expected(WHAT));
        }
        self.name(WHAT)
    }

    fn element_alias(&mut self) -> Parsed<Name> {
        self.expect_word("AS")?;
        self.name("an alias")
    }

    fn condition(&mut self) -> Parsed<sqlparser::ast::Expr> {
        self.token(&Token::LBracket)?;
        if self.peek() == Token::RBracket {
            let fault = self.expected("a condition");
            return Err(fault.with_hint("leave out the brackets when each row fits"));
        }
        let condition = self.sql(Parser::parse_expr)?;
        if !self.parser.consume_token(&Token::RBracket) {
            return Err(self.expected("an operator or ']'"));
        }
        Ok(condition)
    }

    pub(super) fn peek_quantifier(&self) -> bool {
        match self.peek() {
            Token::LBrace | Token::Plus | Token::Mul => true,
            Token::Placeholder(text) => text == "?",
            _ => false,
        }
    }

    /// `+`, `*`, `?` or `{…}`.
    pub(super) fn quantifier(&mut self) -> Parsed<Quantifier> {
        let place = self.here();
        let short = match self.peek() {
            Token::Plus => Some((1, None)),
            Token::Mul => Some((0, None)),
            Token::Placeholder(_) => Some((0, Some(1))),
            _ => None,
        };
        let (min, max) = match short {
            Some(bounds) => {
                self.parser.advance_token();
                bounds
            }
            None => self.braces()?,
        };
        let fault = |message: String| Diagnostic::error(self.path, place, message);
        match max {
            Some(0) => {
                let fault = fault("the element would take no row".to_owned());
                Err(fault.with_hint("for a row that must not come write NOT before the element"))
            }
            Some(max) if max < min => {
                let fault = fault(format!("the least number of rows, {min}, is above {max}"));
                Err(fault.with_hint(format!("write {{{max},{min}}}")))
            }
            Some(_) | None => Ok(Quantifier { min, max, place }),
        }
    }

    /// `{n}`, `{m,n}`, `{m,}`, `{,n}`.
    fn braces(&mut self) -> Parsed<(u64, Option<u64>)> {
        self.token(&Token::LBrace)?;
        let min = self.row_count()?;
        let max = if self.parser.consume_token(&Token::Comma) {
            let max = self.row_count()?;
            if (min, max) == (None, None) {
                return Err(self.expected("a number of rows"));
            }
            max
        } else if min.is_none() {
            return Err(self.expected("a number of rows"));
        } else {
            min
        };
        self.token(&Token::RBrace)?;
        Ok((min.unwrap_or(0), max))
    }

    /// A number of rows, if a number comes next.
    fn row_count(&mut self) -> Parsed<Option<u64>> {
        let Token::Number(digits, false) = self.peek() else {
            return Ok(None);
        };
        let Ok(count) = digits.parse() else {
            return Err(self.expected("a whole number of rows"));
        };
        self.parser.advance_token();
        Ok(Some(count))
    }
}

fn is_absent(node: &PatternNode) -> bool {
    matches!(node.what, PatternWhat::Absent(..))
}

/// One piece of several: a group of the same kind inside it says the same without parentheses.
pub(super) fn joined(joint: Joint, nodes: Vec<PatternNode>) -> PatternNode {
    let mut place = Place::default();
    let mut flat = Vec::new();
    let count = nodes.len();
    for (index, node) in nodes.into_iter().enumerate() {
        if index == 0 {
            place = node.place;
        }
        match (joint, node.what) {
            (Joint::Chain, PatternWhat::Chain(inner)) | (Joint::Any, PatternWhat::Any(inner)) => {
                flat.extend(inner)
            }
            // An absence looks at rows until what stands beside it is done.
            (Joint::All, PatternWhat::All(inner)) if !inner.iter().any(is_absent) => {
                flat.extend(inner);
            }
            (_, what) if count == 1 => return PatternNode { what, place },
            (_, what) => flat.push(PatternNode {
                what,
                place: node.place,
            }),
        }
    }
    let what = match joint {
        Joint::Chain => PatternWhat::Chain(flat),
        Joint::All => PatternWhat::All(flat),
        Joint::Any => PatternWhat::Any(flat),
    };
    PatternNode { what, place }
}
