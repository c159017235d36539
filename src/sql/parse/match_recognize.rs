//! `FROM stream MATCH_RECOGNIZE (…)` of SQL:2016, rewritten into a subquery over a SEQUENCE.
//!
//! ```text
//! FROM S MATCH_RECOGNIZE (
//!   PARTITION BY k ORDER BY t                   (SELECT A.k AS k, B[0].x AS y
//!   MEASURES FIRST(B.x) AS y              is     FROM SEQUENCE (EVERY A=S[…] -> B=S[…]+)
//!   PATTERN (A B+) DEFINE A AS …, B AS …)        AFTER MATCH SKIP PAST LAST ROW PARTITION BY k)
//! ```
//!
//! A match can begin at each row, as the standard has it, which goes back to the second row of what
//! broke; which matches are told is left to AFTER MATCH SKIP.
//!
//! A reluctant quantifier (`+?`) is read like its greedy one: with us what follows may always take
//! the row first, and a match is told as early as it is certain.

use sqlparser::ast::{Expr, Ident, SelectItem};
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan};

use super::super::ast::{From, Name, Pattern, PatternElement, PatternNode, PatternWhat, Select};
use super::super::plan::{PatternKind, Skip};
use super::measure::{Clause, Rows, Variable, key_tokens};
use super::pattern::{Joint, joined};
use super::{Parsed, StatementParser};
use crate::diagnostic::{Diagnostic, Place, did_you_mean};

/// `expression AS name`, not yet parsed: what it may say depends on the pattern, which follows.
type Measure = (Vec<TokenWithSpan>, Name);

/// What PATTERN says.
struct Variables<'a> {
    stream: &'a Name,
    found: Vec<Variable>,
}

impl StatementParser<'_> {
    /// Whether `MATCH_RECOGNIZE (` comes next.
    pub(super) fn peek_match_recognize(&self) -> bool {
        self.peek_word("MATCH_RECOGNIZE") && self.nth_is(1, &Token::LParen)
    }

    /// Behind the stream's name.
    pub(super) fn match_recognize(&mut self, stream: &Name) -> Parsed<Select> {
        let place = self.here();
        self.expect_word("MATCH_RECOGNIZE")?;
        self.token(&Token::LParen)?;
        let keys = self.match_keys()?;
        let order_by = self.match_order()?;
        let measures = self.measures(keys.is_empty())?;
        self.one_row_per_match()?;
        let skip_place = self.here();
        let skip = match self.skip()? {
            Some(skip) => (skip, skip_place),
            None => (Skip::PastLastRow, place),
        };
        self.expect_word("PATTERN")?;
        let mut variables = Variables {
            stream,
            found: Vec::new(),
        };
        self.token(&Token::LParen)?;
        let mut root = self.alternatives(&mut variables, true)?;
        self.end_of_variables()?;
        let within_place = self.here();
        let within = match self.word("WITHIN") {
            true => Some((self.within_bound()?, within_place)),
            false => None,
        };
        if self.peek_word("SUBSET") {
            let fault = self.error_here("SUBSET is not supported");
            return Err(fault.with_hint("name each variable by itself"));
        }
        self.definitions(&mut root, &variables.found, &keys)?;
        self.token(&Token::RParen)?;
        let pattern = Pattern {
            kind: PatternKind::Sequence,
            root: repeated(root, skip.0),
            within,
            skip: Some(skip),
            order_by,
            place,
        };
        let mut select = Select::new(From::Pattern(Box::new(pattern)), place);
        select.items = self.match_items(&keys, &measures, &variables.found)?;
        let columns = keys.iter().map(|key| Expr::Identifier(ident(key)));
        select.partition_by = columns.collect();
        Ok(select)
    }

    /// `PARTITION BY column, …`.
    fn match_keys(&mut self) -> Parsed<Vec<Name>> {
        let mut keys = Vec::new();
        if !self.word("PARTITION") {
            return Ok(keys);
        }
        self.expect_word("BY")?;
        loop {
            keys.push(self.name("a column of the stream")?);
            if matches!(self.peek(), Token::Period | Token::LParen) {
                let message = "PARTITION BY of MATCH_RECOGNIZE takes columns of the stream";
                let hint = "compute the key in a query before it";
                return Err(self.error_here(message).with_hint(hint));
            }
            if !self.parser.consume_token(&Token::Comma) {
                return Ok(keys);
            }
        }
    }

    /// `ORDER BY time`.
    fn match_order(&mut self) -> Parsed<Option<Expr>> {
        if !self.word("ORDER") {
            return Ok(None);
        }
        self.expect_word("BY")?;
        let expr = self.sql(Parser::parse_expr)?;
        let _ascending_is_the_default = self.word("ASC");
        if self.peek_word("DESC") {
            return Err(self.error_here("rows come in the order of their time, not backwards"));
        }
        if self.peek() == Token::Comma {
            return Err(self.error_here("ORDER BY of MATCH_RECOGNIZE takes the time alone"));
        }
        Ok(Some(expr))
    }

    /// `MEASURES expression AS name, …`.
    fn measures(&mut self, needed: bool) -> Parsed<Vec<Measure>> {
        let mut measures = Vec::new();
        if !self.word("MEASURES") {
            return match needed {
                true => Err(self.expected("MEASURES and what is told of a match")),
                false => Ok(measures),
            };
        }
        loop {
            let tokens = self.tokens_up_to(Some("AS"));
            if tokens.is_empty() {
                return Err(self.expected("an expression"));
            }
            if !self.word("AS") {
                return Err(self.expected("AS and the name of the measure"));
            }
            let name = self.name("the name of the measure")?;
            measures.push((tokens, name));
            if !self.parser.consume_token(&Token::Comma) {
                return Ok(measures);
            }
        }
    }

    fn one_row_per_match(&mut self) -> Parsed<()> {
        if self.peek_word("ALL") {
            let fault = self.error_here("ALL ROWS PER MATCH is not supported");
            return Err(fault.with_hint("write ONE ROW PER MATCH, and measures"));
        }
        if self.word("ONE") {
            for word in ["ROW", "PER", "MATCH"] {
                self.expect_word(word)?;
            }
        }
        Ok(())
    }

    /// `A B | C`. What stands beside `|` need not come in a match.
    fn alternatives(&mut self, variables: &mut Variables, certain: bool) -> Parsed<PatternNode> {
        let first = variables.found.len();
        let mut nodes = vec![self.one_after_another(variables, certain)?];
        while self.parser.consume_token(&Token::Pipe) {
            nodes.push(self.one_after_another(variables, false)?);
        }
        if nodes.len() > 1 {
            for variable in variables.found.iter_mut().skip(first) {
                variable.certain = false;
            }
        }
        Ok(joined(Joint::Any, nodes))
    }

    /// `A B C`.
    fn one_after_another(
        &mut self,
        variables: &mut Variables,
        certain: bool,
    ) -> Parsed<PatternNode> {
        let mut nodes = Vec::new();
        loop {
            self.not_in_patterns()?;
            let word = matches!(self.peek(), Token::Word(_));
            if !nodes.is_empty() && !word && self.peek() != Token::LParen {
                return Ok(joined(Joint::Chain, nodes));
            }
            if self.parser.consume_token(&Token::LParen) {
                let group = self.nested("parentheses", |parser| {
                    parser.alternatives(variables, certain)
                })?;
                self.end_of_variables()?;
                self.not_in_patterns()?;
                self.no_quantifier_of_a_group()?;
                nodes.push(group);
            } else {
                nodes.push(self.variable(variables, certain)?);
            }
        }
    }

    /// Behind the pieces of a group.
    fn end_of_variables(&mut self) -> Parsed<()> {
        if self.parser.consume_token(&Token::RParen) {
            return Ok(());
        }
        Err(self.expected("a variable, '|' or ')'"))
    }

    /// What the standard has in a PATTERN and we have not.
    fn not_in_patterns(&self) -> Parsed<()> {
        let (message, hint) = match self.peek() {
            Token::LBrace if self.nth_is(1, &Token::Minus) => (
                "an exclusion {- … -} is not supported",
                "with ONE ROW PER MATCH leave out the braces",
            ),
            Token::Caret => (
                "the anchor ^ is not supported",
                "a stream has no first row of a partition",
            ),
            Token::Placeholder(text) if text.starts_with('$') => (
                "the anchor $ is not supported",
                "a stream has no last row of a partition",
            ),
            Token::Word(_) if self.peek_word("PERMUTE") && self.nth_is(1, &Token::LParen) => (
                "PERMUTE is not supported",
                "write the orders out: (A B | B A) needs variables of their own in each",
            ),
            _ => return Ok(()),
        };
        Err(self.error_here(message).with_hint(hint))
    }

    fn variable(&mut self, variables: &mut Variables, certain: bool) -> Parsed<PatternNode> {
        let name = self.name("a variable")?;
        let place = name.place;
        if variables.found.iter().any(|one| one.name.text == name.text) {
            let message = format!("variable '{}' stands twice in the pattern", name.text);
            let fault = Diagnostic::error(self.path, place, message);
            return Err(fault.with_hint("use another name and DEFINE it alike"));
        }
        self.not_in_patterns()?;
        let mut quantifier = None;
        if self.peek_quantifier() {
            quantifier = Some(self.quantifier()?);
            let reluctant = Token::Placeholder("?".to_owned());
            let _read_like_the_greedy_one = self.parser.consume_token(&reluctant);
            if self.peek_quantifier() && !self.nth_is(1, &Token::Minus) {
                return Err(self.error_here("the variable has a quantifier already"));
            }
        }
        variables.found.push(Variable {
            name: name.clone(),
            several: quantifier.is_some(),
            certain: certain && quantifier.is_none_or(|quantifier| quantifier.min > 0),
        });
        let element = PatternElement {
            stream: variables.stream.clone(),
            alias: Some(name),
            condition: None,
            quantifier,
        };
        let what = PatternWhat::Element(element);
        Ok(PatternNode { what, place })
    }

    /// `DEFINE A AS condition, …`. A variable that is not there takes any row.
    fn definitions(
        &mut self,
        root: &mut PatternNode,
        variables: &[Variable],
        keys: &[Name],
    ) -> Parsed<()> {
        if !self.word("DEFINE") {
            return Ok(());
        }
        loop {
            let name = self.name("a variable of the pattern")?;
            let Some(element) = element_called(root, &name.text) else {
                let message = format!("variable '{}' is not in the pattern", name.text);
                let known = variables.iter().map(|one| one.name.text.as_str());
                let hint = did_you_mean(&name.text, known);
                return Err(Diagnostic::error(self.path, name.place, message).with_hint_if(hint));
            };
            self.expect_word("AS")?;
            let tokens = self.tokens_up_to(None);
            let rows = Rows {
                variables,
                keys,
                clause: Clause::Define(&name),
            };
            let condition = self.row_expression(&tokens, &rows)?;
            if element.condition.replace(condition).is_some() {
                let message = format!("variable '{}' is defined twice", name.text);
                return Err(Diagnostic::error(self.path, name.place, message));
            }
            if !self.parser.consume_token(&Token::Comma) {
                return Ok(());
            }
        }
    }

    /// What is told of a match: the columns of PARTITION BY, and the measures behind them.
    fn match_items(
        &self,
        keys: &[Name],
        measures: &[Measure],
        variables: &[Variable],
    ) -> Parsed<Vec<SelectItem>> {
        let mut items = Vec::new();
        for key in keys {
            let tokens = key_tokens(variables, key).into_iter();
            let span = span_of(key.place);
            let tokens: Vec<_> = tokens.map(|one| TokenWithSpan::new(one, span)).collect();
            let mut parser = StatementParser::new(self.path, &tokens);
            items.push(SelectItem::ExprWithAlias {
                expr: parser.sql(Parser::parse_expr)?,
                alias: ident(key),
            });
        }
        let rows = Rows {
            variables,
            keys,
            clause: Clause::Measures,
        };
        for (tokens, name) in measures {
            items.push(SelectItem::ExprWithAlias {
                expr: self.row_expression(tokens, &rows)?,
                alias: ident(name),
            });
        }
        Ok(items)
    }
}

fn ident(name: &Name) -> Ident {
    Ident::with_span(span_of(name.place), &name.text)
}

fn span_of(place: Place) -> Span {
    let (line, start) = (u64::from(place.line), u64::from(place.column));
    let end = start + u64::from(place.length);
    Span::new(Location::new(line, start), Location::new(line, end))
}

/// The element of this alias.
fn element_called<'n>(node: &'n mut PatternNode, name: &str) -> Option<&'n mut PatternElement> {
    match &mut node.what {
        PatternWhat::Element(element) | PatternWhat::Absent(element, _) => {
            let called = element.alias.as_ref().is_some_and(|one| one.text == name);
            called.then_some(element)
        }
        PatternWhat::Chain(nodes) | PatternWhat::All(nodes) | PatternWhat::Any(nodes) => {
            let mut nodes = nodes.iter_mut();
            nodes.find_map(|node| element_called(node, name))
        }
        PatternWhat::Every(node) => element_called(node, name),
    }
}

/// The pattern, for ever: where a match may begin depends on what the one before leaves.
fn repeated(root: PatternNode, skip: Skip) -> PatternNode {
    let every = |node: PatternNode| PatternNode {
        place: node.place,
        what: PatternWhat::Every(Box::new(node)),
    };
    match (skip, root) {
        (
            Skip::ToNextRow | Skip::PastLastRow,
            PatternNode {
                what: PatternWhat::Chain(nodes),
                place,
            },
        ) => {
            let mut nodes = nodes.into_iter();
            let first = nodes.next().map(every);
            let what = PatternWhat::Chain(first.into_iter().chain(nodes).collect());
            PatternNode { what, place }
        }
        (Skip::ToNextRow | Skip::PastLastRow | Skip::Nothing, root) => every(root),
    }
}
