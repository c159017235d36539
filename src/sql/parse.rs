//! Text → statements. `sqlparser` supplies tokens, expressions and select items; statements and
//! FROM are parsed here, since no dialect of it has streams, windows or patterns.
//!
//! Each statement is parsed by itself, so that a mistake in one does not hide those in the next.

mod create;
mod from;
mod match_recognize;
mod measure;
mod pattern;
mod query;
#[cfg(test)]
mod tests;

use sqlparser::ast::Expr;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Span, Token, TokenWithSpan, Tokenizer, Word};

pub(crate) use create::{BUCKETS, bucket_named};

use super::ast::{Name, Partition, Statement};
use super::dialect::EventFluxDialect;
use crate::diagnostic::{Diagnostic, Place, did_you_mean};

/// The longest SQL text that is read, in bytes.
pub const SQL_TEXT_BYTES_MAX: usize = 64 * 1024;

/// Levels of parentheses and the like.
const NESTING_MAX: usize = 50;

/// Operators in a row: a flat chain becomes a tree as deep as it is long, and walking that must
/// fit on a stack.
const CHAIN_MAX: usize = 256;

/// Levels of subqueries and of groups of a pattern in FROM.
const SUBQUERIES_MAX: usize = 16;

/// What ends the parsing of one statement.
type Parsed<T> = Result<T, Diagnostic>;

/// Parses every statement of `text`; what could not be parsed is among the diagnostics.
pub(crate) fn parse(path: &str, text: &str) -> (Vec<Statement>, Vec<Diagnostic>) {
    let start = Place {
        line: 1,
        column: 1,
        length: 1,
    };
    if text.len() > SQL_TEXT_BYTES_MAX {
        let message = format!("the text is longer than {SQL_TEXT_BYTES_MAX} bytes");
        let hint = "split it: application.sql takes a list of files, or of texts";
        return (
            Vec::new(),
            vec![Diagnostic::error(path, start, message).with_hint(hint)],
        );
    }
    let tokens = match Tokenizer::new(&EventFluxDialect, text).tokenize_with_location() {
        Ok(tokens) => tokens,
        Err(error) => {
            let place = Place {
                line: small(error.location.line),
                column: small(error.location.column),
                length: 1,
            };
            return (
                Vec::new(),
                vec![Diagnostic::error(path, place, lower_first(&error.message))],
            );
        }
    };
    let mut statements = Statements {
        path,
        found: Vec::new(),
        diagnostics: Vec::new(),
        open: None,
    };
    for piece in tokens.split(|token| token.token == Token::SemiColon) {
        statements.piece(piece);
    }
    if let Some(body) = statements.open {
        let message = "this PARTITION … BEGIN has no END";
        let fault = Diagnostic::error(path, body.place, message);
        statements.diagnostics.push(fault);
    }
    (statements.found, statements.diagnostics)
}

/// Statements as they are found between semicolons.
struct Statements<'a> {
    path: &'a str,
    found: Vec<Statement>,
    diagnostics: Vec<Diagnostic>,
    /// The partition that has begun and not ended.
    open: Option<Body>,
}

impl Statements<'_> {
    fn piece(&mut self, piece: &[TokenWithSpan]) {
        let mut piece = piece;
        if let Some(token) = too_long_a_chain(piece) {
            let message = format!("more than {CHAIN_MAX} operators in a row");
            let fault = Diagnostic::error(self.path, place_of(token.span), message);
            let hint = "use IN (…), or several queries";
            self.diagnostics.push(fault.with_hint(hint));
            self.found.extend(lost(piece));
            return;
        }
        if self.open.is_none() && begins_with(piece, "PARTITION") {
            let (head, rest) = Body::open(self.path, piece, &mut self.diagnostics);
            (self.open, piece) = (Some(head), rest);
        }
        let ended = self.open.is_some().then(|| end_of_body(piece)).flatten();
        let (statement, behind) = match ended {
            Some(end) => piece.split_at(end),
            None => (piece, &[][..]),
        };
        if !is_blank(statement) {
            if let Some(body) = &mut self.open {
                body.is_empty = false;
            }
            match StatementParser::new(self.path, statement).statement() {
                Ok(statement) => match &mut self.open {
                    Some(body) => body.take(self.path, statement, &mut self.diagnostics),
                    None => self.found.push(statement),
                },
                Err(diagnostic) => {
                    self.diagnostics.push(diagnostic);
                    self.found.extend(lost(statement));
                }
            }
        }
        if ended.is_some() {
            if let Some(extra) = behind.iter().skip(1).find(|token| !is_space(token)) {
                let fault =
                    Diagnostic::error(self.path, place_of(extra.span), "expected ';' behind END");
                self.diagnostics.push(fault);
            }
            let body = self.open.take();
            self.found.extend(body.and_then(|body| {
                if body.is_empty {
                    let message = "a partition needs a query";
                    let fault = Diagnostic::error(self.path, body.place, message);
                    self.diagnostics.push(fault);
                }
                body.partition.map(Statement::Partition)
            }));
        }
    }
}

/// What a statement that is not understood would have defined, so that whoever reads that is not
/// blamed.
fn lost(statement: &[TokenWithSpan]) -> Option<Statement> {
    let mut words = statement.iter().filter(|token| !is_space(token));
    let verb = words.next()?;
    if !is_word(verb, "CREATE") && !is_word(verb, "INSERT") {
        return None;
    }
    match &words.nth(1)?.token {
        Token::Word(name) => Some(Statement::Lost(name.value.clone())),
        _ => None,
    }
}

/// Parses an expression that stands inside a string, which stands at `place`.
pub(crate) fn expression(path: &str, text: &str, place: Place) -> Parsed<Expr> {
    let within = |line: u64, column: u64| Place {
        line: place.line + small(line).saturating_sub(1),
        column: small(column) + if line <= 1 { place.column } else { 0 },
        length: 1,
    };
    let mut tokens = Tokenizer::new(&EventFluxDialect, text)
        .tokenize_with_location()
        .map_err(|error| {
            let place = within(error.location.line, error.location.column);
            Diagnostic::error(path, place, lower_first(&error.message))
        })?;
    for token in &mut tokens {
        for location in [&mut token.span.start, &mut token.span.end] {
            let place = within(location.line, location.column);
            location.line = u64::from(place.line);
            location.column = u64::from(place.column);
        }
    }
    if let Some(token) = too_long_a_chain(&tokens) {
        let message = format!("more than {CHAIN_MAX} operators in a row");
        return Err(Diagnostic::error(path, place_of(token.span), message));
    }
    let mut parser = StatementParser::new(path, &tokens);
    if is_blank(&tokens) {
        return Err(Diagnostic::error(path, place, "expected a condition"));
    }
    let expr = parser.sql(Parser::parse_expr).map_err(|fault| Diagnostic {
        message: fault
            .message
            .replace("of the statement", "of the condition"),
        ..fault
    })?;
    if parser.peek() != Token::EOF {
        return Err(parser.expected("the end of the condition"));
    }
    Ok(expr)
}

/// The inside of `PARTITION … BEGIN … END`, whose statements are parsed each by itself.
struct Body {
    /// None when its head is faulty.
    partition: Option<Partition>,
    is_empty: bool,
    place: Place,
}

impl Body {
    /// Parses the head; gives the tokens behind BEGIN too.
    fn open<'t>(
        path: &str,
        piece: &'t [TokenWithSpan],
        diagnostics: &mut Vec<Diagnostic>,
    ) -> (Body, &'t [TokenWithSpan]) {
        let begin = piece.iter().position(|token| is_word(token, "BEGIN"));
        let (head, rest) = piece.split_at(begin.map_or(piece.len(), |begin| begin + 1));
        let mut parser = StatementParser::new(path, head);
        let place = parser.here();
        let partition = parser.partition_head();
        let body = Body {
            partition: partition.map_err(|fault| diagnostics.push(fault)).ok(),
            is_empty: true,
            place,
        };
        (body, rest)
    }

    fn take(&mut self, path: &str, statement: Statement, diagnostics: &mut Vec<Diagnostic>) {
        match statement {
            Statement::Query(query) => {
                if let Some(partition) = &mut self.partition {
                    partition.queries.push(*query);
                }
            }
            _ => {
                let message = "a partition holds queries; definitions stand before it";
                diagnostics.push(Diagnostic::error(path, self.place, message));
            }
        }
    }
}

/// Where the END of a partition stands: the one that closes no CASE.
fn end_of_body(tokens: &[TokenWithSpan]) -> Option<usize> {
    let mut cases = 0_usize;
    tokens.iter().position(|token| {
        if is_word(token, "CASE") {
            cases += 1;
        } else if is_word(token, "END") {
            if cases == 0 {
                return true;
            }
            cases -= 1;
        }
        false
    })
}

fn is_word(token: &TokenWithSpan, word: &str) -> bool {
    matches!(&token.token, Token::Word(next) if is_called(next, word))
}

/// Quoted, it is a name and not a word.
fn is_called(next: &Word, word: &str) -> bool {
    next.quote_style.is_none() && next.value.eq_ignore_ascii_case(word)
}

fn is_space(token: &TokenWithSpan) -> bool {
    matches!(token.token, Token::Whitespace(_) | Token::EOF)
}

fn is_blank(tokens: &[TokenWithSpan]) -> bool {
    tokens.iter().all(is_space)
}

fn begins_with(tokens: &[TokenWithSpan], word: &str) -> bool {
    let first = tokens.iter().find(|token| !is_space(token));
    first.is_some_and(|token| is_word(token, word))
}

/// The operator that makes a chain too long to be walked.
///
/// What is counted is at least the depth of the tree: arguments of a call and branches of a CASE
/// begin with what stands before the group, and behind it counts the longest of them.
fn too_long_a_chain(tokens: &[TokenWithSpan]) -> Option<&TokenWithSpan> {
    let mut chain = 0;
    let mut path = 0;
    let mut queries = 0;
    let mut groups: Vec<(usize, usize)> = Vec::new();
    tokens.iter().find(|token| {
        // A query has the one before it inside, whatever stands between.
        queries += usize::from(joins_queries(&token.token));
        // A path is no deeper for being long, and takes longer the longer it is.
        match token.token {
            Token::Period | Token::LBracket => path += 1,
            Token::Word(_) | Token::Whitespace(_) | Token::RBracket => {}
            Token::Number(..) | Token::SingleQuotedString(_) => {}
            _ => path = 0,
        }
        match depth_of(&token.token) {
            Deeper::No => {}
            Deeper::Operator => chain += 1,
            Deeper::Opens => groups.push((chain, chain)),
            Deeper::Next => match groups.last_mut() {
                Some((before, longest)) => {
                    *longest = chain.max(*longest);
                    chain = *before;
                }
                None => chain = 0,
            },
            Deeper::Closes => {
                chain = groups
                    .pop()
                    .map_or(chain, |(_, longest)| longest.max(chain))
            }
        }
        chain.max(path).max(queries) > CHAIN_MAX
    })
}

/// Words behind which an expression or a FROM has the one before them inside.
const WORDS_THAT_JOIN: [Keyword; 21] = [
    Keyword::AND,
    Keyword::OR,
    Keyword::XOR,
    Keyword::NOT,
    Keyword::BETWEEN,
    Keyword::IS,
    Keyword::IN,
    Keyword::LIKE,
    Keyword::ILIKE,
    Keyword::RLIKE,
    Keyword::REGEXP,
    Keyword::SIMILAR,
    Keyword::MATCH,
    Keyword::MEMBER,
    Keyword::OVERLAPS,
    Keyword::OPERATOR,
    Keyword::DIV,
    Keyword::COLLATE,
    Keyword::AT,
    Keyword::NOTNULL,
    Keyword::JOIN,
];

/// Words behind which a query has the one before them inside.
const WORDS_THAT_JOIN_QUERIES: [Keyword; 4] = [
    Keyword::UNION,
    Keyword::EXCEPT,
    Keyword::INTERSECT,
    Keyword::MINUS,
];

fn joins_queries(token: &Token) -> bool {
    matches!(token, Token::Word(word) if WORDS_THAT_JOIN_QUERIES.contains(&word.keyword))
}

/// What a token does to the depth of the tree.
enum Deeper {
    No,
    Operator,
    Opens,
    Next,
    Closes,
}

fn depth_of(token: &Token) -> Deeper {
    match token {
        Token::Whitespace(_) | Token::Period | Token::Number(..) | Token::SingleQuotedString(_) => {
            Deeper::No
        }
        Token::LParen | Token::LBracket | Token::LBrace => Deeper::Opens,
        Token::RParen | Token::RBracket | Token::RBrace => Deeper::Closes,
        Token::Comma => Deeper::Next,
        Token::Word(word) => match word.keyword {
            keyword if WORDS_THAT_JOIN.contains(&keyword) => Deeper::Operator,
            Keyword::CASE => Deeper::Opens,
            Keyword::END => Deeper::Closes,
            Keyword::WHEN | Keyword::THEN | Keyword::ELSE | Keyword::WHERE => Deeper::Next,
            _ => Deeper::No,
        },
        _ => Deeper::Operator,
    }
}

/// The place that a span of `sqlparser` means.
pub(crate) fn place_of(span: Span) -> Place {
    let length = if span.end.line == span.start.line {
        span.end.column.saturating_sub(span.start.column)
    } else {
        1
    };
    Place {
        line: small(span.start.line),
        column: small(span.start.column),
        length: small(length.max(1)),
    }
}

fn small(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_lowercase().chain(chars).collect()
    })
}

struct StatementParser<'a> {
    path: &'a str,
    parser: Parser<'a>,
    /// An alias without AS: perhaps it was meant as the next clause.
    bare_alias: Option<Name>,
    /// Levels of subqueries and groups around.
    depth: usize,
    /// Just behind the last token: where something is missing when the text ends too early.
    end: Place,
}

impl<'a> StatementParser<'a> {
    fn new(path: &'a str, tokens: &[TokenWithSpan]) -> StatementParser<'a> {
        let last = tokens
            .iter()
            .rev()
            .find(|token| !matches!(token.token, Token::Whitespace(_) | Token::EOF));
        let end = last.map_or_else(Place::default, |token| Place {
            line: small(token.span.end.line),
            column: small(token.span.end.column),
            length: 1,
        });
        let parser = Parser::new(&EventFluxDialect)
            .with_recursion_limit(NESTING_MAX)
            .with_tokens_with_locations(tokens.to_vec());
        StatementParser {
            path,
            parser,
            bare_alias: None,
            depth: 0,
            end,
        }
    }

    fn statement(mut self) -> Parsed<Statement> {
        const QUERIES: [&str; 7] = [
            "INSERT", "SELECT", "FROM", "WITH", "UPSERT", "UPDATE", "DELETE",
        ];
        let statement = if self.word("CREATE") {
            self.create()?
        } else if QUERIES.iter().any(|word| self.peek_word(word)) {
            Statement::Query(Box::new(self.query()?))
        } else {
            return Err(self.unknown_statement());
        };
        if self.peek() != Token::EOF {
            return Err(self.unexpected_clause());
        }
        Ok(statement)
    }

    fn unknown_statement(&self) -> Diagnostic {
        if self.peek_word("PARTITION") {
            return self.error_here("a PARTITION inside a PARTITION is not supported");
        }
        if self.peek_word("EXPLAIN") {
            let fault = self.error_here("EXPLAIN is no statement");
            return fault.with_hint("run `eventflux explain`");
        }
        let known = [
            "CREATE",
            "INSERT",
            "SELECT",
            "FROM",
            "WITH",
            "UPSERT",
            "UPDATE",
            "DELETE",
            "PARTITION",
        ];
        let found = self.peek().to_string();
        let message = format!(
            "expected CREATE, INSERT, SELECT, FROM, WITH, UPSERT, UPDATE, DELETE or PARTITION, \
             found '{found}'"
        );
        self.error_here(message)
            .with_hint_if(did_you_mean(&found, known))
    }

    fn unexpected_clause(&self) -> Diagnostic {
        const LATER: [&str; 3] = ["UNION", "INTERSECT", "EXCEPT"];
        if let Some(word) = LATER.iter().find(|word| self.peek_word(word)) {
            return self.error_here(format!("{word} is not supported by this version"));
        }
        let hints = [
            (
                "WITHIN",
                "it stands right behind a pattern, or the condition of a join",
            ),
            (
                "AFTER",
                "it stands right behind the parentheses of a pattern",
            ),
        ];
        if let Some((word, hint)) = hints.iter().find(|(word, _)| self.peek_word(word)) {
            let fault = self.error_here(format!("{word} does not belong here"));
            return fault.with_hint(*hint);
        }
        let clauses = [
            "WINDOW",
            "JOIN",
            "WHERE",
            "PARTITION",
            "GROUP",
            "HAVING",
            "ORDER",
            "LIMIT",
            "OFFSET",
            "OUTPUT",
            "INSERT",
        ];
        let found = self.peek().to_string();
        if let Some(clause) = clauses.iter().find(|clause| self.peek_word(clause)) {
            return self.error_here(format!("{clause} does not belong here"));
        }
        let message = format!("unexpected '{found}'; expected ';' or the next clause");
        let alias = self.bare_alias.as_ref().and_then(|alias| {
            let hint = did_you_mean(&alias.text, clauses)?;
            Some(Diagnostic::error(self.path, alias.place, message.clone()).with_hint(hint))
        });
        alias.unwrap_or_else(|| {
            self.error_here(message)
                .with_hint_if(did_you_mean(&found, clauses))
        })
    }

    /// Parses something that may contain itself, a bounded number of levels deep.
    fn nested<T>(&mut self, what: &str, parse: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth == SUBQUERIES_MAX {
            let message = format!("{what} nested more than {SUBQUERIES_MAX} levels deep");
            return Err(self.error_here(message));
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    fn sql<T>(
        &mut self,
        parse: impl FnOnce(&mut Parser<'a>) -> Result<T, ParserError>,
    ) -> Parsed<T> {
        parse(&mut self.parser).map_err(|error| self.translate(&error))
    }

    /// `sqlparser` reports a place only as the tail of its message, and none at the text's end.
    fn translate(&self, error: &ParserError) -> Diagnostic {
        let text = match error {
            ParserError::TokenizerError(text) | ParserError::ParserError(text) => text,
            ParserError::RecursionLimitExceeded => {
                return self.error_here(format!("nested more than {NESTING_MAX} levels deep"));
            }
        };
        let (message, place) = match text.rsplit_once(" at Line: ") {
            Some((message, tail)) => (message, place_from_tail(tail).unwrap_or(self.end)),
            None => (text.as_str(), self.end),
        };
        let message = message
            .replace("Expected: ", "expected ")
            .replace(", found: EOF", ", found the end of the statement")
            .replace(", found: ", ", found ");
        // The parser's own inside is nobody's business.
        let message = match message.strip_prefix("No infix parser for token ") {
            Some(_) => "this operator is not known",
            None => &message,
        };
        Diagnostic::error(self.path, place, lower_first(message))
    }

    fn name(&mut self, what: &str) -> Parsed<Name> {
        let place = self.here();
        let Token::Word(word) = self.peek() else {
            return Err(self.expected(what));
        };
        self.parser.advance_token();
        Ok(Name {
            text: word.value,
            place,
        })
    }

    fn token(&mut self, token: &Token) -> Parsed<()> {
        if self.parser.consume_token(token) {
            Ok(())
        } else {
            Err(self.expected(&format!("'{token}'")))
        }
    }

    fn expect_word(&mut self, word: &str) -> Parsed<()> {
        if self.word(word) {
            Ok(())
        } else {
            Err(self.expected(word))
        }
    }

    /// Takes the word if it comes next. Quoted, it is a name and not a word.
    fn word(&mut self, word: &str) -> bool {
        let is_next = self.peek_word(word);
        if is_next {
            self.parser.advance_token();
        }
        is_next
    }

    fn peek_word(&self, word: &str) -> bool {
        match &self.parser.peek_token_ref().token {
            Token::Word(next) => is_called(next, word),
            _ => false,
        }
    }

    fn nth_is(&self, index: usize, token: &Token) -> bool {
        self.parser.peek_nth_token_ref(index).token == *token
    }

    fn peek(&self) -> Token {
        self.parser.peek_token_ref().token.clone()
    }

    fn here(&self) -> Place {
        let token = self.parser.peek_token_ref();
        if token.token == Token::EOF {
            self.end
        } else {
            place_of(token.span)
        }
    }

    fn error_here(&self, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(self.path, self.here(), message)
    }

    fn expected(&self, what: &str) -> Diagnostic {
        let found = match self.peek() {
            Token::EOF => "the end of the statement".to_owned(),
            Token::Word(word) if word.keyword != Keyword::NoKeyword => word.value,
            token => format!("'{token}'"),
        };
        self.error_here(format!("expected {what}, found {found}"))
    }
}

fn place_from_tail(tail: &str) -> Option<Place> {
    let (line, column) = tail.split_once(", Column: ")?;
    Some(Place {
        line: line.trim().parse().ok()?,
        column: column.trim().parse().ok()?,
        length: 1,
    })
}
