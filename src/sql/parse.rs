//! Text → statements. `sqlparser` supplies tokens, expressions and select items; statements and
//! FROM are parsed here, since no dialect of it has streams, windows or patterns.
//!
//! Each statement is parsed by itself, so that a mistake in one does not hide those in the next.

use sqlparser::ast::Expr;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Span, Token, TokenWithSpan, Tokenizer};

use super::ast::{
    CreateStream, From, Name, OrderBy, Query, Statement, WindowArgument, WindowCall, WindowValue,
};
use super::dialect::EventFluxDialect;
use super::plan::Emit;
use super::types;
use crate::diagnostic::{Diagnostic, Place, did_you_mean};
use crate::event::{DURATION_UNITS, Type, unit_ms};

/// The longest SQL text that is read, in bytes.
pub const SQL_TEXT_BYTES_MAX: usize = 64 * 1024;

/// Levels of parentheses and the like.
const NESTING_MAX: usize = 50;

/// Operators in a row: a flat chain becomes a tree as deep as it is long, and walking that must
/// fit on a stack.
const CHAIN_MAX: usize = 256;

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
        let hint = "split it into several files";
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
    let mut statements = Vec::new();
    let mut diagnostics = Vec::new();
    for piece in tokens.split(|token| token.token == Token::SemiColon) {
        if piece
            .iter()
            .all(|token| matches!(token.token, Token::Whitespace(_) | Token::EOF))
        {
            continue;
        }
        if let Some(token) = too_long_a_chain(piece) {
            let message = format!("more than {CHAIN_MAX} operators in a row");
            let fault = Diagnostic::error(path, place_of(token.span), message);
            diagnostics.push(fault.with_hint("use IN (…), or several queries"));
            continue;
        }
        match StatementParser::new(path, piece).statement() {
            Ok(statement) => statements.push(statement),
            Err(diagnostic) => diagnostics.push(diagnostic),
        }
    }
    (statements, diagnostics)
}

/// The operator that makes a chain too long to be walked.
fn too_long_a_chain(tokens: &[TokenWithSpan]) -> Option<&TokenWithSpan> {
    let mut chain = 0;
    tokens.iter().find(|token| {
        match &token.token {
            Token::Whitespace(_) | Token::Period | Token::LParen | Token::RParen => {}
            Token::Comma => chain = 0,
            Token::Word(word) => match word.keyword {
                Keyword::AND | Keyword::OR | Keyword::NOT | Keyword::BETWEEN | Keyword::IS => {
                    chain += 1;
                }
                Keyword::WHEN | Keyword::THEN | Keyword::ELSE | Keyword::WHERE => chain = 0,
                _ => {}
            },
            Token::Number(..) | Token::SingleQuotedString(_) => {}
            _ => chain += 1,
        }
        chain > CHAIN_MAX
    })
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
            end,
        }
    }

    fn statement(mut self) -> Parsed<Statement> {
        let statement = if self.word("CREATE") {
            Statement::CreateStream(self.create()?)
        } else if self.peek_word("INSERT") || self.peek_word("SELECT") || self.peek_word("FROM") {
            Statement::Query(Box::new(self.query()?))
        } else {
            return Err(self.refuse_statement());
        };
        if self.peek() != Token::EOF {
            return Err(self.unexpected_clause());
        }
        Ok(statement)
    }

    /// Names what the dialect has and this version does not, so that nothing is ignored.
    fn refuse_statement(&self) -> Diagnostic {
        const LATER: [&str; 6] = ["UPDATE", "UPSERT", "DELETE", "PARTITION", "WITH", "EXPLAIN"];
        match LATER.iter().find(|word| self.peek_word(word)) {
            Some(word) => self.error_here(format!("{word} is not supported by this version")),
            None => {
                let known = ["CREATE", "INSERT", "SELECT", "FROM"];
                let found = self.peek().to_string();
                self.error_here(format!(
                    "expected CREATE, INSERT, SELECT or FROM, found '{found}'"
                ))
                .with_hint_if(did_you_mean(&found, known))
            }
        }
    }

    fn unexpected_clause(&self) -> Diagnostic {
        const LATER: [&str; 12] = [
            "OUTPUT",
            "PARTITION",
            "JOIN",
            "LEFT",
            "RIGHT",
            "FULL",
            "INNER",
            "CROSS",
            "WITHIN",
            "UNION",
            "UNIDIRECTIONAL",
            "AFTER",
        ];
        if let Some(word) = LATER.iter().find(|word| self.peek_word(word)) {
            return self.error_here(format!("{word} is not supported by this version"));
        }
        let clauses = [
            "WINDOW", "WHERE", "GROUP", "HAVING", "ORDER", "LIMIT", "OFFSET", "INSERT",
        ];
        let found = self.peek().to_string();
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

    fn create(&mut self) -> Parsed<CreateStream> {
        if !self.word("STREAM") {
            for later in ["TABLE", "WINDOW", "TRIGGER", "AGGREGATION"] {
                if self.peek_word(later) {
                    let message = format!("CREATE {later} is not supported by this version");
                    return Err(self.error_here(message));
                }
            }
            return Err(self.expected("STREAM"));
        }
        let name = self.name("the stream's name")?;
        self.token(&Token::LParen)?;
        let mut columns = vec![self.column()?];
        while self.parser.consume_token(&Token::Comma) {
            columns.push(self.column()?);
        }
        self.token(&Token::RParen)?;
        let mut properties = Vec::new();
        if self.word("WITH") {
            self.token(&Token::LParen)?;
            properties.push(self.property()?);
            while self.parser.consume_token(&Token::Comma) {
                properties.push(self.property()?);
            }
            self.token(&Token::RParen)?;
        }
        Ok(CreateStream {
            name,
            columns,
            properties,
        })
    }

    fn column(&mut self) -> Parsed<(Name, Type)> {
        let name = self.name("a column's name")?;
        let place = self.here();
        let Token::Word(word) = self.peek() else {
            return Err(self.expected("a type"));
        };
        self.parser.advance_token();
        let Some(ty) = types::type_named(&word.value) else {
            let message = format!("unknown type '{}'", word.value);
            return Err(Diagnostic::error(self.path, place, message).with_hint_if(
                did_you_mean(&word.value, types::TYPE_NAMES.iter().map(|(n, _)| *n))
                    .or_else(|| Some(format!("types are {}", types::type_list()))),
            ));
        };
        Ok((name, ty))
    }

    /// `'key' = 'value'`; the key may also be `"key"` or a plain dotted name.
    fn property(&mut self) -> Parsed<(Name, Name)> {
        let place = self.here();
        let mut key = match self.peek() {
            Token::SingleQuotedString(text) => text,
            Token::Word(word) => word.value,
            _ => return Err(self.expected("a property's name")),
        };
        self.parser.advance_token();
        while self.parser.consume_token(&Token::Period) {
            let part = self.name("the rest of the property's name")?;
            key.push('.');
            key.push_str(&part.text);
        }
        self.token(&Token::Eq)?;
        let value_place = self.here();
        let Token::SingleQuotedString(value) = self.peek() else {
            return Err(self.expected("the property's value as a string in single quotes"));
        };
        self.parser.advance_token();
        Ok((
            Name { text: key, place },
            Name {
                text: value,
                place: value_place,
            },
        ))
    }

    fn query(&mut self) -> Parsed<Query> {
        let place = self.here();
        let mut into = None;
        if self.peek_word("INSERT") {
            into = Some(self.insert_into()?);
        }
        let mut from = None;
        if into.is_none() && self.word("FROM") {
            from = Some(self.from()?);
        }
        self.expect_word("SELECT")?;
        if self.peek_word("DISTINCT") {
            return Err(self.error_here("DISTINCT is not supported by this version"));
        }
        let select = self.sql(|parser| parser.parse_comma_separated(Parser::parse_select_item))?;
        let from = match from {
            Some(from) => from,
            None => {
                self.expect_word("FROM")?;
                self.from()?
            }
        };
        let mut query = Query {
            emit: Emit::Current,
            target: Name {
                text: String::new(),
                place,
            },
            select,
            from,
            filter: None,
            group_by: Vec::new(),
            having: None,
            order_by: Vec::new(),
            limit: None,
            offset: None,
            place,
        };
        self.clauses(&mut query)?;
        let (emit, target) = match into {
            Some(into) => into,
            None if self.peek_word("INSERT") => self.insert_into()?,
            None => return Err(self.expected("INSERT INTO and the stream that gets the rows")),
        };
        query.emit = emit;
        query.target = target;
        Ok(query)
    }

    fn clauses(&mut self, query: &mut Query) -> Parsed<()> {
        if self.word("WHERE") {
            query.filter = Some(self.sql(Parser::parse_expr)?);
        }
        if self.word("GROUP") {
            self.expect_word("BY")?;
            query.group_by = self.sql(|parser| parser.parse_comma_separated(Parser::parse_expr))?;
        }
        if self.word("HAVING") {
            query.having = Some(self.sql(Parser::parse_expr)?);
        }
        if self.word("ORDER") {
            self.expect_word("BY")?;
            query.order_by.push(self.order_by()?);
            while self.parser.consume_token(&Token::Comma) {
                query.order_by.push(self.order_by()?);
            }
        }
        if self.word("LIMIT") {
            query.limit = Some(self.sql(Parser::parse_literal_uint)?);
        }
        if self.word("OFFSET") {
            query.offset = Some(self.sql(Parser::parse_literal_uint)?);
        }
        Ok(())
    }

    fn order_by(&mut self) -> Parsed<OrderBy> {
        let expr = self.sql(Parser::parse_expr)?;
        let descending = self.word("DESC");
        if !descending {
            let _ascending_is_the_default = self.word("ASC");
        }
        let mut nulls_first = None;
        if self.word("NULLS") {
            nulls_first = Some(self.word("FIRST"));
            if nulls_first == Some(false) {
                self.expect_word("LAST")?;
            }
        }
        Ok(OrderBy {
            expr,
            descending,
            nulls_first,
        })
    }

    fn insert_into(&mut self) -> Parsed<(Emit, Name)> {
        self.expect_word("INSERT")?;
        let kinds = [
            ("ALL", Emit::All),
            ("CURRENT", Emit::Current),
            ("EXPIRED", Emit::Expired),
        ];
        let mut emit = Emit::Current;
        for (word, kind) in kinds {
            if self.word(word) {
                self.expect_word("EVENTS")?;
                emit = kind;
                break;
            }
        }
        self.expect_word("INTO")?;
        Ok((emit, self.name("the stream that gets the rows")?))
    }

    fn from(&mut self) -> Parsed<From> {
        for later in ["PATTERN", "SEQUENCE"] {
            if self.peek_word(later) && self.nth_is(1, &Token::LParen) {
                return Err(self.error_here(format!("{later} is not supported by this version")));
            }
        }
        if self.peek() == Token::LParen {
            return Err(self.error_here("a subquery in FROM is not supported by this version"));
        }
        let stream = self.name("a stream's name")?;
        let mut from = From {
            stream,
            alias: None,
            window: None,
        };
        from.alias = self.alias()?;
        if self.peek_word("WINDOW") {
            self.parser.advance_token();
            from.window = Some(self.window()?);
            let behind = self.alias()?;
            from.alias = from.alias.or(behind);
        }
        if self.peek() == Token::Comma {
            return Err(self.error_here("several streams in FROM are not supported; use JOIN"));
        }
        Ok(from)
    }

    fn alias(&mut self) -> Parsed<Option<Name>> {
        if self.word("AS") {
            return self.name("an alias").map(Some);
        }
        const CLAUSES: [&str; 21] = [
            "WINDOW",
            "WHERE",
            "GROUP",
            "HAVING",
            "ORDER",
            "LIMIT",
            "OFFSET",
            "INSERT",
            "SELECT",
            "OUTPUT",
            "PARTITION",
            "JOIN",
            "LEFT",
            "RIGHT",
            "FULL",
            "INNER",
            "CROSS",
            "UNION",
            "UNIDIRECTIONAL",
            "WITHIN",
            "ON",
        ];
        let Token::Word(word) = self.peek() else {
            return Ok(None);
        };
        let is_clause = word.quote_style.is_none()
            && CLAUSES
                .iter()
                .any(|clause| word.value.eq_ignore_ascii_case(clause));
        if is_clause {
            return Ok(None);
        }
        let alias = self.name("an alias")?;
        self.bare_alias = Some(alias.clone());
        Ok(Some(alias))
    }

    /// Behind the word WINDOW: `('kind', arguments)`, or `TUMBLING(5 SECONDS)` and the like.
    fn window(&mut self) -> Parsed<WindowCall> {
        if let Token::Word(word) = self.peek() {
            let kind = Name {
                text: word.value.to_lowercase(),
                place: self.here(),
            };
            self.parser.advance_token();
            self.token(&Token::LParen)?;
            let mut arguments = vec![self.window_argument()?];
            while self.parser.consume_token(&Token::Comma) {
                arguments.push(self.window_argument()?);
            }
            self.token(&Token::RParen)?;
            return Ok(WindowCall { kind, arguments });
        }
        self.token(&Token::LParen)?;
        let place = self.here();
        let Token::SingleQuotedString(text) = self.peek() else {
            return Err(self.expected("the window's kind in single quotes"));
        };
        self.parser.advance_token();
        let mut arguments = Vec::new();
        while self.parser.consume_token(&Token::Comma) {
            arguments.push(self.window_argument()?);
        }
        self.token(&Token::RParen)?;
        Ok(WindowCall {
            kind: Name { text, place },
            arguments,
        })
    }

    fn window_argument(&mut self) -> Parsed<WindowArgument> {
        let place = self.here();
        let Token::Number(digits, _) = self.peek() else {
            let expr: Expr = self.sql(Parser::parse_expr)?;
            return Ok(WindowArgument {
                value: WindowValue::Other(expr.to_string()),
                place,
            });
        };
        let mut total_ms: i64 = 0;
        let mut parts = 0;
        while let Token::Number(digits, _) = self.peek() {
            let Ok(number) = digits.parse::<i64>() else {
                break;
            };
            let Token::Word(unit) = self.parser.peek_nth_token(1).token else {
                break;
            };
            let Some(length_ms) = unit_ms(&unit.value) else {
                self.parser.advance_token();
                let message = format!("unknown unit of time '{}'", unit.value);
                let units: Vec<String> = DURATION_UNITS
                    .iter()
                    .map(|(name, _)| name.to_uppercase())
                    .collect();
                let hint = did_you_mean(&unit.value, units.iter().map(String::as_str));
                return Err(self.error_here(message).with_hint_if(hint));
            };
            self.parser.advance_token();
            self.parser.advance_token();
            total_ms = total_ms.saturating_add(number.saturating_mul(length_ms));
            parts += 1;
        }
        if parts > 0 {
            return Ok(WindowArgument {
                value: WindowValue::Span(total_ms),
                place,
            });
        }
        self.parser.advance_token();
        match digits.parse() {
            Ok(number) => Ok(WindowArgument {
                value: WindowValue::Number(number),
                place,
            }),
            Err(_) => Ok(WindowArgument {
                value: WindowValue::Other(digits),
                place,
            }),
        }
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
        Diagnostic::error(self.path, place, lower_first(&message))
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
            Token::Word(next) => {
                next.quote_style.is_none() && next.value.eq_ignore_ascii_case(word)
            }
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
